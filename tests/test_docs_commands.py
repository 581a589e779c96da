"""The commands in the documents: each one is known, and each one that can run here is run.

The stage is what docs/first-ten-minutes.md builds: two emulated engines and a gateway, with the
file of that page, on ports that are free here.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import pytest

import cuvee
from gateway.config.load import load

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"configuration.md", "metrics.md", "cli.md"}
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in GENERATED),
]
FIRST = ROOT / "docs" / "first-ten-minutes.md"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PROGRAMS = {"cuvee", "curl", "make", "pip", "python", "python3", "git", "helm", "kubectl"}
ENGINES = (8001, 8002)
GATEWAY, ADMIN = 8000, 8790

# What is not run here, and why. The first that matches counts.
LEFT_OUT = {
    r"^make |^pip |^git ": "CI does it, or tests/test_install.py",
    r"^helm |^kubectl ": "needs a cluster",
    r"^python3? (-m venv /opt|tests/deploy)": "installs on the machine, or takes minutes",
    r"^cuvee (serve|emulate)\b": "the stage has it running",
    r"^cuvee init\b": "the stage has the file already; tests/cuvee/test_init.py",
    r"^cuvee (overhead|sweep|soak)\b": "a benchmark of minutes; tests/cuvee runs a short one",
    r"^cuvee torture\b": "minutes; tests/loadtest/torture runs short ones",
    r"^cuvee keys\b": "one after another, on a keys file; tests/cuvee/test_keys.py",
    r"^cuvee demo": "minutes; tests/cuvee/test_demo.py",
    r"^cuvee profile measure\b": "seven minutes; tests/cuvee/test_profile_measure.py",
    r"^cuvee profile import run-\*": "needs results of another tool; tests/cuvee/test_profile.py",
    r"^cuvee trace import spend_logs": "needs a log of LiteLLM; tests/cuvee/test_trace.py",
    r"^cuvee certify .*(daily|coder=|own)": "minutes, or files of a reader's own",
    r"^cuvee (dispatch|compare|portfolio|foresight|affinity|scaling)\b": "a study of minutes",
    r"169\.254|cuvee-admin|/cuvee/drain": "needs a fleet to lose",
    r"\| jq": "needs jq",
    r"/cuvee/events": "it has no end; tests/test_page.py",
    r"^cuvee (explain|plan --apply) [\w.]+": "of a reader's own; tests/test_explain.py and others",
    r"^cuvee advise\b": "needs engines, or half a minute; tests/cuvee/test_advise.py",
    r"^cuvee replay .*azure-2023-turn": "two minutes of a benchmark",
}


def commands(page: Path) -> Iterator[str]:
    """The commands of a page, without comments, one line each."""
    for _, language, block in FENCE.findall(page.read_text()):
        if language in ("", "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                bare = line.strip().removeprefix("$ ")
                if bare.split(" ", 1)[0] in PROGRAMS:
                    yield " ".join(re.sub(r"\s#\s.*", "", bare).removesuffix("&").split())


def reason(command: str) -> str | None:
    """Why a command is not run; `None` if it is."""
    return next((why for pattern, why in LEFT_OUT.items() if re.search(pattern, command)), None)


EVERY = [(page.name, command) for page in PAGES for command in dict.fromkeys(commands(page))]
RUN = list(dict.fromkeys(command for _, command in EVERY if reason(command) is None))


@pytest.mark.parametrize(("page", "command"), [c for c in EVERY if c[1].startswith("cuvee ")])
def test_a_command_in_the_documents_is_known(page: str, command: str):
    """Its name, its options and the number of its arguments are those of the command line."""
    words = shlex.split(command.split("|")[0].replace("…", ""))[1:]
    found: click.Command = cuvee.main
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        inner = found.get_command(click.Context(found), words.pop(0))
        assert inner is not None, f"{page}: {command}"
        found = inner
    found.make_parser(click.Context(found)).parse_args(args=words)


def test_most_commands_of_the_documents_are_run():
    """What is left out has a reason, and each reason is still of a command."""
    assert len(RUN) >= 12
    for pattern in LEFT_OUT:
        if not re.match(r"\^(make|helm|cuvee demo|cuvee \(overhead|cuvee \(dispatch)", pattern):
            assert any(re.search(pattern, command) for _, command in EVERY), pattern


@pytest.mark.parametrize("page", [FIRST, ROOT / "docs" / "migration.md"], ids=lambda p: p.name)
def test_a_configuration_in_the_documents_is_valid(page: Path, tmp_path: Path, monkeypatch):
    """Each whole configuration of a page can be read."""
    monkeypatch.setenv("ENGINE_KEY", "secret")
    blocks = [b for _, language, b in FENCE.findall(page.read_text()) if language == "yaml"]
    whole = [block for block in blocks if block.startswith("models:")]

    assert whole
    for block in whole:
        (tmp_path / "cuvee.yaml").write_text(block)
        assert load(tmp_path / "cuvee.yaml").pools


class Stage:
    """A folder with the files that the commands name, and processes on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip((GATEWAY, ADMIN, *ENGINES), _free_ports(4), strict=True))
        self._env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        (folder / "configs").symlink_to(ROOT / "configs")
        block = next(b for _, language, b in FENCE.findall(FIRST.read_text()) if language == "yaml")
        (folder / "cuvee.yaml").write_text(
            self.here(block)
            + f"gateway:\n  port: {self._ports[GATEWAY]}\n  admin_port: {self._ports[ADMIN]}\n"
            + "  journal: {path: journal.jsonl}\n"
        )
        rows = (ROOT / "configs/workloads/chat.csv").read_text().splitlines()[:60]
        (folder / "traffic.csv").write_text("\n".join(rows) + "\n")

    def here(self, text: str) -> str:
        """Text with the ports of this stage."""
        for port, own in self._ports.items():
            text = re.sub(rf"\b{port}\b", str(own), text)
        return text

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command of a page in the folder; in an empty one if it is of no fleet."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        return subprocess.run(
            self.here(command),
            shell=True,
            cwd=empty if "cuvee plan --model" in command else self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @contextmanager
    def playing(self) -> Iterator["Stage"]:
        """With the processes that docs/first-ten-minutes.md starts."""
        with ExitStack() as stack:
            for command in commands(FIRST):
                if command.startswith(("cuvee emulate", "cuvee serve")):
                    child = subprocess.Popen(
                        shlex.split(self.here(command)),
                        cwd=self.folder,
                        env=self._env,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                    stack.callback(child.wait)
                    stack.callback(child.terminate)
                    served = GATEWAY if "serve" in command.split() else int(command.split()[-1])
                    self._await(f"http://127.0.0.1:{self._ports[served]}/health")
            yield self

    def _await(self, url: str) -> None:
        give_up_s = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > give_up_s:
                    raise
                time.sleep(0.05)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage")).playing() as playing:
        yield playing


@pytest.mark.long
@pytest.mark.parametrize("command", RUN, ids=[command[:80] for command in RUN])
def test_a_command_in_the_documents_works(command: str, stage: Stage):
    """It ends with 0, with 2 where it says that something would change, or with 1 where the doctor
    has warnings, as of a data path that is not compiled."""
    done = stage.run(command)

    fine = (0, 2) if "--diff" in command else (0, 1) if command == "cuvee doctor" else (0,)
    assert done.returncode in fine, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if command.startswith("curl"):
        assert '"error"' not in done.stdout


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]

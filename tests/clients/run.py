"""Runs the tests of every client in an environment of its own, and prints what came of them.

    python tests/clients/run.py [--write] [CLIENT ...]

An environment is made in `build/clients/CLIENT` at first use, and again when its requirements
change. `--write` puts the table into `docs/clients.md`. Imports only the standard library.
"""

import argparse
import datetime
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request
import venv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "clients"
PAGE = ROOT / "docs" / "clients.md"
MARKS = ("<!-- made by `make test-clients ARGS=--write` -->\n", "<!-- end -->")
# A torch without CUDA, where GuideLLM and vLLM want one that they do not use: 4 GiB less.
TORCH = "https://download.pytorch.org/whl/cpu"
TORCH_S = 5.0  # to answer; without it there is only the package index's own torch
# Packages whose versions the table shows.
CLIENTS = {
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "langchain": ("langchain-openai", "langchain-anthropic"),
    "llamaindex": ("llama-index-llms-openai-like", "llama-index-embeddings-openai-like"),
    "litellm": ("litellm",),
    "browser": (),
    "vllm": ("vllm",),
    "guidellm": ("guidellm",),
    "aiperf": ("aiperf",),
}
ENDS = ("passed", "skipped", "failed")  # the worst last


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one client. tried: names of its tests as words, with how each ended. size_mib:
    of its environment."""

    client: str
    versions: str
    tried: dict[str, str]
    seconds: float
    size_mib: float

    @property
    def passed(self) -> bool:
        return bool(self.tried) and set(self.tried.values()) <= {"passed", "skipped"}

    def cells(self) -> str:
        tried = "; ".join(
            name if end == "passed" else f"{name} (**{end}**)" for name, end in self.tried.items()
        )
        ends = list(self.tried.values())
        result = ", ".join(f"{ends.count(end)} {end}" for end in ENDS if end in ends)
        size = f"{self.size_mib:,.0f} MiB, {self.seconds:.0f} s"
        return f"| {self.versions} | {tried} | {result} | {size} |"


def environment(client: str) -> Path:
    """The Python of a client's environment, made if need be."""
    wanted = sorted((HERE / "requirements").glob(f"{client}*.txt"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in wanted)).hexdigest()
    folder = BUILD / client
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"{client}: making {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for path in wanted:
        options = ["--no-deps"] if path.stem.endswith("-alone") else []
        if "\ntorch" in path.read_text() and answers(f"{TORCH}/torch/"):
            options += ["--extra-index-url", TORCH]
        subprocess.run([*install, *options, "-r", str(path)], check=True)
    stamp.write_text(digest)
    return python


def answers(url: str) -> bool:
    """Whether there is something at a URL, within seconds."""
    try:
        with urllib.request.urlopen(url, timeout=TORCH_S):
            return True
    except OSError:
        return False


def run(client: str) -> Row:
    """Run a client's tests, in its environment."""
    python, report = environment(client), BUILD / f"{client}.xml"
    report.unlink(missing_ok=True)
    subprocess.run(
        [str(python), "-m", "pytest", str(HERE / f"test_{client}.py"), f"--junitxml={report}"],
        cwd=ROOT,
        env={**os.environ, "CUVEE_PYTHON": sys.executable},
    )
    return row(client, python, report)


def row(client: str, python: Path, report: Path) -> Row:
    """What a report of pytest says."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    tried: dict[str, str] = {}
    varied: dict[str, list[str]] = {}
    for case in suite.findall("testcase"):
        name, _, parameter = case.get("name", "").rstrip("]").partition("[")
        varied.setdefault(name, []).append(parameter)
        tried[name] = max(tried.get(name, "passed"), ended(case), key=ENDS.index)
    return Row(
        client=client,
        versions=versions(client, python),
        tried={words(name, varied[name]): end for name, end in tried.items()},
        seconds=float(suite.get("time", 0.0)),
        size_mib=size_mib(BUILD / client),
    )


def words(name: str, parameters: list[str]) -> str:
    """The name of a test as words, with the parameters that it ran with."""
    found = name.removeprefix("test_").replace("_", " ")
    return f"{found} ({', '.join(parameters)})" if all(parameters) else found


def ended(case: ElementTree.Element) -> str:
    """How a test ended."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def versions(client: str, python: Path) -> str:
    """The client's packages with their versions; of the browser, what it says of itself."""
    if client == "browser":
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        said = chromium and subprocess.check_output([chromium, "--version"], text=True)
        return " ".join(said.split()[:2]) if said else "Chromium"
    names = CLIENTS[client]
    code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    found = subprocess.check_output([str(python), "-c", code, *names], text=True).split()
    return "<br>".join(f"`{name}` {version}" for name, version in zip(names, found, strict=True))


def size_mib(folder: Path) -> float:
    """What the files of a folder take."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 2**20


def table(rows: list[Row]) -> str:
    """The table of the page."""
    lines = [
        f"On {datetime.date.today():%d %B %Y}, with Python {sys.version.split()[0]}:".replace(
            "On 0", "On "
        ),
        "",
        "| client | tried | result | its environment, its tests |",
        "|---|---|---|---|",
        *(row.cells() for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    parser.add_argument("clients", nargs="*", help=f"some of {', '.join(CLIENTS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.clients) - set(CLIENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if given.write and given.clients:
        parser.error("--write needs all clients")
    rows = [run(client) for client in given.clients or CLIENTS]
    found = table(rows)
    print(found)
    if given.write:
        before, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(before + MARKS[0] + found + MARKS[1] + rest.split(MARKS[1])[1])
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

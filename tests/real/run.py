"""Makes the environments of real engines, runs the tests of them, and prints what came of it.

    python tests/real/run.py [--write] [ARGUMENT OF PYTEST ...]

The environments are made in `build/real` at first use, and again when their requirements change.
`--write` puts the table into `docs/real-engines.md`.
"""

import argparse
import datetime
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the other modules are `tests.real.…`

from tests.real import environments  # noqa: E402 (behind the path)

PAGE = ROOT / "docs" / "real-engines.md"
MARKS = ("<!-- made by `make test-real ARGS=--write` -->\n", "<!-- end -->")
REPORT = environments.BUILD / "report.xml"
LIMIT_S = 600.0
ENGINES: dict[str, Callable[[], Path]] = {
    "vLLM": environments.tiny_model,
    "llama.cpp": environments.tiny_gguf,
}


def install() -> None:
    """Make what can be made, and say what cannot: its tests are skipped."""
    for name, made in ENGINES.items():
        try:
            made()
        except environments.NotInstalled as error:
            print(f"{name} is left out: {error}", flush=True)


def run(arguments: list[str]) -> int:
    """The tests, with a limit of time; returns pytest's exit status."""
    command = [
        sys.executable, "-m", "pytest", "-c", "tests/real/pytest.ini", "tests/real",
        f"--junitxml={REPORT}", *arguments,
    ]  # fmt: skip
    started = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        return started.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        started.send_signal(signal.SIGINT)  # it ends its engines
        return started.wait()


def table(seconds: float) -> str:
    """What the report of pytest says."""
    suite = ElementTree.parse(REPORT).getroot().find("testsuite")
    assert suite is not None
    lines = [
        f"On {datetime.date.today():%d %B %Y}, with Python {sys.version.split()[0]}, "
        f"in {seconds:.0f} s:".replace("On 0", "On "),
        "",
        "| tried | result | figure |",
        "|---|---|---|",
    ]
    for case in suite.findall("testcase"):
        where = case.get("classname", "").rpartition("test_")[2].replace("_", " ")
        name = re.sub(r"\[.*\]", "", case.get("name", "").removeprefix("test_").replace("_", " "))
        figures = [found.get("value", "") for found in case.iter("property")]
        skipped = case.find("skipped")
        if skipped is not None:
            figures.append(skipped.get("message", ""))
        line = f"| {where}: {name} | {ended(case)} | {'; '.join(figures)} |"
        if line not in lines:  # one test with several parameters
            lines.append(line)
    return "\n".join(lines) + "\n"


def ended(case: ElementTree.Element) -> str:
    """How a test ended."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "**failed**"
    return "passed" if case.find("skipped") is None else "skipped"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given, arguments = parser.parse_known_args()
    environments.BUILD.mkdir(parents=True, exist_ok=True)
    install()
    REPORT.unlink(missing_ok=True)
    started_s = time.monotonic()
    status = run(arguments)
    if not REPORT.exists():
        return status
    found = table(time.monotonic() - started_s)
    print(found)
    if given.write:
        before, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(before + MARKS[0] + found + MARKS[1] + rest.split(MARKS[1])[1])
    return status


if __name__ == "__main__":
    sys.exit(main())

"""How far work is, and how much time is left: on a terminal, in a pipe, and after Ctrl-C."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import cuvee
from cuvee import progress
from cuvee.progress import ERASE, Work, lasting

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEMO = ["--config", str(CONFIGS / "demo.yaml")]
CHAT = ["--trace", str(CONFIGS / "workloads" / "chat.csv")]
ENOUGH_S = 60.0  # until the first line, on a busy machine


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_steps_tell_the_time_left(clock):
    """The rest takes as long as what is done; the step that is done now counts as half."""
    work = Work("planning", of=4, clock_s=clock)
    first = work.line()
    work.step("a")
    clock.now_s = 15.0
    second = work.line()
    work.step("b")

    assert first == "planning (0 s so far)"
    assert second == "step 1 of 4: a (15 s so far)"
    assert work.line() == "step 2 of 4: b (15 s so far, about 25 s left)"


def test_a_share_tells_the_time_left(clock):
    """In any unit."""
    work = Work("sending", clock_s=clock)
    clock.now_s = 100.0
    work.reach(50, 200)
    work.say("50 of 200 requests")

    assert work.line() == "50 of 200 requests (100 s so far, about 5 min left)"


def test_the_work_may_know_it_itself(clock):
    """Then that counts, and is never below nothing."""
    work = Work("measuring", clock_s=clock)
    work.ends_in(30.0)
    clock.now_s = 10.0
    before = work.line()
    clock.now_s = 50.0

    assert before == "measuring (10 s so far, about 20 s left)"
    assert work.line().endswith("about 0 s left)")


def test_the_number_of_steps_may_be_known_late(clock):
    """What came before is none of them."""
    work = Work("starting", clock_s=clock)
    work.step("starting")
    clock.now_s = 40.0
    work.step("first", of=2)
    clock.now_s = 70.0
    work.step("second", of=2)

    assert work.line() == "step 2 of 2: second (70 s so far, about 10 s left)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (90, "90 s"), (140, "2 min"), (3600, "1 h 0 min")]
)
def test_times_for_people(seconds, text):
    """Coarse: nobody needs the second of an hour."""
    assert lasting(seconds) == text


class Told(io.StringIO):
    """A stream that says when it was written to."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal, self.written = terminal, threading.Event()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_comes_by_itself(terminal, monkeypatch):
    """On a terminal it takes the place of the last one and is gone at the end; elsewhere it stays.
    The work need not tell anything for it."""
    monkeypatch.setattr(progress, "LINE_S", 0.01)
    monkeypatch.setattr(progress, "RENEWED_S", 0.01)
    stream = Told(terminal)
    with Work("planning", stream=stream):
        assert stream.written.wait(20)
    text = stream.getvalue()

    assert "planning (0 s so far)" in text
    assert text.endswith(ERASE if terminal else "\n")
    assert (ERASE in text) == terminal


def test_results_are_printed_between_its_lines(capsys):
    """On standard output, which has nothing else."""
    stream = Told(True)
    with Work("playing", stream=stream) as work:
        work.echo("world 1: ok")

    assert capsys.readouterr().out == "world 1: ok\n"
    assert "world" not in stream.getvalue()


def test_nobody_who_reads_it_ends_nothing():
    """`2>&1 | head` closes the pipe: the work goes on."""
    stream = Told(False)
    with Work("playing", stream=stream) as work:
        stream.close()
        work._write("gone")
        work.say("on")

    assert work.line().startswith("on")


def group(pid: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, own = (entry / "stat").read_text().rpartition(") ")[2].split()[:3]
            except OSError:  # it has ended meanwhile
                continue
            if int(own) == pid and state != "Z":
                found.append(int(entry.name))
    return found


LONG = {
    "affinity": ["--made", "conversations", "--rate", "40", "--fleet", "h100=8", *DEMO],
    "bench-solve": ["--runs", "50"],
    "certify": [*DEMO, *CHAT, "--rate", "60"],
    "compare": [*DEMO, *CHAT, "--rate", "60"],
    "demo": [],
    "demo-scale": [],
    "dispatch": [*DEMO, *CHAT, "--rate", "40"],
    "overhead": ["--peer", "none", "--rounds", "20"],
    "overload": [],
    "plan": [
        "--model", "qwen3-8b", "--ttft", "2", "--tpot", "0.06", "--rate", "20", "--workload",
        "chat",
    ],
    "profile": [
        "measure", "--emulated", "llama-3-8b/H100", "--out", "profile.yaml", "--ttft", "2",
    ],
    "scaling": [],
    "soak": ["--requests", "1000000"],
    "sweep": [*DEMO, *CHAT, "--rates", "10,20,40", "--simulate"],
    "torture": ["--hours", "40", "--jobs", "2"],
}  # fmt: skip
QUICK = ("torture",)  # has children, and is tried each time


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.long) for n in LONG]
)
def test_ctrl_c_ends_a_command_and_what_it_started(name, tmp_path):
    """As a terminal sends it: to the whole group. Exit code 130, no traceback, and no process is
    left."""
    _broken_off([name, *LONG[name]], tmp_path)


@pytest.mark.long
def test_ctrl_c_ends_a_replay(beside, tmp_path):
    """The server that it sends to is another's, and stays."""
    words = ["replay", "--url", beside.engine("m"), "--trace", CHAT[1], "--model", "m"]
    _broken_off(words, tmp_path)


def _broken_off(words, folder):
    """Start a command, break it off when it shows that it works, and see what is left of it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cuvee", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True,
        # A shell that starts the tests in the background has them, and what they start, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while b"so far" not in seen and b" left]" not in seen:
            seen += os.read(ours, 4096)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(ENOUGH_S)
        while piece := _read(ours):
            seen += piece
        until_s = time.monotonic() + ENOUGH_S
        while (left := group(process.pid)) and time.monotonic() < until_s:
            time.sleep(0.05)  # what serves others ends when it sees that they have
    finally:
        for pid in group(process.pid):
            os.kill(pid, signal.SIGKILL)
        os.close(ours)

    assert code == 130, seen.decode()
    assert b"Traceback" not in seen, seen.decode()
    assert b"Aborted!" in seen
    assert left == []


def _read(descriptor: int) -> bytes:
    """What still comes; nothing once the other end is closed."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_every_command_that_can_run_long_is_tried():
    """Those that are quick, or that run until they are told to end, are named here."""
    until_told = {"serve", "emulate", "top", "advise"}
    quick = {
        "check", "completion", "doctor", "explain", "foresight", "history", "init",
        "keys", "portfolio", "schema", "status", "trace",
    }  # fmt: skip
    of_a_server = {"replay"}

    assert set(cuvee.COMMANDS) == set(LONG) | until_told | quick | of_a_server


def test_a_question_that_is_broken_off(monkeypatch):
    """Ctrl-C at a prompt is the same."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cuvee.schema.text", interrupted)
    before = signal.getsignal(signal.SIGINT)
    try:
        result = CliRunner().invoke(cuvee.main, ["schema"])
    finally:
        signal.signal(signal.SIGINT, before)

    assert result.exit_code == 130
    assert result.stderr == "Aborted!\n"

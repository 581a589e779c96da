"""The sampling profiler: whose function a sample is charged to."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from gateway.routing import shared_load
from loadtest.overhead import sampler, stacks
from loadtest.overhead.sampler import LOOP, Sampler


def frame_of(path: str, source: str, call: str) -> FrameType:
    """The frame that `grab` sees when `call` runs in a file at `path`."""
    frames: list[FrameType] = []

    def grab() -> None:
        frames.append(sys._getframe(1))

    names: dict[str, Callable[[], None]] = {"grab": grab}
    exec(compile(source, path, "exec"), names)
    names[call]()
    return frames[0]


def test_a_stack_names_our_functions_only():
    """From the outermost inwards; the standard library's frames between them are left out."""
    path = str(sampler.ROOT / "gateway" / "proxy" / "x.py")

    frame = frame_of(path, "def inner():\n  x = 1\n  grab()\ndef outer():\n  inner()\n", "outer")

    assert sampler.collapse(frame) == "gateway/proxy/x:outer;gateway/proxy/x:inner"


def test_what_is_not_ours_is_the_loop():
    """Nothing of ours on the stack: the event loop was at work."""
    assert (
        sampler.collapse(frame_of("/elsewhere/y.py", "def f():\n  x = 1\n  grab()\n", "f")) == LOOP
    )


def test_our_code_is_known_by_its_place():
    """The gateway's and the planner's packages, not the profiler nor the standard library."""
    assert (
        sampler.label(shared_load.SharedLoad.clear.__code__)
        == "gateway/routing/shared_load:SharedLoad.clear"
    )
    assert sampler.label(sampler.main.__code__) == ""
    assert sampler.label(Path.exists.__code__) == ""


def test_signals_are_looked_for_where_a_function_begins():
    """A sample there belongs to the caller: nothing of the function has run."""

    def function() -> int:
        return 1

    assert 0 <= sampler.entry_offset(function.__code__) <= 4


@pytest.mark.filterwarnings("ignore")
def test_samples_are_taken_between_begin_and_end(tmp_path: Path):
    """CPU time that passes in between is written down, and none after it."""
    samples = Sampler(tmp_path / "stacks")
    before = signal.signal(signal.SIGPROF, samples.sample)
    try:
        samples.turn()
        until_s = time.process_time() + 0.1
        while time.process_time() < until_s:
            pass
        samples.turn()
    finally:
        signal.signal(signal.SIGPROF, before)

    assert stacks.read_stacks(tmp_path / "stacks").total() > 0
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)

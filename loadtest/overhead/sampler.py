"""Runs the gateway with a sampling profiler inside.

`python -m loadtest.overhead.sampler FILE serve …`
SIGUSR1 begins; the next one ends, and FILE is written: collapsed stacks (`a;b;c count`), as flame
graph tools read them. (SIGUSR2 has another gateway take over.) The kernel sends SIGPROF for every
tick of CPU time that the process uses, 250 a second as a rule, and Python's handler notes the stack
that it finds: about 1 % more CPU, and no function costs more because it is small, as it would under
a tracing profiler.

Where samples fall: a signal is seen at the next bytecode, so time inside a C function is charged to
the line that called it, rightly. Time inside the event loop's own C code (polling, reading, the
writes that it does for all connections after the callbacks) would fall on the callback that runs
next; such a sample stands at that callback's very first instruction, and is charged to LOOP
instead. Time of the garbage collector falls on the function that allocated.
"""

import dis
import runpy
import signal
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

LOOP = "(event loop):poll, read, write"
INTERVAL_S = 0.001  # the kernel's tick, 4 ms as a rule, rounds it up
LOOP_CALLER = "run"  # asyncio.Runner.run calls the loop, which has no Python frame of its own
PACKAGES = ("gateway", "planner")
ROOT = Path(__file__).resolve().parents[2]


class Sampler:
    """Counts stacks between two calls of `turn`; its public methods are signal handlers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[str] = Counter()
        self._counting = False

    def turn(self, *_: object) -> None:
        """Begin to count, or stop and write the file."""
        self._counting = not self._counting
        if self._counting:
            self._counts.clear()
            signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
        else:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._write()

    def sample(self, _: int, frame: FrameType | None) -> None:
        """Count the stack at which a tick of CPU time ended."""
        if frame is not None:
            self._counts[collapse(frame)] += 1

    def _write(self) -> None:
        lines = (f"{stack} {count}\n" for stack, count in self._counts.most_common())
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(lines))
        partial.rename(self._path)  # atomic: a process that waits for the file finds it whole


def collapse(frame: FrameType) -> str:
    """The gateway's functions on a stack, outermost first, joined by semicolons; or LOOP."""
    entered = frame.f_lasti <= entry_offset(frame.f_code)  # nothing of the function has run yet
    if is_loop(frame) or (entered and is_loop(frame.f_back)):
        return LOOP
    names: list[str] = []
    caller: FrameType | None = frame
    while caller is not None:
        name = label(caller.f_code)
        if name:
            names.append(name)
        caller = caller.f_back
    return ";".join(reversed(names)) or LOOP


def is_loop(frame: FrameType | None) -> bool:
    """Whether this is the frame from which the event loop runs."""
    return frame is not None and frame.f_code.co_name == LOOP_CALLER and not label(frame.f_code)


@cache
def entry_offset(code: CodeType) -> int:
    """Offset of RESUME, the instruction at which a function looks for signals as it is entered."""
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), 0)


@cache
def label(code: CodeType) -> str:
    """`module:function` for code of the gateway or the planner, empty for any other."""
    path = Path(code.co_filename)
    if not any(path.is_relative_to(ROOT / package) for package in PACKAGES):
        return ""
    return f"{path.relative_to(ROOT).with_suffix('').as_posix()}:{code.co_qualname}"


def main() -> None:
    """Run `cuvee` with a sampler. The first argument is its file; the others are the gateway's."""
    sampler = Sampler(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR1, sampler.turn)
    runpy.run_module("cuvee", run_name="__main__")


if __name__ == "__main__":
    main()

"""Runs the gateway with a sampling profiler inside.

`python -m loadtest.overhead.sampler FILE serve …`
SIGUSR1 begins, SIGUSR2 ends and writes FILE: collapsed stacks (`a;b;c count`), as flame graph tools
read them. The kernel sends SIGPROF for every tick of CPU time that the process uses, 250 a second
as a rule, and Python's handler notes the stack that it finds.

What it gets right and what not: a signal is seen at the next bytecode, so time inside a C function
is charged to the line that called it, rightly. Time inside the event loop's own C code (polling,
reading, the writes that it does for all connections after the callbacks) would fall on whatever
callback runs next; such a sample stands at that callback's very first instruction, and is charged
to LOOP instead. The work of the collector falls on whoever allocated.
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
CALLER = "run"  # asyncio.Runner.run calls the loop, which has no frame of its own
PACKAGES = ("gateway", "planner")
ROOT = Path(__file__).resolve().parent.parent.parent


class Sampler:
    """Counts stacks between `begin` and `end`; both are signal handlers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[str] = Counter()

    def begin(self, *_: object) -> None:
        self._counts.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def end(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        lines = (f"{stack} {count}\n" for stack, count in self._counts.most_common())
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(lines))
        partial.rename(self._path)  # whoever waits for the file finds it whole

    def sample(self, _: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._counts[stack(frame)] += 1


def stack(frame: FrameType) -> str:
    """From the outermost of our own functions to the one that was running."""
    if loops(frame) or (frame.f_lasti <= entry(frame.f_code) and loops(frame.f_back)):
        return LOOP
    names: list[str] = []
    here: FrameType | None = frame
    while here is not None:
        name = label(here.f_code)
        if name:
            names.append(name)
        here = here.f_back
    return ";".join(reversed(names)) or LOOP


def loops(frame: FrameType | None) -> bool:
    """Whether this is the frame from which the event loop runs."""
    return frame is not None and frame.f_code.co_name == CALLER and not label(frame.f_code)


@cache
def entry(code: CodeType) -> int:
    """The offset of the instruction at which a function looks for signals as it is entered."""
    return next((i.offset for i in dis.get_instructions(code) if i.opname == "RESUME"), 0)


@cache
def label(code: CodeType) -> str:
    """`module:function` of the gateway's code, empty for any other."""
    path = Path(code.co_filename)
    if not any(path.is_relative_to(ROOT / package) for package in PACKAGES):
        return ""
    return f"{path.relative_to(ROOT).with_suffix('').as_posix()}:{code.co_qualname}"


def main() -> None:
    """The first argument is the file; the others are the gateway's."""
    sampler = Sampler(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGUSR2, sampler.end)
    runpy.run_module("cuvee", run_name="__main__")


if __name__ == "__main__":
    main()

"""How far work is that takes long, and how much time is left.

On a terminal one line of standard error that renews itself; elsewhere a line each ten seconds, so
that a log shows that it goes on. Nothing of it is in standard output.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import click

LINE_S = 10.0  # without a terminal
RENEWED_S = 0.5  # on one
ERASE = "\r\x1b[K"  # to the beginning of the line, and away with it
MINUTE_S, HOUR_S = 60.0, 3600.0


class Work:
    """A context manager: `with Work("planning") as work: … work.step("fleet 2")`.

    Time left is known where the number of steps is, or a share of the whole, or where the work
    itself says it; it supposes that the rest goes on as what is done. Threads may tell it.
    """

    def __init__(
        self,
        text: str,
        of: int | None = None,
        *,
        stream: TextIO | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """text: what is done at first. of: the number of steps, if it is known. stream: default:
        standard error."""
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._clock_s = clock_s
        self._text = text
        self._of = of
        self._begun = 0  # steps, with the one that is done now
        self._began_s = self._counted_s = clock_s()
        self._share: float | None = None
        self._ends_at_s: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __repr__(self) -> str:
        return f"<Work {self._text}>"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._terminal:
            self._write(ERASE)

    def say(self, text: str) -> None:
        """What is done now."""
        self._text = text

    def step(self, text: str, of: int | None = None) -> None:
        """A step begins, so those before it are over. of: the number of steps from this one on,
        where it is known only now."""
        if of is not None and of != self._of:
            self._of, self._begun, self._counted_s = of, 0, self._clock_s()
        self._begun += 1
        self._text = text

    def reach(self, done: float, of: float) -> None:
        """How far it is, in any unit: requests, seconds."""
        self._share = min(1.0, done / of) if of > 0 else None

    def ends_in(self, seconds: float | None) -> None:
        """How long it still takes, where the work knows; `None`: it does not."""
        self._ends_at_s = None if seconds is None else self._clock_s() + seconds

    def echo(self, text: str) -> None:
        """Print a line of the result on standard output while the work goes on."""
        with self._lock:
            if self._terminal:
                self._write(ERASE)
            click.echo(text)

    def line(self) -> str:
        """The state in one line."""
        now_s = self._clock_s()
        counted = f"step {self._begun} of {self._of}: " if self._of and self._begun else ""
        times = f"{lasting(now_s - self._began_s)} so far"
        left_s = self._left_s(now_s)
        if left_s is not None:
            times += f", about {lasting(left_s)} left"
        return f"{counted}{self._text} ({times})"

    def _left_s(self, now_s: float) -> float | None:
        """Seconds left; `None` if that cannot be told."""
        if self._ends_at_s is not None:
            return max(0.0, self._ends_at_s - now_s)
        share, since_s = self._share, self._began_s
        if share is None and self._of:
            # The step that is done now counts as half of one, if any was finished to judge by.
            share = (self._begun - 0.5) / self._of if self._begun > 1 else None
            since_s = self._counted_s
        if not share:
            return None
        return max(0.0, (now_s - since_s) * (1 / share - 1))

    def _run(self) -> None:
        while not self._over.wait(RENEWED_S if self._terminal else LINE_S):
            with self._lock:
                if self._over.is_set():
                    return
                self._write(self._shown())

    def _shown(self) -> str:
        if not self._terminal:
            return f"{self.line()}\n"
        return ERASE + self.line()[: max(20, shutil.get_terminal_size().columns - 1)]

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more: the work goes on
            self._over.set()


def lasting(seconds: float) -> str:
    """A time for people: `40 s`, `3 min`, `1 h 20 min`."""
    if seconds < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE_S)
    if seconds < HOUR_S:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"

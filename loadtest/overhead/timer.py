"""A timer that is precise to some tens of microseconds: the event loop's own know milliseconds.

Linux's timerfd on the monotonic clock, through ctypes: Python has it only since 3.13.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable

ABSOLUTE = 1  # TFD_TIMER_ABSTIME
LEAST_S = 1e-9  # zero would disarm it
FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class Spec(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class Timer:
    """Calls `ring` once at each time that it is set to; a context manager. Raises OSError."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> "Timer":
        self._loop.add_reader(self._fd, self._rung)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def set(self, due_s: float) -> None:
        """Instead of any time set before; due_s: on `time.monotonic`, now if it is over."""
        whole, fraction = divmod(max(due_s, LEAST_S), 1)
        spec = Spec(value=(ctypes.c_long * 2)(int(whole), max(1, int(1e9 * fraction))))
        if _libc.timerfd_settime(self._fd, ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _rung(self) -> None:
        os.read(self._fd, 8)
        self._ring()

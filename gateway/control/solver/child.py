"""The solver's process from inside: how it begins, and doing what it is told by name.

Imports next to nothing: what a task needs is imported by the first task that needs it.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import parent_process
from pkgutil import resolve_name
from threading import Thread
from typing import Any

# On one full core 5 leaves it a quarter, so that the second of a solve for four pools takes four,
# within the default limit; 10 would leave it a tenth.
NICENESS = 5


def attach() -> None:
    """It gives way to whoever serves, and keeps to one core; signals to the whole process group are
    not for it; and it never outlives the process that it solves for, however that one ends."""
    with suppress(AttributeError, OSError):  # not to be had everywhere, and no reason not to solve
        os.nice(NICENESS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin on cores that serve
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_follow, daemon=True).start()


def perform(task: str, *arguments: object) -> Any:
    """Calls `module:function`."""
    return resolve_name(task)(*arguments)


def _follow() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""The solver's process from inside: its start, and the call of a task by name.

It imports almost nothing: the first task of a kind imports what it needs.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import parent_process
from pkgutil import resolve_name
from threading import Thread
from typing import Any

# At nice 5 the solver gets a quarter of a core that the data path fills, so that one second of
# solving for four pools takes four, within the default limit; at nice 10 it would get a tenth.
NICENESS = 5
SEAL_NICENESS = 10  # a search of a minute has time


def attach(niceness: int) -> None:
    """Prepare the process: low priority, one core, no reaction to signals sent to the whole process
    group, and an end when the parent process ends in any way."""
    with suppress(AttributeError, OSError):  # not every system has nice, and solving needs none
        os.nice(niceness)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would spin on other cores
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def perform(task: str, *arguments: object) -> Any:
    """Call a task by its name, `module:function`."""
    return resolve_name(task)(*arguments)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

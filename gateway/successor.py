"""A gateway of the same command that takes over: the version that is installed now.

A process that serves starts it, in its own group and unit, with what it was started with. The
successor takes the sockets (`workers/handover`); this one then drains.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence

log = logging.getLogger("cuvee")

LOOK_S = 0.2  # between two looks whether it has ended
REPLACE = "--replace"


def command(
    words: Sequence[str] | None = None, original: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The command line of this process, as one that takes the port over.

    words, original: `sys.argv` and `sys.orig_argv`. A program that was started by its own path is
    started by that path again: the interpreter in its first line may be another one by now, where
    the path leads through a link to the installation in use.
    """
    words = sys.argv if words is None else words
    original = sys.orig_argv if original is None else original
    started = words if os.access(words[0], os.X_OK) and os.path.isfile(words[0]) else original
    return (*(word for word in started if word != REPLACE), REPLACE)


class Successor:
    """The process that is to take over, one at a time."""

    def __init__(self, words: Callable[[], Sequence[str]] = command) -> None:
        """words: the command line."""
        self._words = words
        self._process: int | None = None

    def __repr__(self) -> str:
        return f"<Successor, process {self._process}>"

    async def start(self) -> None:
        """Start it, unless one is starting; return when it has ended without taking over.

        It outlives this process. No event loop owns it: that would kill it at its own end.
        """
        if self._process is not None:
            log.warning("a successor is starting already: process %d", self._process)
            return
        words = self._words()
        try:
            self._process = _spawned(words)
        except OSError as error:
            log.error("the successor cannot be started: %s: %s", " ".join(words), error)
            return
        log.info("process %d is to take over: %s", self._process, " ".join(words))
        while (code := _code(self._process)) is None:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(LOOK_S)
        log.error("process %d did not take over: it ended with code %d", self._process, code)
        self._process = None


def _spawned(words: Sequence[str]) -> int:
    """The id of a new process of this command. Raises OSError."""
    return os.posix_spawnp(words[0], list(words), os.environ)


def _code(process: int) -> int | None:
    """What a child has ended with, negative for a signal; `None` while it runs."""
    ended, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None

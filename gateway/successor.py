"""A gateway of the same command that takes over: the version that is installed now.

A process that serves starts it, in its own group and unit, with what it was started with. The
successor takes the sockets (`workers/handover`); this one then drains.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

log = logging.getLogger("cuvee")

LAUNCH_S = 30.0  # for the process that launches it
# systemd takes another process for the main one of a unit only half where that is no child of its
# own: it does not wait for its end. A child of a process that has ended is.
LAUNCH = """
import os, sys
report, words = int(sys.argv[1]), sys.argv[2:]
os.set_inheritable(report, False)
try:
    answer = str(os.posix_spawnp(words[0], words, os.environ))
except OSError as error:
    answer = str(error)
os.write(report, answer.encode())
"""
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

        It outlives this process, and is no child of it.
        """
        if self._process is not None:
            log.warning("a successor is starting already: process %d", self._process)
            return
        words = self._words()
        try:
            self._process = await asyncio.to_thread(_launched, words)
            watched = os.pidfd_open(self._process)
        except OSError as error:
            self._process = None
            log.error("the successor cannot be started: %s: %s", " ".join(words), error)
            return
        log.info("process %d is to take over: %s", self._process, " ".join(words))
        try:
            await _end(watched)
            log.error("process %d did not take over: it has ended", self._process)
        finally:
            os.close(watched)
            self._process = None


def _launched(words: Sequence[str]) -> int:
    """The id of a new process of this command. Blocks. Raises OSError."""
    own, its = os.pipe()
    with os.fdopen(own, "rb") as report:
        try:
            launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, str(its), *words]
            subprocess.run(launcher, pass_fds=[its], timeout=LAUNCH_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(str(error)) from error
        finally:
            os.close(its)
        answer = report.read().decode()
        if not answer.isdecimal():
            raise OSError(answer or "the launcher failed")
        return int(answer)


async def _end(watched: int) -> None:
    """Wait for the end of the process behind a descriptor (pidfd_open(2))."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)

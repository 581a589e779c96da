"""Runs a program: no shell, few variables, bounded time and output, and nothing of it stays.

Knows no wish.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, NamedTuple

PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
MOST_OUTPUT = 1 << 20  # bytes of standard output that are kept: the first ones
MOST_ERRORS = 1 << 12  # of standard error: the last ones
GRACE_S = 5.0  # from SIGTERM to SIGKILL
REST_S = 0.5  # for output of a program that has ended
PIECE = 1 << 16
MOST_CHARS = 200


class ProgramFault(Exception):
    """A program could not be started, or did not end in time: one line."""


class ProgramEnd(NamedTuple):
    """How a program ended. code: as a shell has it; of a signal negative. output: the beginning of
    its standard output. last_line: of its standard error, or of its output."""

    code: int
    output: str
    last_line: str


class OutputKeeper:
    """Keeps the beginning or the end of what comes through a pipe, and drops the rest."""

    def __init__(self, most: int, *, last: bool) -> None:
        """most: bytes that are kept; `end` is the pipe's other end, for a program."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self.end = os.fdopen(writer, "wb", 0)
        self._reader = reader
        self._most = most
        self._last = last
        self._kept = b""
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        self._loop.add_reader(reader, self._read)

    def __repr__(self) -> str:
        return f"<OutputKeeper {len(self._kept)} bytes>"

    @property
    def text(self) -> str:
        """What is kept."""
        return self._kept.decode(errors="replace")

    @property
    def last_line(self) -> str:
        """See `last_line`."""
        return last_line(self.text)

    def close(self) -> None:
        """Close both ends."""
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self.end.close()

    def _read(self) -> None:
        try:
            data = os.read(self._reader, PIECE)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._reader)
            if not self.ended.done():
                self.ended.set_result(None)
        elif self._last:
            self._kept = (self._kept + data)[-self._most :]
        elif len(self._kept) < self._most:
            self._kept = (self._kept + data)[: self._most]


def variables(environ: Mapping[str, str], more: Sequence[str]) -> dict[str, str]:
    """The environment of a program: no key of an engine or a webhook is in it by chance."""
    return {name: environ[name] for name in (*PASSED_ON, *more) if name in environ}


async def run(
    words: Sequence[str], *, folder: Path, environ: Mapping[str, str], timeout_s: float
) -> ProgramEnd:
    """Run a program to its end. Raises ProgramFault. Whatever happens, also if this is cancelled,
    the program and the processes of its group are gone afterwards.

    words: program, which may be a path from the folder, and arguments. folder: absolute. environ:
    all variables.
    """
    with ExitStack() as stack:
        # Pipes of our own: a process that the program leaves behind may hold them open, and `wait`
        # must not wait for that.
        output = stack.enter_context(closing(OutputKeeper(MOST_OUTPUT, last=False)))
        errors = stack.enter_context(closing(OutputKeeper(MOST_ERRORS, last=True)))
        process = await _started(words, folder, environ, (output.end, errors.end))
        try:
            async with asyncio.timeout(timeout_s):
                code = await process.wait()
        except TimeoutError:
            said = f": {errors.last_line}" if errors.last_line else ""
            text = f"{words[0]} has not ended within {timeout_s:g} s{said}"
            raise ProgramFault(text) from None
        finally:
            await _end(process)
        await asyncio.wait((output.ended, errors.ended), timeout=REST_S)
        return ProgramEnd(code, output.text, errors.last_line or output.last_line)


async def _started(
    words: Sequence[str], folder: Path, environ: Mapping[str, str], ends: tuple[IO[bytes], ...]
) -> asyncio.subprocess.Process:
    """A program that runs and has the only ends of its pipes."""
    program = str(folder / words[0]) if "/" in words[0] else words[0]
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            program,
            *words[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=ends[0],
            stderr=ends[1],
            cwd=folder,
            env=dict(environ),
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:  # what has been started is ended as any other is
        with suppress(OSError, ValueError):
            await _end(await starting)
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProgramFault(f"{words[0]} cannot be started: {reason}") from None
    finally:
        for end in ends:
            end.close()


def last_line(text: str) -> str:
    """The last line that is not empty, as long as a line is read; other characters than those that
    are printed are replaced."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = "".join(c if c.isprintable() else "\ufffd" for c in lines[-1]) if lines else ""
    return line if len(line) <= MOST_CHARS else f"{line[:MOST_CHARS]}…"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what is left of a program's group: politely while the program itself runs."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        except TimeoutError:
            pass
        finally:  # also where this is cancelled
            _signal(process.pid, signal.SIGKILL)
        await process.wait()
    else:
        _signal(process.pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)

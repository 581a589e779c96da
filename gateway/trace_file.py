"""The trace of the gateway's own traffic on the disk: a thread writes it, so that a disk that is
slow, full or gone costs requests nothing but their lines.

Owns the files: they are opened, filled, and given up for the next ones.
"""

import errno
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from secrets import token_hex
from threading import Thread
from typing import NamedTuple

from gateway.config.load import Loaded
from gateway.line_file import append, cut, rotate
from planner.traffic.gateway_trace import HEADER, ServedRequest, is_served, written

log = logging.getLogger("cuvee")

MOST_WAITING = 100_000  # requests that may wait for the disk: some 30 MiB
AT_ONCE = 64  # lines made in one go; writing them lets other threads run
CLOSE_S = 2.0  # for the lines that wait when the gateway ends


class TraceSettings(NamedTuple):
    """Where the trace goes. secret: see `hashed_caller`."""

    path: Path
    file_bytes: int
    files: int
    secret: bytes


class TraceFile:
    """The trace of one gateway; idle until it is configured."""

    def __init__(self) -> None:
        self._chance = token_hex()  # for as long as this gateway runs
        self._settings: TraceSettings | None = None
        # Requests and where they go; without settings: nothing comes for now. `None`: the end.
        self._queue: SimpleQueue[tuple[TraceSettings | None, Sequence[ServedRequest]] | None]
        self._queue = SimpleQueue()
        self._thread: Thread | None = None
        self._added = self._refused = 0  # counted by the thread that adds
        self._written = self._unwritten = 0  # counted by the thread that writes
        self._fd: int | None = None
        self._path: Path | None = None  # of the file that is open
        self._failing = False

    def __repr__(self) -> str:
        return f"<TraceFile {self._settings and self._settings.path}, {self._written} requests>"

    @property
    def requests(self) -> dict[str, int]:
        """How many are in the trace and how many are lost; empty if there never was a trace."""
        if self._thread is None:
            return {}
        return {"written": self._written, "lost": self._refused + self._unwritten}

    def configure(self, loaded: Loaded) -> None:
        """Write as this configuration says from now on, or nothing."""
        section, path = loaded.config.gateway.trace, loaded.trace
        if section is None or path is None:
            if self._settings is not None:
                self._settings = None
                self._queue.put((None, ()))
            return
        secret = sha256((section.salt or self._chance).encode()).digest()
        self._settings = TraceSettings(path, section.file_bytes, section.files, secret)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="trace", daemon=True)
            self._thread.start()

    def add(self, served: Sequence[ServedRequest], lost: int = 0) -> None:
        """Write requests soon, or drop and count them. lost: how many more there were."""
        self._refused += lost
        if self._settings is None or not served:
            return
        waiting = self._added - self._written - self._unwritten
        if waiting + len(served) > MOST_WAITING:
            self._refused += len(served)
        else:
            self._added += len(served)
            self._queue.put((self._settings, served))

    def close(self) -> None:
        """Write what waits, for `CLOSE_S` at most."""
        self._settings = None
        if self._thread is not None and self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            settings, served = batch
            if settings is None:
                self._leave()
                continue
            for first in range(0, len(served), AT_ONCE):
                self._write(settings, served[first : first + AT_ONCE])
        self._leave()

    def _write(self, settings: TraceSettings, served: Sequence[ServedRequest]) -> None:
        try:
            data = written(served, settings.secret).encode()
            append(self._file(settings), data)
        except Exception as error:  # whatever it is: the next lines may be written again
            self._unwritten += len(served)
            self._leave()
            if not self._failing:
                self._failing = True
                reason = error.strerror if isinstance(error, OSError) else repr(error)
                log.warning("the trace %s cannot be written: %s", settings.path, reason)
        else:
            self._written += len(served)
            if self._failing:
                self._failing = False
                log.warning("the trace %s is written again", settings.path)

    def _file(self, settings: TraceSettings) -> int:
        """The file to write to, open at its end. Raises OSError."""
        if self._fd is not None and (self._path != settings.path or not _is(self._fd, self._path)):
            self._leave()  # another path is configured, or somebody moved the file away
        if self._fd is None:
            self._path, self._fd = settings.path, _opened(settings)
        if os.fstat(self._fd).st_size >= settings.file_bytes:
            self._leave()
            rotate(settings.path, settings.files)
            self._fd = _opened(settings)
        return self._fd

    def _leave(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.close(self._fd)
        self._fd = None


def _is(fd: int, path: Path) -> bool:
    """Whether a file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _opened(settings: TraceSettings) -> int:
    """The trace at its path, made if there is none: whole lines after the header. A trace of other
    columns is put aside. Raises OSError, also for what is no trace: it is left as it is."""
    path = settings.path
    # O_NONBLOCK: of what is no regular file, such as a named pipe, nothing is waited for.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)  # nobody else's business
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size == 0:
            append(fd, HEADER.encode())
            return fd
        first = os.pread(fd, 4 * len(HEADER), 0).partition(b"\n")[0].decode(errors="replace")
        if first + "\n" == HEADER:
            cut(fd)
            return fd
        if not is_served(first.split(",")):
            raise OSError(errno.EEXIST, "it holds something else")
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    rotate(settings.path, settings.files)
    return _opened(settings)

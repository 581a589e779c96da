"""The journal on the disk: a file of lines, and the one before it. A thread writes, so that a disk
that is slow or gone delays nothing."""

import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gateway.journal.entry import Entry, entries, line
from gateway.line_file import append, rotate

log = logging.getLogger("cuvee")

MOST_WAITING = 1_000  # lines that may wait for the disk
FILES = 2  # with the one before, whose name ends in `.1`


class JournalFile:
    """One path. file_bytes: at which the next file begins; the one before is kept."""

    def __init__(self, path: Path, file_bytes: int) -> None:
        self.path, self.file_bytes = path, file_bytes
        self._executor = ThreadPoolExecutor(1, "journal")  # its thread begins with the first line
        self._waiting = 0
        self._failing = False

    def __repr__(self) -> str:
        return f"<JournalFile {self.path}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JournalFile):
            return NotImplemented
        return (self.path, self.file_bytes) == (other.path, other.file_bytes)

    def __hash__(self) -> int:
        return hash((self.path, self.file_bytes))

    def add(self, entry: Entry) -> None:
        """Write an entry soon; called in the event loop."""
        if self._waiting < MOST_WAITING:
            self._waiting += 1
            self._executor.submit(self._append, line(entry)).add_done_callback(self._done)

    def close(self) -> None:
        """Write what waits."""
        self._executor.shutdown(wait=True)

    def _append(self, data: bytes) -> None:
        try:
            self._write(data)
        except OSError as error:
            if not self._failing:
                log.warning("the journal %s cannot be written: %s", self.path, error.strerror)
            self._failing = True
        else:
            self._failing = False

    def _write(self, data: bytes) -> None:
        with open(self.path, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            if not size or size + len(data) <= self.file_bytes:
                # What a crash has cut stays a line of its own.
                torn = size and os.pread(file.fileno(), 1, size - 1) != b"\n"
                append(file.fileno(), b"\n" + data if torn else data)
                return
        rotate(self.path, FILES)
        self._write(data)

    def _done(self, _: Future[None]) -> None:
        self._waiting -= 1


def read(path: Path) -> list[Entry]:
    """The entries at a path, oldest first, with those of the file before; of files that cannot be
    read none."""
    found: list[Entry] = []
    for one in (_before(path), path):
        try:
            found += entries(one.read_bytes())
        except OSError:
            continue
    return found


def _before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")

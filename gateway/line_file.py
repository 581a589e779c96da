"""Files of lines that a gateway writes and others read: each line is whole, or not there."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

TAIL_BYTES = 65_536  # in which the last whole line ends, of a file whose end was cut


def append(fd: int, data: bytes) -> None:
    """Write lines whole, or not at all. Raises OSError."""
    # Another gateway that hands over its port may write to the same file.
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        before = os.fstat(fd).st_size
        rest = data
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            os.ftruncate(fd, before)
            raise
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def cut(fd: int) -> None:
    """Take away the last line if a crash cut it: what comes next begins a line."""
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        size = os.fstat(fd).st_size
        first = max(0, size - TAIL_BYTES)
        tail = os.pread(fd, size - first, first)
        end = tail.rfind(b"\n") + 1
        if 0 < end < len(tail):
            os.ftruncate(fd, first + end)
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def rotate(path: Path, files: int) -> None:
    """Give the file at a path, and those before it, the next numbers (`PATH.1`, `PATH.2`), and
    delete what is more than there may be. Raises OSError."""
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, files))]
    names[-1].unlink(missing_ok=True)
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        with suppress(FileNotFoundError):
            newer.rename(older)

"""Whether files are still what they were when they were read. Knows none of their formats."""

import os
from collections.abc import Iterable
from pathlib import Path

Print = tuple[int, ...] | None  # of one file; `None` if there is none


class FileWatch:
    """Some files, as they were at the last `mark`.

    A file is known by its inode, times and length behind all links, so that the files of a
    Kubernetes ConfigMap, which are replaced by moving a link, are seen to change as well.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._prints = self._seen = _prints(paths)

    def __repr__(self) -> str:
        return f"<FileWatch {', '.join(map(str, self._prints))}>"

    def mark(self) -> None:
        """Remember the files as they are now; called before they are read."""
        self._prints = self._seen = _prints(self._prints)

    def follow(self, paths: Iterable[Path]) -> None:
        """Watch these files from now on; those that were watched before since their mark."""
        self._prints = {
            path: self._prints[path] if path in self._prints else _print(path) for path in paths
        }

    def changed(self) -> bool:
        """Whether the files are others than at their mark, and the same as at the last look: what
        is still being written is not whole."""
        before, self._seen = self._seen, _prints(self._prints)
        return self._seen == before and self._seen != self._prints


def _prints(paths: Iterable[Path]) -> dict[Path, Print]:
    return {path: _print(path) for path in paths}


def _print(path: Path) -> Print:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

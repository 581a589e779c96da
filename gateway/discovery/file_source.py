"""Backends from a file that others write: a list of base URLs, or one for each of several pools."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.config.addresses import url_fault
from gateway.config.watch import FileWatch
from gateway.discovery.source import Found
from planner.document import Document, read, shown, under
from planner.errors import InvalidFile

WATCH_S = 1.0  # between two looks at the file


class FileSource:
    """The `Source` of one file.

    A file that cannot be used, also by one bad entry, changes nothing. One that is being written is
    read when it has been the same at two looks.
    """

    def __init__(self, path: Path, pools: tuple[str, ...]) -> None:
        """pools: all that follow this file."""
        self.name = f"file {shown(path)}"
        self.pools = pools
        self._path = path
        self._watch = FileWatch([path])

    def __repr__(self) -> str:
        return f"<FileSource {self._path} of {', '.join(self.pools)}>"

    async def run(self, found: Callable[[Found], None], failed: Callable[[str], None]) -> None:
        """Look each second, for ever; see `Source`. Reads the file only when it has changed."""
        last = await self._read()
        while True:
            if isinstance(last, Found):
                found(last)
            else:
                failed(last)
            await asyncio.sleep(WATCH_S)
            if await asyncio.to_thread(self._watch.changed):
                last = await self._read()

    async def _read(self) -> Found | str:
        """What is in the file, or why it cannot be used."""
        self._watch.mark()
        try:
            return await asyncio.to_thread(self.look)
        except InvalidFile as error:
            return "; ".join(str(error).splitlines())
        except Exception as error:  # no content of a file may end the looks
            return f"{shown(self._path)}: {type(error).__name__}: {shown(error)}"

    def look(self) -> Found:
        """Read the file now. Raises InvalidFile, with a line for each entry that cannot be used."""
        document = read(self._path)
        lists = self._lists(document)
        problems = [
            line for key, entries in lists.values() for line in self._faults(document, key, entries)
        ]
        if problems:
            raise InvalidFile("\n".join(problems))
        urls = {
            pool: tuple(url.rstrip("/") for url in lists[pool][1])
            for pool in self.pools
            if pool in lists
        }
        return Found(urls, tuple(self._remarks(lists)))

    def _lists(self, document: Document) -> dict[str, tuple[str, Any]]:
        """The lists by pool, each with its key in the file."""
        value = document.value
        if isinstance(value, dict):
            return {str(name): (under("", name), entries) for name, entries in value.items()}
        if isinstance(value, list) and len(self.pools) > 1:
            pools = ", ".join(self.pools)
            raise self._invalid(f"a list, but several pools follow the file ({pools}): name them")
        if isinstance(value, list):
            return {self.pools[0]: ("", value)}
        if value is None:  # as by a tool that failed, or is not ready
            raise self._invalid("empty: no backends are written as []")
        raise self._invalid("must be a list of base URLs, or such lists by pool")

    def _faults(self, document: Document, key: str, entries: Any) -> Iterator[str]:
        if not isinstance(entries, list):
            yield self._located(document, key, "must be a list of base URLs")
            return
        for index, entry in enumerate(entries):
            fault = url_fault(entry) if isinstance(entry, str) else "must be a base URL"
            if fault:
                yield self._located(document, f"{key}[{index}]", fault)

    def _located(self, document: Document, key: str, text: str) -> str:
        line = document.line_of(key)
        where = shown(self._path) if line is None else f"{shown(self._path)}:{line}"
        return f"{where}: {key or 'the list'}: {text}"

    def _remarks(self, lists: dict[str, tuple[str, Any]]) -> Iterator[str]:
        for name in lists:
            if name not in self.pools:
                yield f"pool {shown(name)} does not follow this file"
        for pool in self.pools:
            if pool not in lists:
                yield f"has no list for pool {pool}, which keeps its backends"

    def _invalid(self, text: str) -> InvalidFile:
        return InvalidFile(f"{shown(self._path)}: {text}")

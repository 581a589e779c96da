"""Joins what sources have found with the backends of the file, and has the fleet follow.

Owns the sources that run and the last good answer of each. A source that fails changes nothing: the
probes tell which backends are dead. Knows no fleet but by its URLs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gateway.config.addresses import own_ends
from gateway.config.load import Loaded
from gateway.discovery.join import joined
from gateway.discovery.source import Found, Source
from gateway.discovery.sources import wanted
from gateway.errors import ConfigError
from gateway.telemetry.loops import Loops

log = logging.getLogger("cuvee.discovery")

RETRY_S = 10.0  # until a change of the fleet that could not be made is tried again
FIRST_S = 5.0  # that the gateway waits for the first look of each source before its port opens

Urls = Mapping[str, Sequence[str]]


class Followed:
    """One source that runs, and what came of it.

    urls: last good ones, by pool. at_s: of the last good look, or of the start, monotonic.
    failures: looks that failed. error: why the last look failed, `None` if it did not. looked: set
    after the first look.
    """

    def __init__(self, source: Source, on_found: Callable[[], None]) -> None:
        """on_found: called after a look that found something else than the last one."""
        self.source = source
        self._on_found = on_found
        self.urls: dict[str, tuple[str, ...]] = {}
        self.remarks: tuple[str, ...] = ()
        self.at_s = time.monotonic()
        self.failures = 0
        self.error: str | None = None
        self.looked = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __repr__(self) -> str:
        return f"<Followed {self.source.name}, {self.failures} failures>"

    def stop(self) -> None:
        """Look no more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self.source.run(self._found, self._failed)
        except Exception as error:  # a mistake of ours; what was found stays
            log.exception("%s is not followed any more", self.source.name)
            self._failed(f"is not followed any more: {type(error).__name__}")

    def _found(self, found: Found) -> None:
        if self.error is not None:
            log.warning("%s: can be read again", self.source.name)
        self.at_s, self.error = time.monotonic(), None
        if found.remarks != self.remarks:
            for line in found.remarks:
                if line not in self.remarks:
                    log.warning("%s: %s", self.source.name, line)
            self.remarks = found.remarks
        urls = self.urls | {
            pool: own for pool, own in found.urls.items() if pool in self.source.pools
        }
        changed, self.urls = urls != self.urls, urls
        self.looked.set()
        if changed:
            self._on_found()

    def _failed(self, why: str) -> None:
        self.failures += 1
        if why != self.error:
            log.warning("%s: %s; the backends that it told last stay", self.source.name, why)
        self.error = why
        self.looked.set()

    def figures(self) -> dict[str, Any]:
        """As the admin port shows it."""
        return {
            "name": self.source.name,
            "pools": self.source.pools,
            "age_s": round(time.monotonic() - self.at_s, 1),
            "failures": self.failures,
            "error": self.error,
            "remarks": self.remarks,
            "backends": self.urls,
        }


class Discovery:
    """All sources of a gateway; an async context manager that follows them while it is open.

    followed: by what each source is made from.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        present: Callable[[], Urls],
        apply: Callable[[], Awaitable[None]],
        loops: Loops | None = None,
    ) -> None:
        """present: base URLs of the fleet by pool. apply: takes its turn among the changes of the
        fleet, and then moves it to `changes`; raises ConfigError if that cannot be. loops:
        where it tells how it is."""
        self._loops = loops or Loops()
        self._loaded = loaded
        self._present = present
        self._apply = apply
        self.followed: dict[object, Followed] = {}
        self._due = asyncio.Event()
        self._refused: tuple[str, ...] = ()
        self._told: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Discovery {', '.join(one.source.name for one in self.followed.values())}>"

    async def __aenter__(self) -> "Discovery":
        """Start all sources; return when each has looked once, or after `FIRST_S`."""
        self.follow(self._loaded)
        waits = [asyncio.ensure_future(one.looked.wait()) for one in self.followed.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=FIRST_S)
            for wait in late:
                wait.cancel()
        for one in self.followed.values():
            if not one.looked.is_set():
                log.warning("%s: no answer in %g s; starting without", one.source.name, FIRST_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self.followed.values():
            one.stop()

    def follow(self, loaded: Loaded) -> None:
        """Follow the sources of this configuration, which is in force, from now on; those that it
        has already go on."""
        self._loaded = loaded
        before, sources = self.followed, wanted(loaded)
        self.followed = {
            key: before.get(key) or Followed(source, self._due.set)
            for key, source in sources.items()
        }
        for key, one in before.items():
            if key not in sources:
                one.stop()

    async def run(self) -> None:
        """Have the fleet follow what is found, for ever; one change at a time. A change that cannot
        be made is tried again."""
        again = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if again else None):
                    await self._due.wait()
            self._due.clear()
            again = True
            try:
                await self._apply()
                again, self._refused = False, ()
                self._loops.good("discovery", time.time())
            except ConfigError as error:
                self._loops.failed("discovery", error.problems[0])
                if error.problems != self._refused:
                    self._refused = error.problems
                    for line in error.problems:
                        log.error("the fleet stays as it is: %s", line)
            except Exception as error:
                log.exception("what was found could not be put in force")
                self._loops.failed("discovery", repr(error))

    def changes(self) -> dict[str, tuple[str, ...]]:
        """Base URLs of the pools that should have others than they have."""
        present = self._present()
        wished = self.wished(self._loaded)
        return {pool: urls for pool, urls in wished.items() if urls != tuple(present[pool])}

    def wished(self, loaded: Loaded) -> dict[str, tuple[str, ...]]:
        """Base URLs of the pools with sources, under this configuration: those of the file, and
        those that were found; of a source that has not answered yet, those that the pool has."""
        present, found = self._present(), dict[str, tuple[str, ...]]()
        if loaded is self._loaded:
            sources = {key: one.source for key, one in self.followed.items()}
        else:
            sources = wanted(loaded)
        for key, source in sources.items():
            known = self.followed[key].urls if key in self.followed else {}
            for pool in source.pools:
                listed = {url.rstrip("/") for url in loaded.config.pools[pool].backends}
                has = tuple(url for url in present.get(pool, ()) if url not in listed)
                found[pool] = known.get(pool, has)
        urls, remarks = joined(loaded.config.pools, found, own_ends(loaded.config.gateway))
        for line in remarks:
            if line not in self._told:
                log.warning("%s", line)
        self._told = remarks
        return urls

    def figures(self) -> dict[str, Any]:
        """As the admin port shows it: the sources, what was left out, and the backends by pool."""
        return {
            "sources": [one.figures() for one in self.followed.values()],
            "remarks": self._told,
            "refused": self._refused,
            "backends": {pool: tuple(urls) for pool, urls in self._present().items()},
        }

    def ages(self) -> dict[str, tuple[float, int]]:
        """By source: seconds since its last good look, and looks that failed."""
        now_s = time.monotonic()
        return {one.source.name: (now_s - one.at_s, one.failures) for one in self.followed.values()}

    def counts(self) -> dict[str, int]:
        """Backends that were found, by pool with a source."""
        return {
            pool: len(one.urls.get(pool, ()))
            for one in self.followed.values()
            for pool in one.source.pools
        }

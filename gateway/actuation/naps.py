"""Wakes engines that sleep, and puts some to sleep: vLLM with `--enable-sleep-mode` and its
development endpoints.

That an engine sleeps is seen in its metrics, like all that is known of it; what it was told is not
believed. Knows no wish.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.actuation.chronicle import Chronicle
from gateway.actuation.drains import DrainedBackend, Drains
from gateway.actuation.launches import Launches
from gateway.config.upstream import TlsPaths, Upstream
from gateway.plain_http import PlainHttp, PlainHttpFault
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet

WAKE, SLEEP = "/wake_up", "/sleep?level=1"  # level 1: the weights stay in the host's memory
ANSWER_S = 120.0  # moving weights between memories takes seconds
SEEN_S = 30.0  # until its metrics say what its answer said
LOOK_S = 0.2
IDLE_S = 0.5  # between two looks whether a backend has nothing left
MOST_BYTES = 1 << 12


class Naps:
    """Of all pools.

    refused: names of backends that did not do what they were told, and are not told again.
    """

    def __init__(
        self,
        fleet: Fleet,
        drains: Drains,
        launches: Launches,
        chronicle: Chronicle,
        done: Callable[[], None] = lambda: None,
        upstreams: Callable[[], Mapping[str, Upstream]] = dict,
    ) -> None:
        """done: called when one that was told to sleep does, or does not obey. upstreams: how the
        engines of each pool are spoken to now."""
        self._done, self._upstreams = done, upstreams
        self._fleet, self._drains = fleet, drains
        self._launches, self._chronicle = launches, chronicle
        self._clock = asyncio.get_running_loop().time
        self._tasks: set[asyncio.Task[None]] = set()
        self._lain: dict[str, str] = {}  # pool by name, of those that were told to sleep
        self.refused: set[str] = set()

    def __repr__(self) -> str:
        return f"<Naps, {len(self._tasks)} under way>"

    def sleepers(self, pool: str) -> list[Backend]:
        """The backends of a pool that sleep, obey, and are not being woken."""
        if pool not in self._fleet.membership.pools:
            return []
        under_way = self._launches.starting(pool) | self.refused
        return [b for b in self._fleet.pool(pool) if b.asleep and b.name not in under_way]

    def lying_down(self, pool: str) -> set[str]:
        """Names of backends of a pool that are on their way to sleep, until the fleet has them
        back."""
        return {n for n, own in self._lain.items() if own == pool and self._lies_down(n)}

    def settle(self) -> None:
        """Forget those that lie down no more."""
        self._lain = {n: pool for n, pool in self._lain.items() if self._lies_down(n)}

    def _lies_down(self, name: str) -> bool:
        drain = self._drains.all.get(name)
        if drain is not None:
            return drain.why == SLEEP
        # Its drain is over, and the fleet does not know it yet: else it would count as gone.
        return any(m.name == name and m.drained for m in self._fleet.membership.members)

    def wake(self, pool: str, number: int, among: Collection[str] | None = None) -> None:
        """Wake so many backends of a pool, or as many as sleep. They count as launched. among: only
        of these; default: any."""
        able = [b for b in self.sleepers(pool) if among is None or b.name in among]
        for backend in able[: max(0, number)]:
            self._launches.wake(pool, backend.name, self._clock())
            self._chronicle.say(f"pool {pool}: {backend.name} is woken, which is less than a start")
            self._begin(self._rouse(backend))

    def lie_down(
        self, pool: str, backends: Sequence[Backend], number: int, empty_s: float
    ) -> list[Backend]:
        """Put so many of these to sleep, or as many as are up and obey; those that are. empty_s:
        that they have to finish what they do."""
        able = [b for b in backends if b.healthy and not b.asleep and b.name not in self.refused]
        chosen = able[: max(0, number)]
        for backend in chosen:
            drain = DrainedBackend(
                backend=backend.name, pool=pool, url=backend.url, why=SLEEP, since_s=time.time()
            )
            self._drains.begin(drain)
            self._lain[backend.name] = pool
            self._chronicle.say(f"pool {pool}: {backend.name} goes to sleep, it is not needed now")
            self._begin(self._lie_down(backend, drain, empty_s))
        return chosen

    def gave_up(self, pool: str, backends: Sequence[str], waited_s: float) -> None:
        """These were woken and are not ready: others are started."""
        self.refused |= set(backends)
        names = ", ".join(backends)
        self._chronicle.say(f"pool {pool}: {names} did not wake up within {waited_s:.0f} s")

    async def aclose(self) -> None:
        """Tell nobody anything more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rouse(self, backend: Backend) -> None:
        await self._tell(backend, WAKE)

    async def _lie_down(self, backend: Backend, drain: DrainedBackend, empty_s: float) -> None:
        await emptied([backend], self._clock() + empty_s)
        if await self._tell(backend, SLEEP):
            until_s = self._clock() + SEEN_S
            while not backend.asleep and self._clock() < until_s:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(LOOK_S)
            if not backend.asleep:
                self._refuses(backend, "its metrics do not say that it sleeps")
        if self._drains.all.get(backend.name) == drain:  # nobody drains it for another reason
            self._drains.end(backend.name)
        self._done()

    async def _tell(self, backend: Backend, what: str) -> bool:
        upstream = self._upstreams().get(backend.pool, Upstream())
        try:
            answer = await _server(backend.url, upstream.tls).whole(
                "POST", what, upstream.headers, longest_s=ANSWER_S, most_bytes=MOST_BYTES
            )
        except PlainHttpFault as fault:
            self._refuses(backend, str(fault))
            return False
        if answer.status != 200:
            self._refuses(backend, f"{what} answered {answer.status}")
        return answer.status == 200

    def _refuses(self, backend: Backend, why: str) -> None:
        self.refused.add(backend.name)
        self._chronicle.say(f"pool {backend.pool}: {backend.name} does not obey: {why}")


def _server(url: str, tls: TlsPaths | None) -> PlainHttp:
    if tls is None:
        return PlainHttp(url)
    shown = (tls.certificate, tls.key) if tls.certificate and tls.key else None
    ca = None if tls.ca is None else Path(tls.ca)
    return PlainHttp(url, ca, certificate=shown, server_name=tls.server_name)


async def emptied(backends: Sequence[Backend], until_s: float) -> None:
    """Return when these have nothing left at two looks, or at `until_s` on the loop's clock."""
    clock, empty = asyncio.get_running_loop().time, 0
    while backends and empty < 2 and clock() < until_s:
        await asyncio.sleep(IDLE_S)
        empty = empty + 1 if all(backend.idle for backend in backends) else 0

"""A cloud on this machine: starts and stops emulated engines as its webhook is told to.

An engine takes a start-up time by chance until it serves; then its URL stands in a file that the
gateway follows. GPU types can be out of stock, and a machine can be taken away after a notice.
Knows no plan and no demand.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from aiohttp import web

from loadtest.day.instances import EngineProcess
from planner.model.pool import Pool

GRACE_S = 60.0  # that a machine which is to stop may go on with what it has
LOOK_S = 0.25
SPREAD = 0.25  # of start-up times: sigma of their logarithm


@dataclass(slots=True, eq=False)
class Machine:
    """One rented machine. url: `None` until it serves. Times in seconds since the day began; ended
    ones have until_s."""

    pool: str
    from_s: float
    number: int | None = None
    url: str | None = None
    until_s: float | None = None
    leaving: bool = False
    task: asyncio.Task[None] | None = None


class CloudWish(msgspec.Struct):
    """What the webhook is told, as far as it is needed here."""

    pool: str
    backends: int
    leaving: tuple[str, ...] = ()


class LocalCloud:
    """An async context manager.

    url: of the webhook; a pool's name follows it. file: the URLs that serve, by pool. machines: all
    that were rented. out_of_stock: GPU types of which no machine can be had now. refused: wishes
    that met one.
    """

    def __init__(
        self,
        engines: EngineProcess,
        pools: Mapping[str, Pool],
        *,
        startup_s: float,
        folder: Path,
        rng: np.random.Generator,
        now: Callable[[], float],
    ) -> None:
        """startup_s: median of the time until a machine serves. folder: for the file. now: seconds
        since the day began."""
        self._engines = engines
        self._pools = pools
        self._startup_s = startup_s
        self._rng = rng
        self._now = now
        self.file = folder / "backends.json"
        self.machines: list[Machine] = []
        self.out_of_stock: set[str] = set()
        self.refused = 0
        self.url = ""

    async def __aenter__(self) -> "LocalCloud":
        self._write()
        app = web.Application()
        app.router.add_post("/{pool}", self._wish)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [machine.task for machine in self.machines if machine.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()

    def rented(self, pool: str) -> list[Machine]:
        """The machines of a pool that are not about to go, oldest first; also those that start."""
        return [
            one
            for one in self.machines
            if one.pool == pool and one.until_s is None and not one.leaving
        ]

    def serving(self) -> dict[str, int]:
        """By pool, how many machines serve."""
        return {pool: sum(one.url is not None for one in self.rented(pool)) for pool in self._pools}

    async def begin(self, counts: Mapping[str, int]) -> None:
        """Have machines from the start, without a start-up time."""
        for pool, count in counts.items():
            for _ in range(count):
                await self._serve(self._rent(pool))

    async def lose(self, pool: str, notice_s: float) -> str | None:
        """Take a machine away that serves; return its URL at once, the machine ends after the
        notice. `None`: the pool has none."""
        serving = [one for one in self.rented(pool) if one.url is not None]
        if not serving:
            return None
        taken = serving[0]
        taken.leaving = True
        taken.task = asyncio.create_task(self._taken(taken, notice_s))
        return taken.url

    async def _wish(self, request: web.Request) -> web.Response:
        wish = msgspec.json.decode(await request.read(), type=CloudWish)
        has = self.rented(wish.pool)
        if wish.backends > len(has):
            gpu = self._pools[wish.pool].gpu
            if gpu in self.out_of_stock:
                self.refused += 1
                return web.json_response({"error": f"no {gpu} can be had"}, status=422)
            for _ in range(wish.backends - len(has)):
                machine = self._rent(wish.pool)
                machine.task = asyncio.create_task(self._launch(machine))
        else:
            first = {url.rstrip("/") for url in wish.leaving}
            # Those that are named, then those that do not serve yet, then the newest.
            order = sorted(
                has, key=lambda one: (one.url not in first, one.url is not None, -one.from_s)
            )
            for machine in order[: len(has) - wish.backends]:
                self._stop(machine)
        return web.json_response({"backends": wish.backends})

    def _rent(self, pool: str) -> Machine:
        machine = Machine(pool=pool, from_s=self._now())
        self.machines.append(machine)
        return machine

    async def _launch(self, machine: Machine) -> None:
        seconds = self._startup_s * float(np.exp(SPREAD * self._rng.standard_normal()))
        await asyncio.sleep(seconds)
        await self._serve(machine)

    async def _serve(self, machine: Machine) -> None:
        pool = self._pools[machine.pool]
        machine.number, machine.url = await self._engines.start(pool.profile, pool.model)
        self._write()

    def _stop(self, machine: Machine) -> None:
        """Have a machine finish what it has, and end."""
        machine.leaving = True
        if machine.task is not None and not machine.task.done():
            machine.task.cancel()
        if machine.number is None:
            machine.until_s = self._now()
            return
        self._write()
        machine.task = asyncio.create_task(self._finish(machine))

    async def _finish(self, machine: Machine) -> None:
        assert machine.number is not None
        ends_s = self._now() + GRACE_S
        idle = 0
        while self._now() < ends_s and idle < 8:  # the gateway may send something until it reads
            await asyncio.sleep(LOOK_S)
            idle = 0 if await self._engines.busy(machine.number) else idle + 1
        await self._end(machine)

    async def _taken(self, machine: Machine, notice_s: float) -> None:
        await asyncio.sleep(notice_s)
        await self._end(machine)
        self._write()

    async def _end(self, machine: Machine) -> None:
        assert machine.number is not None
        await self._engines.end(machine.number)
        machine.until_s = self._now()

    def _write(self) -> None:
        """Write the URLs of all that serve, in one step."""
        urls: dict[str, list[str]] = {pool: [] for pool in self._pools}
        for machine in self.machines:
            stays = not machine.leaving or machine.task is None
            if machine.url is not None and machine.until_s is None and stays:
                urls[machine.pool].append(machine.url)
        fresh = self.file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(urls))
        fresh.replace(self.file)

"""One simulated world, from its seed to its end: builds it, lets it run, and looks whether every
promise is kept. Each world is short, so that a failure is soon played again."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from gateway.workers.worker import Worker
from loadtest.torture import invariants
from loadtest.torture.control import VirtualGateway
from loadtest.torture.engine import TorturedEngine
from loadtest.torture.fates import Fate
from loadtest.torture.ledger import EVENTS, Ask, Broken, Ledger
from loadtest.torture.network import Network
from loadtest.torture.plane import VirtualPlane
from loadtest.torture.referee import SETTLED_S, Referee
from loadtest.torture.setting import MODELS, Setting, profile_of
from loadtest.torture.traffic import LONGEST_S, TorturingTraffic
from loadtest.torture.virtual_loop import VirtualLoop
from loadtest.torture.weather import CALM_S, Weather

LOOK_S = 1.0  # between two looks at everything
END_S = 20.0  # for idle connections to be closed
# A request that hung in a fault times out two minutes later, and opens the breaker once more.
FORGIVEN_S = 200.0
SABOTAGE_S = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """A fault of the world itself, to show that its promises can be broken.

    leak: a lease that nobody releases. slow, fail: all engines are slow, or answer with errors,
    while the world believes that nothing is wrong.
    """

    leak: bool = False
    slow: bool = False
    fail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldResult:
    """What came of a world.

    at_s: its end. broken: the first promise that was broken, `None`: none was. counts: of requests,
    ends and faults. calm, met: see `Referee`. events: the last ones.
    """

    seed: int
    hours: float
    at_s: float
    broken: str | None
    counts: Counter[str]
    calm: int
    met: int
    events: tuple[str, ...]


def play(
    seed: int,
    hours: float,
    *,
    calm_s: float = CALM_S,
    sabotage: Sabotage | None = None,
    events: int = EVENTS,
) -> WorldResult:
    """Let one world run. calm_s: mean time between two storms of faults. events: how many of its
    last events are kept."""
    with TemporaryDirectory() as folder:
        world = World(seed, Path(folder), sabotage or Sabotage(), calm_s=calm_s, events=events)
        broken: str | None = None
        try:
            world.run(hours * 3600.0)
        except Broken as error:
            broken = str(error)
        return WorldResult(
            seed=seed,
            hours=hours,
            at_s=world.ledger.now_s,
            broken=broken,
            counts=world.ledger.counts,
            calm=world.referee.calm,
            met=world.referee.met,
            events=tuple(world.ledger.events),
        )


class World:
    """Everything in one event loop."""

    def __init__(
        self, seed: int, folder: Path, sabotage: Sabotage, *, calm_s: float, events: int
    ) -> None:
        self._random, self._calm_s = Random(seed), calm_s
        self._sabotage = sabotage
        self.ledger = Ledger(events)
        self._network = Network(self._random.getrandbits(32))
        self.loop = VirtualLoop(self._network)
        self.loop.on_quiet = self._on_quiet
        self.loop.set_exception_handler(self._on_exception)
        self._setting = Setting(Random(self._random.getrandbits(32)), folder)
        self.referee = Referee(self.ledger, promise=self._promised)
        self._look_s = 0.0
        self._deaths: list[float] = []
        self._lines: dict[str, dict[str, Any]] = {}
        self._least_well: dict[str, int] = {}

    def run(self, seconds: float) -> None:
        """Let it run. Raises Broken."""
        listening = GatewayLog(self._on_line, self.ledger.fail)
        with listening:
            try:
                self.loop.run_until_complete(self._run(seconds))
            finally:
                self.loop.on_quiet = lambda: None
                self._unwind()
                self.loop.close()

    async def _run(self, seconds: float) -> None:
        draw = Random(self._random.getrandbits(32)).random
        self.engines = {
            host: TorturedEngine(
                host, profile_of(pool), self._network, draw=draw, on_attempt=self._on_attempt
            )
            for pool, hosts in self._setting.hosts.items()
            for host in hosts
        }
        self.gateway = VirtualGateway(self._setting.loaded, self.ledger)
        async with self.gateway:
            traffic = self.traffic = TorturingTraffic(
                Random(self._random.getrandbits(32)), self.loop, self.ledger, self._setting
            )
            self.weather = Weather(
                Random(self._random.getrandbits(32)),
                ledger=self.ledger,
                network=self._network,
                engines=self.engines,
                gateway=self.gateway,
                setting=self._setting,
                traffic=traffic,
                calm_s=self._calm_s,
            )
            sending = self.loop.create_task(traffic.run())
            storms = self.loop.create_task(self.weather.run())
            if self._sabotage != Sabotage():
                self.loop.call_later(SABOTAGE_S, self._spoil)
            await asyncio.sleep(seconds)
            storms.cancel()
            traffic.stop()
            await self.weather.clear_up()
            await sending
            for _ in range(int(LONGEST_S)):
                if self.ledger.open:
                    await asyncio.sleep(LOOK_S)
            traffic.close()
            await asyncio.sleep(END_S)
            self._end()
            self.loop.on_quiet = lambda: None

    # Called by the loop.

    def _on_quiet(self) -> None:
        """Nothing more happens at this moment: look at everything, once a second. Raises Broken."""
        if self.ledger.broken is not None:
            raise Broken(self.ledger.broken)
        now_s = self.ledger.now_s = self.loop.time()
        if now_s < self._look_s or not hasattr(self, "weather"):
            return
        self._look_s = now_s + LOOK_S
        self.weather.look(now_s)
        for line in self._wrong(now_s):
            self.ledger.fail(line)
        self._referee(now_s)

    def _on_exception(self, _: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.ledger.fail(f"escaped: {context.get('message')}: {error!r}")

    def _on_attempt(self, request_id: str, engine: TorturedEngine, fate: Fate) -> None:
        ask = self.ledger.open.get(request_id)
        if ask is not None:
            ask.attempts.append((engine.host, fate))

    def _on_line(self, fields: dict[str, Any]) -> None:
        request_id = str(fields.get("request_id", ""))
        if request_id in self._lines:
            self.ledger.fail(f"the gateway has two lines about {request_id}")
        self._lines[request_id] = fields

    # Looking.

    def _wrong(self, now_s: float) -> Iterator[str]:
        plane = self.gateway.plane
        shared = plane if isinstance(plane, VirtualPlane) else None
        numbers = sorted(shared.workers) if shared else [0]
        for number, worker in zip(numbers, self.gateway.workers(), strict=True):
            yield from invariants.balance(worker, shared, number)
            yield from self._forgotten(number, worker, now_s)
        if shared is not None:
            yield from invariants.cells(shared)
        for ask in self.ledger.open.values():
            if now_s - ask.sent_s > LONGEST_S:
                yield f"hangs: {ask!r}, sent at {ask.sent_s:.1f} s"

    def _forgotten(self, number: int, worker: Worker, now_s: float) -> Iterator[str]:
        """Engines that have been well for long and get no requests."""
        if now_s - self.weather.bad_at_s < FORGIVEN_S:
            return
        for backend in worker.router.fleet.backends:
            if not backend.live(now_s) and backend.in_flight == 0:
                yield f"worker {number}: {backend!r} is well and gets no requests"

    def _well(self, now_s: float) -> dict[str, int]:
        """Engines in use, by model, that have been well for long."""
        well: dict[str, int] = {}
        for backend in self.gateway.fleet.backends:
            engine = self.engines[backend.url.split("/")[2].split(":")[0]]
            model = MODELS[backend.pool]  # in the middle of a reload the file may not name the pool
            well[model] = well.get(model, 0) + (now_s - engine.bad_at_s > SETTLED_S)
        return well

    def _referee(self, now_s: float) -> None:
        """Referee what has ended."""
        well = self._well(now_s)
        for ask in self.ledger.take():
            assert ask.ended_s is not None
            ask.line = self._lines.pop(ask.id, None)
            calm = self.weather.bad_at_s < ask.sent_s - SETTLED_S
            died = [s for s in self._died() if s >= ask.sent_s - 0.2]
            self.referee.see(
                ask,
                calm=calm,
                well=well.get(ask.model, 0),
                since_death_s=-1.0 if died else 1.0,
            )
        if len(self._lines) > 5000:
            self._lines.clear()

    def _died(self) -> list[float]:
        plane = self.gateway.plane
        return plane.deaths[-5:] if isinstance(plane, VirtualPlane) else []

    def _promised(self, ask: Ask) -> tuple[float, float] | None:
        slo = self._setting.promise(ask.model, ask.slo_class)
        return None if slo is None else (slo.ttft_s, slo.tpot_s)

    def _end(self) -> None:
        """All is over: nothing may be left."""
        self.ledger.now_s = self.loop.time()
        for ask in self.ledger.open.values():
            self.ledger.fail(f"never ended: {ask!r}")
        for number, worker in enumerate(self.gateway.workers()):
            for line in invariants.idle(worker, number):
                self.ledger.fail(line)
        for engine in self.engines.values():
            if engine.held:
                self.ledger.fail(f"nobody waits for what it generates: {engine!r}")
        self._referee(self.loop.time() + 3.0)
        self.referee.close()
        if self.ledger.broken is not None:
            raise Broken(self.ledger.broken)

    def _spoil(self) -> None:
        """Do what the sabotage says."""
        worker = next(iter(self.gateway.workers()))
        if self._sabotage.leak:
            backend = worker.router.fleet.backends[0]
            backend.add(1, 0, (0.01,), 0.0, 0.0)
        for engine in self.engines.values():
            if self._sabotage.slow:
                engine.spoil(slowdown=2.2)  # faster than the gateway finds it out
            if self._sabotage.fail:
                engine.spoil(share=1.0, fate=Fate.ERROR)

    def _unwind(self) -> None:
        """End what is left of this world and of dead workers, while the loop is open: nothing of it
        may run in the next world, when it is collected."""
        plane = getattr(self.gateway, "plane", None) if hasattr(self, "gateway") else None
        graves = plane.graves if isinstance(plane, VirtualPlane) else []
        for grave in graves:
            grave.process.unwind()
        live = () if plane is None else self.gateway.workers()
        for worker in (*live, *(grave.worker for grave in graves)):
            for active in worker.requests:
                active.abandon()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


class GatewayLog(logging.Handler):
    """Listens to the gateway's log while it is open: lines about requests, and errors, which a
    gateway never has."""

    def __init__(self, on_line: Any, on_error: Any) -> None:
        super().__init__(logging.INFO)
        self._on_line, self._on_error = on_line, on_error

    def __enter__(self) -> "GatewayLog":
        logger = logging.getLogger("cuvee")
        self._before = logger.level, logger.propagate
        logger.setLevel(logging.WARNING)
        logging.getLogger("cuvee.requests").setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logger = logging.getLogger("cuvee")
        logger.removeHandler(self)
        logger.level, logger.propagate = self._before
        logging.getLogger("cuvee.requests").setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", None)
        if fields is not None:
            self._on_line(fields)
        elif record.levelno >= logging.ERROR:
            cause = record.exc_info[1] if record.exc_info else ""
            self._on_error(f"the gateway logged an error: {record.getMessage()} {cause!r}")

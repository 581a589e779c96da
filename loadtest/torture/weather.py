"""What goes wrong in a simulated world, and when: storms of faults, and calm in between.

Chance is a seed; what a fault does is in the engines, the network and the plane.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from loadtest.torture.control import VirtualGateway
from loadtest.torture.engine import TorturedEngine
from loadtest.torture.fates import BAD
from loadtest.torture.ledger import Ledger
from loadtest.torture.network import Network
from loadtest.torture.plane import VirtualPlane
from loadtest.torture.setting import Setting
from loadtest.torture.traffic import TorturingTraffic

CALM_S, STORM_S = 300.0, 180.0  # mean lengths
GAP_S = 25.0  # mean time between two faults of a storm


class Weather:
    """Brings the faults, one after the other, several at a time.

    bad_at_s: when something was last wrong.
    """

    def __init__(
        self,
        random: Random,
        *,
        ledger: Ledger,
        network: Network,
        engines: dict[str, TorturedEngine],
        gateway: VirtualGateway,
        setting: Setting,
        traffic: TorturingTraffic,
        calm_s: float,
    ) -> None:
        """calm_s: mean time between two storms."""
        self._random, self._ledger, self._network = random, ledger, network
        self._engines, self._gateway = engines, gateway
        self._setting, self._traffic, self._calm_s = setting, traffic, calm_s
        self._running: set[asyncio.Task[None]] = set()
        self._struck: set[str] = set()  # hosts at which something is wrong
        self.bad_at_s = -1e9
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "crash": self._crash,
            "stall": self._stall,
            "slow": self._slow,
            "flap": self._flap,
            "fate": self._fate,
            "freeze": self._freeze,
            "poison": self._poison,
            "leave": self._leave,
            "death": self._death,
            "reload": self._reload,
        }

    async def run(self) -> None:
        """Storms and calm times, for ever."""
        while True:
            await asyncio.sleep(self._calm_s * (0.2 + self._random.expovariate(1.0)))
            until_s = self._ledger.now_s + self._random.expovariate(1 / STORM_S)
            self._ledger.note("a storm")
            while self._ledger.now_s < until_s:
                self._begin()
                await asyncio.sleep(self._random.expovariate(1 / GAP_S))

    async def clear_up(self) -> None:
        """Wait until no fault is left."""
        while self._running:
            await asyncio.gather(*self._running)

    def look(self, now_s: float) -> None:
        """Note whether something is wrong at this moment."""
        if self._running:
            self.bad_at_s = now_s
        for engine in self._engines.values():
            if not engine.state.fine or engine.host in self._struck:
                self.bad_at_s = engine.bad_at_s = now_s

    def _begin(self) -> None:
        name = self._random.choice(list(self._faults))
        self._ledger.counts["faults"] += 1
        self._ledger.counts[f"fault: {name}"] += 1
        task = asyncio.get_running_loop().create_task(self._strike(name))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _strike(self, name: str) -> None:
        await self._faults[name]()

    def _victim(self) -> TorturedEngine | None:
        """An engine in use at which nothing is wrong yet."""
        hosts = [h for hosts in self._setting.used.values() for h in hosts]
        free = [h for h in hosts if h not in self._struck]
        return self._engines[self._random.choice(free)] if free else None

    async def _trouble(self, begin: str, seconds: float, **state: object) -> None:
        """Have fields of an engine's state differ for a while."""
        engine = self._victim()
        if engine is None:
            return
        usual = {name: getattr(engine.state, name) for name in state}
        self._ledger.note(f"{engine.host}: {begin} {state} for {seconds:.0f} s")
        self._struck.add(engine.host)
        engine.change(**state)
        await asyncio.sleep(seconds)
        engine.change(**usual)
        self._struck.discard(engine.host)
        self._ledger.note(f"{engine.host}: well again")

    async def _crash(self) -> None:
        engine = self._victim()
        if engine is None:
            return
        self._struck.add(engine.host)
        self._ledger.note(f"{engine.host}: crashes")
        engine.crash()
        await asyncio.sleep(self._random.uniform(0.5, 40.0))
        if engine.state.down:
            engine.start()
        engine.change(loading=True)
        await asyncio.sleep(self._random.uniform(0.0, 30.0))
        engine.change(loading=False)
        self._struck.discard(engine.host)
        self._ledger.note(f"{engine.host}: started")

    async def _stall(self) -> None:
        deaf = self._random.random() < 0.5
        await self._trouble("stalls", self._random.uniform(1.0, 60.0), stalled=True, deaf=deaf)

    async def _slow(self) -> None:
        slowdown = self._random.uniform(1.5, 8.0)
        await self._trouble("is slow", self._random.uniform(5.0, 60.0), slowdown=slowdown)

    async def _flap(self) -> None:
        for _ in range(self._random.randint(1, 6)):
            sick = {"sick": True} if self._random.random() < 0.5 else {"deaf": True}
            await self._trouble("flaps", self._random.uniform(0.5, 8.0), **sick)
            await asyncio.sleep(self._random.uniform(0.5, 8.0))

    async def _fate(self) -> None:
        await self._trouble(
            "fails",
            self._random.uniform(2.0, 60.0),
            fate=self._random.choice(BAD),
            share=self._random.choice((0.2, 0.5, 1.0)),
        )

    async def _freeze(self) -> None:
        engine = self._victim()
        if engine is None:
            return
        self._struck.add(engine.host)
        self._ledger.note(f"{engine.host}: nothing gets through")
        self._network.freeze(engine.host)
        await asyncio.sleep(self._random.uniform(0.5, 30.0))
        self._network.thaw(engine.host)
        self._struck.discard(engine.host)
        self._ledger.note(f"{engine.host}: all gets through")

    async def _poison(self) -> None:
        self._ledger.note("poison")
        frail = self._random.random() < 0.3
        hosts = [engine for engine in self._engines.values() if not engine.state.down]
        for engine in hosts if frail else ():
            engine.change(frail=True)
        self._traffic.poison = self._random.choice((0.02, 0.1, 0.3))
        await asyncio.sleep(self._random.uniform(5.0, 40.0))
        self._traffic.poison = 0.0
        await asyncio.sleep(2.0)
        for engine in hosts if frail else ():
            if engine.state.down:
                engine.start()
            engine.change(frail=False)
        self._ledger.note("no more poison")

    async def _leave(self) -> None:
        self._ledger.note("all clients leave")
        self._traffic.all_leave()
        await asyncio.sleep(0)

    async def _death(self) -> None:
        plane = self._gateway.plane
        if isinstance(plane, VirtualPlane) and plane.workers:
            number = self._random.choice(sorted(plane.workers))
            self._ledger.note(f"worker {number} dies")
            self._ledger.counts["deaths"] += 1
            plane.die(number)
            await asyncio.sleep(1.0)

    async def _reload(self) -> None:
        what, loaded = self._setting.change()
        self._ledger.note(f"reload: {what}")
        await self._gateway.reload(loaded)
        self._ledger.note(f"in force: {what}, {self._gateway.fleet!r}")

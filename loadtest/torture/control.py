"""The control plane of a simulated world: real plans, probes, membership and changes of the
configuration, over a data plane in the same event loop. The solver solves in this process."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from gateway.adoption import Adoption
from gateway.config.change import change
from gateway.config.load import Loaded
from gateway.config.serving import serving
from gateway.control.health import Health
from gateway.control.pace import PoolPace
from gateway.control.solver import tasks
from gateway.control.solver.compare import Comparison, compare
from gateway.control.solver.process import Solver
from gateway.counting import Counting
from gateway.journal.journal import DecisionJournal
from gateway.planning import Planning
from gateway.proxy.probe import Probe
from gateway.rollout import Rollout
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.table import compile_table
from gateway.telemetry.metrics import Metrics
from gateway.workers.plane import DataPlane
from gateway.workers.worker import Worker
from loadtest.torture.ledger import Ledger
from loadtest.torture.network import VirtualSocket
from loadtest.torture.plane import SALT, VirtualPlane
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.request import PlanRequest

HOST, PORT = "gateway", 80
SOLVE_S = 0.7  # of virtual time, in which the world goes on


class SynchronousSolver(Solver):
    """Solves in this process; in the virtual world it takes `SOLVE_S`. Gives no certificates."""

    def __init__(self) -> None:
        super().__init__(limit_s=60.0)

    async def plan(self, request: PlanRequest) -> Plan:
        await asyncio.sleep(SOLVE_S)
        return tasks.plan(request)

    async def compare(self, request: PlanRequest, plan: Plan, candidate: Plan) -> Comparison:
        return compare(request, plan, candidate)


class VirtualGateway:
    """One gateway, as `App` composes it, without sockets, processes and an admin port.

    fleet: as the control plane sees it. plane: what serves.
    """

    plane: DataPlane

    def __init__(self, loaded: Loaded, ledger: Ledger) -> None:
        self._ledger = ledger
        self.loaded = loaded
        self.fleet = Fleet.of({name: pool.backends for name, pool in loaded.config.pools.items()})
        self._serving = serving(loaded)
        self._estimator = Estimator(self._serving.bytes_per_token)
        self._metrics = Metrics(self.fleet)
        self._planning = Planning(
            loaded,
            fleet=self.fleet,
            estimator=self._estimator,
            publish=self.publish,
            on_look=lambda result, _: ledger.counts.update([f"looks: {result}"]),
            solver=SynchronousSolver(),
        )
        self._changing = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "VirtualGateway":
        stack, settings = self._stack, self.loaded.config.gateway
        self._probe = await stack.enter_async_context(
            Probe(timeout_s=settings.health_timeout_s, upstreams=self._serving.upstreams)
        )
        await stack.enter_async_context(self._planning)
        self.plane = self._new_plane()
        clock = asyncio.get_running_loop().time
        journal = DecisionJournal(clock=clock, wall_clock=clock)
        self._counting = Counting(self.plane, self._planning, self._metrics, journal)
        self._health = Health(
            self.fleet,
            self._probe.well,
            on_probed=self.plane.on_probed,
            on_lost=self.plane.backend_lost,
        )
        self._rollout = Rollout(self.fleet, self.plane, self._health, self._probe)
        self._adoption = Adoption(
            self._serving,
            plane=self.plane,
            planning=self._planning,
            counting=self._counting,
            rollout=self._rollout,
            probe=self._probe,
        )
        await self._health.probe_all()
        await stack.enter_async_context(self.plane)
        self._background(self._health.run(lambda: self.loaded.config.gateway.health_interval_s))
        self._background(self._counting.run())
        self._planning.resume()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._planning.plan

    @property
    def paces(self) -> tuple[PoolPace, ...]:
        """How fast the engines were found to be."""
        return self._planning.paces.found

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools as plans count with them."""
        return self._planning.pools

    def workers(self) -> tuple[Worker, ...]:
        """The workers that live."""
        plane = self.plane
        return tuple(plane.live()) if isinstance(plane, VirtualPlane) else (plane,)  # type: ignore[return-value]

    def publish(self, plan: Plan, reason: str) -> None:
        """Put a plan in force."""
        self._ledger.counts["plans"] += 1
        self._ledger.note(f"plan {plan.plan_id}: {plan.backends} ({reason})")
        self.plane.table = compile_table(plan, self._planning.pools)

    async def reload(self, wanted: Loaded) -> None:
        """Put another configuration in force, as `App` does."""
        step = change(self.loaded, wanted)
        async with self._changing:
            await self._adoption.adopt(step, adopted=self._adopted)

    def _adopted(self, loaded: Loaded, _: Plan | None) -> None:
        self.loaded = loaded

    def _new_plane(self) -> DataPlane:
        table = compile_table(self.plan, self._planning.pools)
        if self.loaded.config.gateway.workers > 1:
            return VirtualPlane(
                self._serving,
                table,
                fleet=self.fleet,
                estimator=self._estimator,
                host=HOST,
                port=PORT,
            )
        worker = Worker(
            self._serving,
            table,
            fleet=self.fleet,
            estimator=self._estimator,
            sockets=(VirtualSocket(HOST, PORT),),  # type: ignore[arg-type]
            admin="http://admin:1",
        )
        worker.router.affinity.salt = SALT
        return worker

    def _background(self, loop: Any) -> None:
        self._stack.callback(asyncio.get_running_loop().create_task(loop).cancel)

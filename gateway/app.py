"""The composition root: builds every object, wires them, starts and stops them. Knows all of them.

Owns the control plane: solver, demand, health, metrics and the admin port. The data plane is one
worker in this process, or a crew of them in processes of their own; both have the same face.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from gateway.admin.server import JSON, AdminServer, Answer
from gateway.config.load import Loaded
from gateway.control.health import Health
from gateway.control.observed import ObservedDemand
from gateway.control.replan import Replanner, ReplanPolicy
from gateway.control.solver.process import Solver
from gateway.proxy.probe import Probe
from gateway.proxy.queue import Queue
from gateway.rehearsal.history import demand_of
from gateway.routing.backend import Backend
from gateway.routing.estimator import Estimator
from gateway.routing.router import Router
from gateway.routing.table import compile_table
from gateway.telemetry.exposition import CONTENT_TYPE
from gateway.telemetry.metrics import Metrics
from gateway.workers.local import readiness
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import Worker, fleet_of
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures
from planner.model.pool import Pool
from planner.traffic.trace import read_trace

log = logging.getLogger("cuvee")

CERTIFIER = (
    "gateway.rehearsal.certify:with_certificate"  # by name: only the solver's process imports it
)
COUNT_S = 0.2  # between two looks at what happened on the data plane


class App:
    """One gateway; an async context manager that serves while it is open."""

    def __init__(self, loaded: Loaded, *, host: str | None = None, port: int | None = None) -> None:
        """host, port: instead of the configured ones; port 0 takes a free one."""
        config = loaded.config
        self._loaded = loaded
        self._settings = config.gateway
        self._leaving = False
        self._reason = "the gateway started"
        self.fleet = fleet_of(loaded)
        self._estimator = Estimator.none({n: m.bytes_per_token for n, m in config.models.items()})
        self._metrics = Metrics(self.fleet)
        self._solver = Solver(limit_s=config.planner.solve_limit_s, certifier=CERTIFIER)
        self._stack = AsyncExitStack()
        self._host = host or self._settings.host
        self._port = self._settings.port if port is None else port

    async def __aenter__(self) -> "App":
        await self._stack.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drains: not ready at once, still serving for a while so that balancers notice, then no
        new requests; running ones may finish, and everything stops."""
        self._leaving = True
        self.plane.leave()
        await asyncio.sleep(self._settings.drain_delay_s)
        await self._stack.aclose()

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._replanner.plan

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The planner's pools, in the order of every plan."""
        return self._loaded.pools

    @property
    def port(self) -> int:
        """The data port."""
        return self.plane.port

    @property
    def admin(self) -> str:
        """The base URL of the admin port."""
        return self._admin.url

    @property
    def router(self) -> Router:
        """The router of the one worker in this process."""
        assert isinstance(self.plane, Worker)
        return self.plane.router

    @property
    def queue(self) -> Queue:
        """The queue of the one worker in this process."""
        assert isinstance(self.plane, Worker)
        return self.plane.queue

    def lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""
        self.plane.lost(backend)

    def publish(self, plan: Plan, reason: str) -> None:
        """Puts a plan in force: one assignment; requests under way keep their leases."""
        self.plane.table = compile_table(plan, self.pools)
        self._reason = reason
        self._metrics.planned(plan)
        backends = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True))
        log.info(
            "plan %s in force: %s, $%.2f/h (%s)", plan.plan_id, backends, plan.usd_per_hour, reason
        )

    async def _start(self) -> None:
        stack, settings, clock = self._stack, self._settings, asyncio.get_running_loop().time
        stack.enter_context(self._solver)
        probe = await stack.enter_async_context(Probe(timeout_s=settings.health_timeout_s))
        self._observed = self._new_observed(clock())
        plan = await self._first_plan()
        self._replanner = self._new_replanner(plan)
        self._metrics.planned(plan)
        self._admin = await stack.enter_async_context(
            AdminServer(self._answers(), host=settings.admin_host, port=settings.admin_port)
        )
        self.plane = self._new_plane(plan)
        self._health = Health(self.fleet, probe.answers, looked=self.plane.looked, lost=self.lost)
        await self._health.look()
        await stack.enter_async_context(self.plane)
        self._background(self._health.run(settings.health_interval_s))
        self._background(self._replanner.run(self._loaded.config.planner.interval_s, clock))
        self._background(self._counting())
        log.info(
            "listening on http://%s:%d, admin on %s", self.plane.host, self.port, self._admin.url
        )

    def _new_plane(self, plan: Plan) -> Worker | Supervisor:
        """What serves: this process, or several."""
        kind = Worker if self._settings.workers == 1 else Supervisor
        return kind(
            self._loaded,
            compile_table(plan, self.pools),
            fleet=self.fleet,
            estimator=self._estimator,
            host=self._host,
            port=self._port,
            admin=self._admin.url,
        )

    async def _first_plan(self) -> Plan:
        """For the configured workload, or for no known demand: then all backends share it."""
        loaded = self._loaded
        if loaded.workload is None:
            unknown = Demand.even(loaded.buckets)
            return await self._solver.plan("assign", unknown, loaded.pools, self._running)
        trace = read_trace(loaded.workload)
        demand = demand_of(trace, loaded, lengths=self._estimator.lengths)
        self._observed.remember(demand, trace.duration_s)
        objective = loaded.config.planner.objective
        plan = await self._solver.plan(
            objective, demand, loaded.pools, self._running, loaded.limits
        )
        return await self._solver.certify(plan, demand, loaded.pools)

    @property
    def _running(self) -> tuple[int, ...]:
        return tuple(len(self.fleet.pool(pool.name)) for pool in self.pools)

    def _new_observed(self, now_s: float) -> ObservedDemand:
        settings = self._loaded.config.planner
        return ObservedDemand(
            self._loaded.buckets,
            window_s=settings.window_s,
            memory_s=settings.memory_s,
            dispersion=settings.dispersion,
            now_s=now_s,
        )

    def _new_replanner(self, plan: Plan) -> Replanner:
        settings = self._loaded.config.planner
        return Replanner(
            plan=plan,
            pools=self.pools,
            running=self._running,
            policy=ReplanPolicy(
                objective=settings.objective,
                min_requests=settings.min_requests,
                min_saving=settings.min_saving,
                patience=settings.patience,
                limits=self._loaded.limits,
            ),
            observed=self._observed,
            solver=self._solver,
            publish=self.publish,
        )

    def _drain(self) -> None:
        """Hands what happened on to those who count."""
        sums = self.plane.drain()
        self._observed.add(sums, asyncio.get_running_loop().time())
        self._metrics.add(sums)
        if isinstance(self.plane, Supervisor):
            self._metrics.staffed(sum(map(bool, self.plane.pids)), self.plane.replaced)

    async def _counting(self) -> None:
        while True:
            await asyncio.sleep(COUNT_S)
            try:
                self._drain()
            except Exception:
                log.exception("what happened could not be counted")

    def _background(self, loop: Any) -> None:
        task = asyncio.get_running_loop().create_task(loop)
        self._stack.callback(task.cancel)

    def _answers(self) -> dict[str, Any]:
        """What the admin port answers, by path."""
        return {
            "/metrics": self._scrape,
            "/cuvee/plan": self._explain,
            "/readyz": self._ready,
            "/livez": _alive,
        }

    def _scrape(self) -> Answer:
        self._drain()
        return 200, CONTENT_TYPE, self._metrics.text()

    def _explain(self) -> Answer:
        return 200, JSON, msgspec.json.encode(plan_figures(self.plan) | {"reason": self._reason})

    def _ready(self) -> Answer:
        now_s, plan_id = asyncio.get_running_loop().time(), self.plan.plan_id
        status, body = readiness(self._loaded, self.fleet, plan_id, now_s, leaving=self._leaving)
        return status, JSON, msgspec.json.encode(body)


def _alive() -> Answer:
    return 200, JSON, b'{"status":"alive"}'

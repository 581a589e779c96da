"""The composition root: builds every object, wires them, starts and stops them. Knows all of them.

Owns the control plane: solver, demand, health, metrics and the admin port. The data plane is one
worker in this process, or several in processes of their own; both have the same face.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import msgspec

from gateway.admin.server import JSON, AdminServer, Answer
from gateway.config.load import Loaded
from gateway.config.serving import serving
from gateway.control.health import Health
from gateway.control.observed import ObservedDemand
from gateway.control.replan import Replanner, ReplanPolicy
from gateway.control.solver.process import Solver
from gateway.proxy.engines import dialects
from gateway.proxy.probe import Probe
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed
from gateway.routing.table import compile_table
from gateway.runtime import naming
from gateway.telemetry.exposition import CONTENT_TYPE
from gateway.telemetry.metrics import Metrics
from gateway.workers.local import readiness
from gateway.workers.plane import DataPlane
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import Worker
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures
from planner.model.pool import Pool
from planner.program.request import PlanRequest
from planner.traffic.trace import read_trace

log = logging.getLogger("cuvee")

# By name: only the solver's process imports it.
CERTIFIER = "gateway.rehearsal.certify:with_certificate"
COUNT_S = 0.2  # between two takings of what happened on the data plane


class App:
    """One gateway; an async context manager that serves while it is open.

    fleet: all backends known now. plane: what serves.
    """

    plane: DataPlane

    def __init__(self, loaded: Loaded, *, host: str | None = None, port: int | None = None) -> None:
        """host, port: instead of the configured ones; port 0 takes a free one."""
        config = loaded.config
        self._loaded = loaded
        self._serving = serving(loaded)
        self._settings = config.gateway
        self._leaving = False
        self._reason = "the gateway started"
        self.fleet = Fleet.of({name: pool.backends for name, pool in config.pools.items()})
        self._estimator = Estimator(self._serving.bytes_per_token)
        self._metrics = Metrics(self.fleet)
        self._solver = Solver(limit_s=config.planner.solve_limit_s, certifier=CERTIFIER)
        self._changing = asyncio.Lock()  # changes of the fleet follow one another
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

    def kill(self) -> None:
        """End the worker processes now, without waiting for requests. The caller must end this
        process next."""
        if hasattr(self, "plane"):  # the gateway may still be starting
            self.plane.kill()

    @property
    def in_flight(self) -> int:
        """Requests that backends hold now, as of the last count."""
        return sum(backend.in_flight for backend in self.fleet.backends)

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._replanner.plan

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The planner's pools, in the order of every plan: where the configuration does not bound a
        pool, it has as many backends as the fleet has."""
        sections = self._loaded.config.pools
        return tuple(
            replace(pool, max_backends=max(pool.min_backends, len(self.fleet.pool(pool.name))))
            if sections[pool.name].max_backends is None
            else pool
            for pool in self._loaded.pools
        )

    @property
    def running(self) -> tuple[int, ...]:
        """(P,) backends that the fleet has now, in the order of every plan."""
        return self.fleet.running([pool.name for pool in self._loaded.pools])

    @property
    def port(self) -> int:
        """The data port."""
        return self.plane.port

    @property
    def admin(self) -> str:
        """The base URL of the admin port."""
        return self._admin.url

    async def apply(self, urls: Mapping[str, Sequence[str]]) -> None:
        """Serve with these backends from now on, in every worker.

        urls: base URLs by pool; a pool that is not named keeps its backends. New ones get requests
        once a probe was good; only after that probe do others leave, so that no pool is empty in
        between. Those that leave finish what they have. Raises ConfigError, and changes nothing,
        for a pool that does not exist, a URL that occurs twice in a pool, or more backends than
        there is room for.
        """
        async with self._changing:
            before = self.fleet.membership
            wanted = changed(before, urls, in_use=self.plane.rows_in_use()).urls()
            await self._add(wanted)
            self.plane.apply(
                changed(self.fleet.membership, wanted, in_use=self.plane.rows_in_use())
            )
            staying = {(member.pool, member.url) for member in self.fleet.membership.members}
            for member in before.members:
                if (member.pool, member.url) not in staying:
                    self._probe.forget(member.pool, member.url)
            log.info("backends: %s", ", ".join(f"{p} {len(u)}" for p, u in wanted.items()))

    async def _add(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Add these backends to the present ones, and probe them."""
        present = self.fleet.membership.urls()
        both = {pool: tuple(dict.fromkeys((*present[pool], *wanted[pool]))) for pool in present}
        if both != present:
            self.plane.apply(changed(self.fleet.membership, both, in_use=self.plane.rows_in_use()))
            await self._health.probe_all()

    def publish(self, plan: Plan, reason: str) -> None:
        """Put a plan in force: one assignment; requests under way keep their leases."""
        self.plane.table = compile_table(plan, self._loaded.pools)
        self._reason = reason
        self._metrics.planned(plan)
        backends = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True))
        log.info(
            "plan %s in force: %s, $%.2f/h (%s)", plan.plan_id, backends, plan.usd_per_hour, reason
        )

    async def _start(self) -> None:
        stack, settings, clock = self._stack, self._settings, asyncio.get_running_loop().time
        stack.enter_context(self._solver)
        self._probe = await stack.enter_async_context(
            Probe(timeout_s=settings.health_timeout_s, dialects=dialects(self._serving.engines))
        )
        self._observed = self._new_observed(clock())
        plan = await self._first_plan()
        self._replanner = self._new_replanner(plan)
        self._metrics.planned(plan)
        with naming("gateway.admin_port", settings.admin_host, settings.admin_port):
            self._admin = await stack.enter_async_context(
                AdminServer(self._answers(), host=settings.admin_host, port=settings.admin_port)
            )
        self.plane = self._new_plane(plan)
        self._health = self._new_health()
        await self._health.probe_all()
        with naming("gateway.port", self._host, self._port):
            await stack.enter_async_context(self.plane)
        self._background(self._health.run(settings.health_interval_s))
        self._background(self._replanner.run(self._loaded.config.planner.interval_s, clock))
        self._background(self._count_forever())
        log.info(
            "listening on http://%s:%d, admin on %s", self.plane.host, self.port, self._admin.url
        )

    def _new_plane(self, plan: Plan) -> DataPlane:
        """A worker in this process, or a supervisor of several."""
        plane = Worker if self._settings.workers == 1 else Supervisor
        return plane(
            self._serving,
            compile_table(plan, self._loaded.pools),
            fleet=self.fleet,
            estimator=self._estimator,
            host=self._host,
            port=self._port,
            admin=self._admin.url,
        )

    def _new_health(self) -> Health:
        return Health(
            self.fleet,
            self._probe.well,
            on_probed=self.plane.on_probed,
            on_lost=self.plane.backend_lost,
        )

    async def _first_plan(self) -> Plan:
        """For the configured workload, or for no known demand: then all backends share it."""
        loaded, pools = self._loaded, self.pools
        if loaded.workload is None:
            even = PlanRequest(
                objective="assign",
                demand=Demand.even(loaded.buckets),
                pools=pools,
                running=self.running,
            )
            return await self._solver.plan(even)
        trace = read_trace(loaded.workload)
        demand = demand_of(trace, loaded, estimator=self._estimator)
        self._observed.remember(demand, trace.duration_s)
        request = PlanRequest(
            objective=loaded.config.planner.objective,
            demand=demand,
            pools=pools,
            running=self.running,
            limits=loaded.limits,
        )
        return await self._solver.certify(await self._solver.plan(request), demand, pools)

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
            pools=lambda: self.pools,
            running=lambda: self.running,
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

    def _count(self) -> None:
        """Add what happened on the data plane to the observed demand and the metrics."""
        delta = self.plane.drain()
        self._observed.add(delta, asyncio.get_running_loop().time())
        self._metrics.add(delta)
        self._metrics.staffed(self.plane.gauges(), self.plane.replaced)

    async def _count_forever(self) -> None:
        while True:
            await asyncio.sleep(COUNT_S)
            try:
                self._count()
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
        self._count()
        return 200, CONTENT_TYPE, self._metrics.text()

    def _explain(self) -> Answer:
        return 200, JSON, msgspec.json.encode(plan_figures(self.plan) | {"reason": self._reason})

    def _ready(self) -> Answer:
        now_s, plan_id = asyncio.get_running_loop().time(), self.plan.plan_id
        status, body = readiness(self._serving, self.fleet, plan_id, now_s, leaving=self._leaving)
        return status, JSON, msgspec.json.encode(body)


def _alive() -> Answer:
    return 200, JSON, b'{"status":"alive"}'

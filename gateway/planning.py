"""The plans of one gateway: the first one, those for the demand as it changes, and the one for
another configuration. Owns solver, observed demand and the loop that plans again. Knows no worker.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.bill import running_bill
from gateway.config.load import Loaded
from gateway.control.observed import ObservedDemand
from gateway.control.pace import Paces
from gateway.control.replan import Replanner, ReplanPolicy
from gateway.control.solver.process import Solver
from gateway.plannable import bounded, depends_on, usable
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.telemetry.stats_schema import StatsDelta
from planner.engine.limits import EngineLimits
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.request import PlanRequest
from planner.sizes import FloatArray
from planner.traffic.size_histogram import CellSum
from planner.traffic.trace import read_trace

log = logging.getLogger("cuvee.pace")

REVIEW_S = 10.0  # between two reviews of the paces of backends
# By name: only the solver's process imports it.
SEALER = "gateway.rehearsal.certify:sealed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A plan that is not in force yet. demand, seconds: what it was made for where that is a trace,
    and how long that is; else `None`."""

    plan: Plan
    demand: Demand | None = None
    seconds: float = 0.0


class Planning:
    """The plan in force, and what replaces it; an async context manager.

    paces: how fast pools and backends are beside their profiles. limits: that engines tell of
    themselves, by pool; where they are tighter than the profile's, they are planned with.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        fleet: Fleet,
        estimator: Estimator,
        publish: Callable[[Plan, str], None],
        on_look: Callable[[str, str], None],
        on_certificate: Callable[[Plan], None] = lambda _: None,
        solver: Solver | None = None,
    ) -> None:
        """publish: called with a plan for another demand, and the reason for it. on_look,
        on_certificate: see `Replanner`. solver: default: one in a process of its own."""
        self._loaded = loaded
        self._fleet = fleet
        fleet.warmup_s = loaded.config.gateway.warmup_s  # what is cold is not planned with
        self._estimator = estimator
        self._publish = publish
        self._on_look, self._on_certificate = on_look, on_certificate
        self._clock = asyncio.get_running_loop().time
        self._solver = solver or Solver(
            limit_s=loaded.config.planner.solve_limit_s,
            sealer=SEALER,
            seal_cpu_s=loaded.config.planner.certify_cpu_s,
        )
        self.limits: Mapping[str, EngineLimits] = {}
        self.paces = Paces(loaded.pools)
        self._review_s = self._clock() + REVIEW_S
        self._looking: asyncio.Task[None] | None = None
        self._leads = self._paused = True

    async def __aenter__(self) -> "Planning":
        """Make the first plan: for the configured workload, or for no known demand."""
        loaded = self._loaded
        settings = loaded.config.planner
        self._observed = ObservedDemand(
            loaded.buckets,
            window_s=settings.window_s,
            memory_s=settings.memory_s,
            dispersion=settings.dispersion,
            now_s=self._clock(),
        )
        self._solver.__enter__()
        try:
            draft = await self._draft(loaded, self._observed, self.running, self._estimator)
        except BaseException:
            self._solver.__exit__(None, None, None)
            raise
        self._follow(draft)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leads = False
        self.pause()
        self._solver.__exit__(None, None, None)

    @property
    def solver_pid(self) -> int | None:
        """The id of the solver's process, if there is one."""
        return self._solver.pid

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._replanner.plan

    @property
    def replanner(self) -> Replanner:
        """What plans again; another one for each configuration."""
        return self._replanner

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The planner's pools, in the order of every plan: where the configuration does not bound a
        pool, it has as many backends as the fleet has; with profiles at the pace that was
        observed."""
        return self.paced(self._loaded, self.running)

    @property
    def running(self) -> tuple[int, ...]:
        """(P,) backends that the fleet has now, in the order of every plan."""
        return self._fleet.running([pool.name for pool in self._loaded.pools])

    @property
    def backends(self) -> dict[str, int]:
        """The backends that the fleet has now, by pool."""
        names = [pool.name for pool in self._loaded.pools]
        return dict(zip(names, self.running, strict=True))

    @property
    def bill(self) -> tuple[dict[str, float], float]:
        """What they cost, as `running_bill` has it."""
        return running_bill(self._loaded, self._fleet)

    @property
    def ready(self) -> tuple[int, ...]:
        """(P,) backends that can be planned with."""
        pools = self._loaded.pools
        ready = self._fleet.ready([pool.name for pool in pools], self._clock())
        return usable(pools, ready, self.running)

    def add(self, delta: StatsDelta, *, seen: float = 1.0) -> None:
        """Add what happened on the data plane to the observed demand and to the paces. seen: the
        share of the workers that report."""
        now_s = self._clock()
        served = any(self._fleet.ready([pool.name for pool in self._loaded.pools], now_s))
        self._observed.add(delta, now_s, seen=seen if served else 0.0)
        self.paces.add(delta.stays, now_s)
        if now_s >= self._review_s:
            self._review_s = now_s + REVIEW_S
            self.paces.keep(backend.name for backend in self._fleet.backends)
            for line in self.paces.review(now_s):
                log.warning("%s", line)

    def watched_s(self) -> float:
        """For how long all arrivals have been observed until now, seconds."""
        return self._observed.watched_s(self._clock())

    @property
    def window_s(self) -> float:
        """How far back `recent` looks at most, seconds."""
        return min(self._loaded.config.planner.window_s, self.watched_s())

    def recent(self, seconds: float) -> FloatArray:
        """(B,) requests/s of the last seconds."""
        return self._observed.recent(self._clock(), seconds)

    def demand_at(self, rate: FloatArray) -> Demand:
        """The demand at other rates, (B,) requests/s, with the sizes that are remembered."""
        return self._observed.at(rate, self._clock())

    async def solve(self, request: PlanRequest) -> Plan:
        """A plan that is not put in force; takes its turn among the looks. Raises PlannerError."""
        return await self._solver.plan(request)

    def pause(self) -> None:
        """Do not look at the demand until `resume`; a look under way is given up."""
        self._paused = True
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def resume(self) -> None:
        """Look at the demand at intervals from now on, if this gateway plans."""
        self._paused = False
        if not self._leads or self._looking is not None:
            return
        looks = self._replanner.run(self._loaded.config.planner.interval_s, self._clock)
        self._looking = asyncio.get_running_loop().create_task(looks)

    def lead(self, leads: bool) -> None:
        """Whether this gateway plans, from now on; if not, another one does, and a look under way
        is given up."""
        self._leads, paused = leads, self._paused
        if not leads:
            self.pause()
            self._paused = paused
        elif not paused:
            self.resume()

    def follow(self, plan: Plan) -> None:
        """Another gateway has put this plan in force."""
        if plan.plan_id != self.plan.plan_id:
            self.paces.settle()
        self._replanner.follow(plan)

    @property
    def sizes(self) -> dict[tuple[int, int], CellSum]:
        """All that is remembered of actual sizes, by bucket and fine cell."""
        return self._observed.sizes

    def recall(self, sizes: Mapping[tuple[int, int], CellSum]) -> None:
        """Add sizes that another gateway remembers, if nothing else is known."""
        if self._observed.nothing:
            self._observed.recall(sizes)

    async def draft(
        self, loaded: Loaded, running: tuple[int, ...], before: tuple[int, ...] | None = None
    ) -> Draft:
        """A plan for another configuration: the one in force if nothing that it depends on differs;
        else for the demand as observed, or as at the start where too little was. Has no
        certificate. Raises PlannerError; changes nothing.

        running: (P,) backends that the pools will have. before: that they had under the plan in
        force; `None`: those of now.
        """
        same = running == (self.running if before is None else before)
        if same and depends_on(loaded) == depends_on(self._loaded):
            return Draft(plan=self.plan)
        scratch = Estimator(self._bytes_per_token(loaded))
        return await self._draft(loaded, self._carried(loaded), running, scratch)

    def adopt(self, loaded: Loaded, draft: Draft) -> None:
        """Plan for another configuration from now on; the fleet has all its pools. Keeps what was
        observed of classes that stay."""
        self._observed, self._loaded = self._carried(loaded), loaded
        self.paces.configure(loaded.pools)
        if draft.plan is not self.plan:
            self.paces.settle()
        self._fleet.warmup_s = loaded.config.gateway.warmup_s
        self._solver.limit_s = loaded.config.planner.solve_limit_s
        self._solver.seal_cpu_s = loaded.config.planner.certify_cpu_s
        self._follow(draft)

    def _bytes_per_token(self, loaded: Loaded) -> dict[str, float]:
        return {name: model.bytes_per_token for name, model in loaded.config.models.items()}

    async def _draft(
        self,
        loaded: Loaded,
        observed: ObservedDemand,
        running: tuple[int, ...],
        estimator: Estimator,
    ) -> Draft:
        """estimator: learns the sizes of the workload."""
        settings, pools = loaded.config.planner, self.paced(loaded, running)
        request = PlanRequest(
            objective="assign",
            demand=Demand.even(loaded.buckets),
            pools=pools,
            running=running,
        )
        known: Demand | None = None
        if observed.requests >= settings.min_requests:
            known = observed.snapshot(self._clock())
        elif settings.objective == "provision":
            known = observed.faded(self._clock(), settings.min_requests)
        if known is not None:
            request = replace(
                request,
                objective=settings.objective,
                demand=known,
                limits=replace(loaded.limits, running=running),
            )
        elif loaded.workload is not None:
            trace = read_trace(loaded.workload, model=next(iter(loaded.config.models)))
            demand = await asyncio.to_thread(demand_of, trace, loaded, estimator=estimator)
            request = replace(
                request, objective=settings.objective, demand=demand, limits=loaded.limits
            )
            plan = await self._solver.plan(request)
            return Draft(plan=plan, demand=demand, seconds=trace.duration_s)
        plan = await self._solver.plan(request)
        # What runs is not compared with what a guess would cost on one GPU type.
        return Draft(plan=replace(plan, singles=()) if known is None else plan)

    def _published(self, plan: Plan, reason: str) -> None:
        self._publish(plan, reason)
        self.paces.settle()

    def paced(self, loaded: Loaded, running: tuple[int, ...]) -> tuple[Pool, ...]:
        """The pools of a configuration with the profiles that plans count with."""
        pools = bounded(loaded, running)
        if loaded.config.planner.correction:
            pools = self.paces.corrected(pools)
        return tuple(
            replace(pool, profile=told.within(pool.profile))
            if (told := self.limits.get(pool.name)) is not None
            else pool
            for pool in pools
        )

    def _carried(self, loaded: Loaded) -> ObservedDemand:
        settings = loaded.config.planner
        return self._observed.carried(
            loaded.buckets,
            window_s=settings.window_s,
            memory_s=settings.memory_s,
            dispersion=settings.dispersion,
            now_s=self._clock(),
        )

    def _follow(self, draft: Draft) -> None:
        """Look at the demand with this plan in force."""
        if draft.demand is not None and self._observed.nothing:
            self._observed.remember(draft.demand, draft.seconds)
        settings = self._loaded.config.planner
        self._replanner = Replanner(
            plan=draft.plan,
            demand=draft.demand,
            pools=lambda: self.paced(self._loaded, self.ready),
            running=lambda: self.running,
            ready=lambda: self.ready,
            policy=ReplanPolicy(
                objective=settings.objective,
                min_requests=settings.min_requests,
                min_saving=settings.min_saving,
                patience=settings.patience,
                limits=self._loaded.limits,
            ),
            observed=self._observed,
            solver=self._solver,
            publish=self._published,
            on_look=self._on_look,
            on_certificate=self._on_certificate,
            outpaced=lambda: self._loaded.config.planner.correction and self.paces.outpaced,
        )

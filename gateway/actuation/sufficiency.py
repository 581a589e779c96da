"""What the solver says of the fleet within one horizon: which is the cheapest, and whether that
which is there will do.

`needs` states the programs. Orders nothing. Times are seconds on the event loop's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.actuation.moving_pool import MovingPool
from gateway.actuation.needs import Bounds, holds, needs
from gateway.actuation.ordering import Ordering
from gateway.actuation.shortages import Shortages
from gateway.config.load import Loaded
from gateway.planning import Planning
from planner.model.plan import Plan
from planner.program.limits import Limits, backend_price
from planner.program.request import PlanRequest
from planner.scaling.sleeping import SleepTerms
from planner.sizes import FloatArray

# Of its price, what one that sleeps is taken to cost at least: a program takes any number of what
# costs nothing.
FLOOR = 0.01
CLEARLY = 0.01  # so much cheaper must another fleet be


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetQuestion:
    """What the fleet may be until one horizon is over.

    loaded: the configuration. have: backends by pool that there are, or will be by then. bounds:
    fewest and most, of pools that are scaled. usd: $/h of one backend more, by pool, where it is
    not the pool's price. start_usd: what one backend more costs at least. shortages: as `needs` has
    them. asleep_counts: whether those that sleep are among those that there are.
    """

    loaded: Loaded
    have: Mapping[str, int]
    bounds: Bounds
    limits: Limits
    start_usd: float
    shortages: Shortages
    usd: Mapping[str, float]
    asleep_counts: bool

    @property
    def exchanged(self) -> frozenset[str]:
        """Pools that share GPUs: one may take the place of what another has there."""
        return frozenset(pool.name for pool in self.loaded.pools if pool.shared is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """needed: backends by pool of the cheapest fleet; plan: the whole of it. holding: (P,) whether
    what there is does for the lower demand. more: of the cheapest fleet that keeps what there is;
    `None` where that is not asked, since all holds."""

    plan: Plan
    needed: Mapping[str, int]
    holding: tuple[bool, ...]
    more: Mapping[str, int] | None

    def enough(self, name: str) -> int:
        """The most of a pool that is needed in any case."""
        return self.needed[name] if self.more is None else max(self.needed[name], self.more[name])

    def beside(self, have: Mapping[str, int]) -> list[int] | None:
        """(P,) what a policy may order beside what there is."""
        return None if self.more is None else [max(self.more[name], have[name]) for name in have]


def _within(limits: Limits) -> Limits:
    """Without stock and budget: what there is, is within them, asleep or awake."""
    return replace(limits, stock=(), budget_usd_per_hour=None)


class Sufficiency:
    """Asks the solver, at its turn among the looks."""

    def __init__(self, planning: Planning, ordering: Ordering) -> None:
        self._planning, self._ordering = planning, ordering

    def __repr__(self) -> str:
        return f"<Sufficiency of {self._ordering!r}>"

    def until_started(self, loaded: Loaded, now_s: float) -> FleetQuestion:
        """Until one that is started now would be ready. Those that sleep count where they are
        to."""
        scaled, ordering = self._ordering.pools, self._ordering
        have = ordering.presence.counts(pool.name for pool in loaded.pools)
        starts = []
        for pool in loaded.pools:
            if (own := scaled.get(pool.name)) is not None:
                starts.append(pool.usd_per_hour * own.start_h)
                if own.sleep_terms(pool).most_asleep:
                    have[pool.name] += ordering.present(pool.name).asleep
        return FleetQuestion(
            loaded=loaded,
            have=have,
            bounds={n: self.bounds(loaded, pool, have[n], now_s) for n, pool in scaled.items()},
            asleep_counts=True,
            limits=loaded.limits,
            start_usd=min(starts),
            shortages=ordering.shortages,
            usd={},
        )

    def until_woken(self, loaded: Loaded) -> FleetQuestion | None:
        """Until one that is woken now would be ready: what serves, and what sleeps and could be
        woken; a backend more costs what its sleep saves. `None` where none is to sleep."""
        scaled, present = self._ordering.pools, self._ordering.present
        have, bounds, usd, wakes = {}, {}, {}, []
        for pool in loaded.pools:
            name = pool.name
            own, there = scaled.get(name), present(name)
            have[name] = there.serving + there.waking
            if own is None:
                continue
            bounds[name] = (have[name], have[name])
            terms = own.sleep_terms(pool)
            if terms.most_asleep:
                most = have[name] + there.asleep
                bounds[name] = (min(own.least, most), most)
                usd[name] = terms.saves_usd_per_hour
                wakes.append(usd[name] * own.wakes.mean_s / 3600.0)
        if not usd:
            return None
        return FleetQuestion(
            loaded=loaded,
            have=have,
            bounds=bounds,
            limits=_within(loaded.limits),
            start_usd=min(wakes),
            shortages=Shortages(1.0),
            usd=usd,
            asleep_counts=False,
        )

    def bounds(self, loaded: Loaded, pool: MovingPool, have: int, now_s: float) -> tuple[int, int]:
        """Fewest and most; where its GPUs cannot be had, as many as there are will do, and one more
        when it is time to try."""
        own = next(one for one in loaded.pools if one.name == pool.name)
        if own.shared is not None:  # nothing is started beside what lives there
            return min(pool.least, have), have
        short = self._ordering.shortages.of(own)
        if short is None:
            return pool.least, pool.most
        return min(pool.least, have + (now_s >= short.try_s)), pool.most

    async def ask(
        self, question: FleetQuestion, upper: FloatArray, lower: FloatArray, now_s: float
    ) -> Requirement:
        """upper: (B,) requests/s to provide for; lower: that what there is must hold, so that no
        more is ordered. Raises PlannerError."""
        plan = await self._cheapest(question, question.bounds, upper, now_s)
        needed = dict(zip(plan.pools, plan.backends, strict=True))
        holding = await self._holding(question, lower, needed)
        more = None
        if not all(holding):
            keeping = {
                name: (max(least, min(most, question.have[name])), most)
                if name not in question.exchanged
                else (least, most)
                for name, (least, most) in question.bounds.items()
            }
            beside = await self._cheapest(question, keeping, upper, now_s)
            more = dict(zip(beside.pools, beside.backends, strict=True))
        return Requirement(plan=plan, needed=needed, holding=holding, more=more)

    async def at_best_price(
        self, whole: FleetQuestion, upper: FloatArray, soon: FloatArray, now_s: float
    ) -> FleetQuestion:
        """The question of `until_started` at the price at which the cheaper fleet is found, where
        another pool of the model could take the place of one that may sleep.

        At full prices those that will sleep look too dear, at the price of sleep those that will
        be awake too cheap: both fleets are divided, and their real costs compared. upper: (B,)
        requests/s until a start is over, soon: until a waking is.
        """
        terms = self._rivals(whole.loaded)
        if not terms or whole.limits.budget_usd_per_hour is not None:
            return whole
        usd = {n: max(t.asleep_usd_per_hour, FLOOR * t.usd_per_hour) for n, t in terms.items()}
        slept = replace(whole, usd=usd)
        plans = [await self._cheapest(one, one.bounds, upper, now_s) for one in (whole, slept)]
        if plans[0].backends == plans[1].backends:
            return whole
        costs = [await self._column_usd(whole, plan, terms, soon, now_s) for plan in plans]
        return slept if costs[1] < (1 - CLEARLY) * costs[0] else whole

    def _rivals(self, loaded: Loaded) -> dict[str, SleepTerms]:
        """Of pools that may sleep, if there is another scaled pool of the model of any of them."""
        scaled = [pool for pool in loaded.pools if pool.name in self._ordering.pools]
        terms = {
            pool.name: self._ordering.pools[pool.name].sleep_terms(pool)
            for pool in scaled
            if pool.shared is None
        }
        models = [pool.model for pool in scaled]
        able = {p.name: p.model for p in scaled if p.name in terms and terms[p.name].most_asleep}
        if not any(models.count(model) > 1 for model in able.values()):
            return {}
        return {name: terms[name] for name in able}

    async def _column_usd(
        self,
        whole: FleetQuestion,
        plan: Plan,
        terms: Mapping[str, SleepTerms],
        soon: FloatArray,
        now_s: float,
    ) -> float:
        """$/h of the scaled pools of a plan, divided for (B,) requests/s until a waking is over."""
        total = dict(zip(plan.pools, plan.backends, strict=True))
        bounds = {name: (total[name], total[name]) for name in whole.bounds}
        for name, own in terms.items():
            bounds[name] = (max(0, total[name] - own.most_asleep), total[name])
        question = replace(
            whole,
            limits=_within(whole.limits),
            start_usd=0.0,
            shortages=Shortages(1.0),
            usd={name: own.saves_usd_per_hour for name, own in terms.items()},
        )
        made = await self._cheapest(question, bounds, soon, now_s)
        awake = dict(zip(made.pools, made.backends, strict=True))
        prices = {pool.name: backend_price(pool) for pool in whole.loaded.pools}
        return sum(
            prices[name] * total[name]
            - (terms[name].saves_usd_per_hour * (total[name] - awake[name]) if name in terms else 0)
            for name in whole.bounds
        )

    async def _cheapest(
        self, question: FleetQuestion, bounds: Bounds, rate: FloatArray, now_s: float
    ) -> Plan:
        pools = self._planning.paced(question.loaded, tuple(question.have.values()))
        priced = tuple(
            replace(pool, usd_per_hour=question.usd.get(pool.name, pool.usd_per_hour))
            for pool in pools
        )
        request = needs(
            self._planning.demand_at(rate),
            priced,
            bounds=bounds,
            coming=question.have,
            limits=question.limits,
            shortages=question.shortages,
            start_usd=question.start_usd,
            now_s=now_s,
        )
        return await self._planning.solve(request)

    async def _holding(
        self, question: FleetQuestion, rate: FloatArray, needed: Mapping[str, int]
    ) -> tuple[bool, ...]:
        """(P,) whether what there is will do for (B,) requests/s, if it is not all that is
        needed."""
        pools = question.loaded.pools
        if all(needed[name] <= count for name, count in question.have.items()):
            return (True,) * len(pools)
        counts = dict(question.have)
        if question.asleep_counts:  # not all that live on shared GPUs can be awake
            counts |= {name: needed[name] for name in question.exchanged}
        running = tuple(counts.values())
        request = PlanRequest(
            objective="assign",
            demand=self._planning.demand_at(rate),
            pools=self._planning.paced(question.loaded, running),
            running=running,
        )
        return holds(await self._planning.solve(request), pools)

"""The cheapest certified fleet to rent for a workload, where there is no fleet yet.

Owns which fleets are worth playing of all that could be rented: a search over every GPU type alone
and in twos, fours and eights would play thousands. Knows no file and no command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log2

import msgspec

from gateway.config.load import without_file
from gateway.config.schema import BucketSection
from gateway.rehearsal.certify import Certified, certified
from gateway.rehearsal.history import TraceSource, demand_of
from gateway.routing.estimator import Estimator
from planner.costs.rentable import LeftOut, holding, promised, rentable_pools, undominated
from planner.costs.single_types import single_types
from planner.costs.unit_cost import UnitCost, unit_cost
from planner.engine.hardware import Model
from planner.model.demand import Demand
from planner.model.plan import Certificate, Plan
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.slo import Slo
from planner.traffic.trace import Trace

TYPES = 2  # GPU types whose cheapest fleets are played
SEEDS = 4  # rehearsals of one certificate: the answer is wanted within a minute
# A GPU type of which the planner says that it cannot serve so much is played after all others.
MOST_UNSERVED = 0.05
CHEAPEST = 1  # pools of either kind, in `_cheapest`: each more takes seconds
MOST_REQUESTS = 0.5  # share of the requests; a pool that promises less is for special sizes
COUNTED = 1e-9  # of a backend: less is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class RentalRequest:
    """What is to be served. model: its sizes, under the name that requests have. slo: the promise.
    trace: sizes and arrivals. rate: requests/s, `None` for the trace's own. usd: $ per GPU-hour.
    """

    model: Model
    slo: Slo
    trace: Trace
    rate: float | None
    usd: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneFleet:
    """One GPU type for the whole demand.

    plan: the certified fleet with its certificate, or, where none was played, the planner's own
    for the demand without bursts. lower_bound_usd_per_hour: the fluid bound of that plan in whole
    backends: no fleet of this type that serves as much costs less. played: whether fleets
    with this type were played.
    """

    gpu: str
    plan: Plan
    played: bool
    certificate: Certificate | None
    lower_bound_usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """The answer: the cheapest certified fleet that was found, and what it was compared with.

    plan, certificate: of that fleet; if none was certified, of the one that came nearest. pools:
    of the plan. cost: of its tokens. alone: by GPU type, certified ones first, then by price.
    left_out: the backends that could not be used. considered: how many could.
    """

    demand: Demand
    pools: tuple[Pool, ...]
    plan: Plan
    certificate: Certificate
    cost: UnitCost
    alone: tuple[AloneFleet, ...]
    left_out: tuple[LeftOut, ...]
    considered: int
    played: int

    @property
    def best_alone(self) -> AloneFleet | None:
        """The cheapest certified fleet of one GPU type; `None` if there is none."""
        held = [one for one in self.alone if one.certificate is not None and one.certificate.holds]
        return min(held, key=lambda one: one.plan.usd_per_hour, default=None)

    @property
    def saving(self) -> float | None:
        """What the plan saves of the best single type's cost; `None` where one does not hold."""
        best = self.best_alone
        if best is None or not self.certificate.holds or not best.plan.usd_per_hour:
            return None
        return 1 - self.plan.usd_per_hour / best.plan.usd_per_hour


def cheapest_rental(
    request: RentalRequest,
    *,
    seeds: int = SEEDS,
    requests: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rental:
    """Find the cheapest certified fleet of all GPU types with a price.

    seeds, requests: of rehearsals, as `certified` has them. progress: called with a line about each
    step. Raises InvalidValue if no fleet could serve any of it.
    """
    trace, model = request.trace, request.model.name
    longest = int((trace.input_tokens + trace.output_tokens).max())
    rentable = rentable_pools(model, request.model, request.usd, longest=longest)
    loaded = without_file(model, request.slo, rentable.pools, _grid(trace))
    demand = demand_of(trace, loaded, estimator=Estimator(), model=model)
    demand = demand if request.rate is None else demand.scaled_to(request.rate)
    rentable = holding(rentable, demand)
    alone = _alone(demand, rentable.pools)
    pools = _contenders(demand, rentable.pools, alone)
    progress(f"{len(pools)} of {len(rentable.pools)} pools: {', '.join(p.name for p in pools)}")
    search = partial(
        certified,
        msgspec.structs.replace(loaded, pools=pools),
        [TraceSource(trace=trace, model=model)],
        rate=request.rate,
        seeds=seeds,
        progress=progress,
    )
    result = search() if requests is None else search(requests=requests)
    plan, certificate = result.refined.plan, result.refined.certificate
    return Rental(
        demand=result.demand,
        pools=pools,
        plan=plan,
        certificate=certificate,
        cost=unit_cost(plan, result.demand, pools),
        alone=_fleets_alone(result, alone, rentable.pools),
        left_out=rentable.left_out,
        considered=len(rentable.pools),
        played=result.refined.played,
    )


def _grid(trace: Trace) -> BucketSection:
    """The default grid of sizes, as far up as the trace's sizes reach."""
    usual = BucketSection()
    most = [
        2 ** ceil(log2(max(1.0, float(s.max())))) for s in (trace.input_tokens, trace.output_tokens)
    ]
    return BucketSection(
        input_to=max(usual.input_to, most[0]), output_to=max(usual.output_to, most[1])
    )


def _calm(demand: Demand) -> Demand:
    """The demand without bursts. A certified fleet often has less headroom than the planner keeps
    for bursts, and lies nearer to this plan."""
    return replace(demand, dispersion=(1.0,) * len(demand.dispersion))


def _alone(demand: Demand, pools: tuple[Pool, ...]) -> dict[str, Plan]:
    """The planner's fleet of every GPU type, those first that are likely to be the cheapest."""
    plans = single_types(_calm(demand), pools)
    return dict(
        sorted(
            plans.items(),
            key=lambda item: (item[1].unserved_share > MOST_UNSERVED, item[1].usd_per_hour),
        )
    )


def _contenders(
    demand: Demand, pools: tuple[Pool, ...], alone: Mapping[str, Plan]
) -> tuple[Pool, ...]:
    """The pools to play: those of the planner's mixes, with and without bursts, those of the
    cheapest single types, and those that are cheapest for most of the requests. The planner keeps
    the last ones out where it promises nothing for some sizes, which a rehearsal may allow."""
    useful = undominated(demand, pools)
    plans = [provision(bursts, useful) for bursts in (demand, _calm(demand))]
    plans += _played_alone(demand, alone, pools)
    used = {name for plan in plans for name in _used(plan)} | _cheapest(demand, useful)
    return tuple(pool for pool in pools if pool.name in used)


def _played_alone(demand: Demand, alone: Mapping[str, Plan], pools: tuple[Pool, ...]) -> list[Plan]:
    """The plans of the GPU types to play alone: the cheapest, and every one that by its bound could
    be cheaper than the safe plan of these."""
    first = list(alone)[:TYPES]
    own = tuple(pool for pool in pools if pool.gpu in first)
    safe = min(plan.usd_per_hour for plan in single_types(demand, own).values())
    return [
        plan
        for gpu, plan in alone.items()
        if gpu in first
        or (plan.unserved_share <= MOST_UNSERVED and _bound(plan, gpu, pools) < safe)
    ]


def _bound(plan: Plan, gpu: str, pools: tuple[Pool, ...]) -> float:
    """The fluid bound of a plan on one GPU type in whole backends, $/h.

    A backend of four GPUs costs four times one, so every fleet of a type costs a multiple of its
    cheapest backend.
    """
    unit = min(pool.usd_per_hour for pool in pools if pool.gpu == gpu)
    bound = plan.lower_bound_usd_per_hour
    return unit * ceil(bound / unit - COUNTED) if unit else bound


def _cheapest(demand: Demand, pools: tuple[Pool, ...]) -> set[str]:
    """The names of the pools that cost least for most of the requests: by mean load, and by mean
    load in whole backends. Where a pool promises nothing for some sizes, its load is scaled up to
    all requests."""
    need: dict[int, float] = {}
    for p, pool in enumerate(pools):
        share, load = promised(demand, pool)
        if share >= MOST_REQUESTS:
            need[p] = load / share
    able = list(need)
    fluid = sorted(able, key=lambda p: pools[p].usd_per_hour * need[p])
    whole = sorted(able, key=lambda p: pools[p].usd_per_hour * ceil(need[p]))
    return {pools[p].name for p in (*fluid[:CHEAPEST], *whole[:CHEAPEST])}


def _fleets_alone(
    result: Certified, alone: Mapping[str, Plan], pools: tuple[Pool, ...]
) -> tuple[AloneFleet, ...]:
    """Every GPU type with its certified fleet, or with the planner's where none was certified."""
    refined = result.refined
    rehearsed = {pool.gpu for pool in pools if pool.name in refined.plan.pools}
    found = [*result.singles, *_of_one_type(refined.plan, refined.certificate, pools)]
    found.sort(key=lambda one: -one[1].usd_per_hour)
    played = {gpu: (plan, certificate) for gpu, plan, certificate in found}  # the cheapest stays
    fleets = []
    for gpu, planned in alone.items():
        plan, certificate = played.get(gpu, (planned, None))
        fleets.append(
            AloneFleet(
                gpu=gpu,
                plan=plan,
                played=gpu in rehearsed,
                certificate=certificate,
                lower_bound_usd_per_hour=_bound(planned, gpu, pools),
            )
        )
    return tuple(sorted(fleets, key=lambda one: (one.certificate is None, one.plan.usd_per_hour)))


def _of_one_type(
    plan: Plan, certificate: Certificate, pools: tuple[Pool, ...]
) -> list[tuple[str, Plan, Certificate]]:
    """A certified plan as the fleet of its GPU type, if it has one type only."""
    gpus = {pool.gpu for pool in pools if pool.name in _used(plan)}
    return [(gpu, plan, certificate) for gpu in gpus if len(gpus) == 1 and certificate.holds]


def _used(plan: Plan) -> dict[str, int]:
    """The pools that a plan has backends of, and how many."""
    counts = zip(plan.pools, plan.backends, strict=True)
    return {name: count for name, count in counts if count}

"""Limits on a whole fleet, checked on the plan that comes back and by brute force."""

import itertools
import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool, Spot
from planner.program.headroom import bucket_loads
from planner.program.limits import Limits, Stock, backends_for_ready, fleet_bill, spot_backends
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
TINY = Grid(input_edges=(1, 512, 8192), output_edges=(1, 2048))
USD = {"A10G": 1.006, "A100-80G": 3.4309, "H100": 6.88}
PROFILES = {
    (gpu, count): profiles.build(
        ProfileFile(
            format="cuvee-profile/1",
            origin="analytic",
            gpu=gpu,
            model="Llama-3-8B",
            tensor_parallel_size=count,
        )
    )
    for gpu in USD
    for count in (1, 2)
}
SPOT = Spot(preemptions_per_hour=0.1, restart_s=300)


def pool(gpu: str, model: str = "m", count: int = 1, **options: Any) -> Pool:
    zone = options.get("zone")
    return Pool(
        name=f"{count}x{gpu}-{model}-{zone}{'-spot' if options.get('spot') else ''}",
        model=model,
        profile=PROFILES[gpu, count],
        usd_per_hour=USD[gpu] * count * (0.35 if options.get("spot") else 1.0),
        **options,
    )


def demand(
    seed: int,
    rate: float,
    *,
    grid: Grid = GRID,
    models: tuple[str, ...] = ("m",),
    longest: int = 7000,
) -> Demand:
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6.3, 1.1, 800), 2, longest).round()
    outputs = np.clip(random.lognormal(4.8, 1, 800), 1, 1000).round()
    slo = Slo(ttft_s=2.0, tpot_s=0.1)
    buckets = Buckets(classes=tuple(SloClass(model=m, slo=slo) for m in models), grid=grid)
    bucket = grid.cell_of(inputs, outputs) + grid.cells * random.integers(0, len(models), 800)
    return demand_from_samples(
        buckets, bucket, inputs, outputs, duration_s=1.0, dispersion=(2.0,) * len(models)
    ).scaled_to(rate)


def needs_of(asked: Demand, pools: tuple[Pool, ...], plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """M + κ√V of every pool and its requests/s, bucket by bucket from the plan's weights."""
    table, missing = bucket_loads(asked, pools), {u.bucket: u.rate for u in plan.unserved}
    mean, variance, rate = np.zeros((3, len(pools)))
    kappa = NormalDist().inv_cdf(0.99)
    for b, p in itertools.product(range(asked.buckets.count), range(len(pools))):
        served = (asked.rate[b] - missing.get(b, 0.0)) * plan.weights[b][p]
        if served > 0:
            assert table.feasible[b, p]
            mean[p] += served * table.seconds[b, p]
            variance[p] += kappa**2 * 2.0 * served * table.variance[b, p]
            rate[p] += served
    return mean + np.sqrt(variance), rate


def check(asked: Demand, pools: tuple[Pool, ...], limits: Limits, plan: Plan) -> None:
    """Every constraint again, from its definition."""
    need, rate = needs_of(asked, pools, plan)
    for pool_, count, load, share in zip(pools, plan.backends, need, plan.load, strict=True):
        assert pool_.min_backends <= count
        assert pool_.max_backends is None or count <= pool_.max_backends
        ready = math.ceil(load - 1e-5)
        if pool_.spot:
            away = pool_.spot.away_share
            assert chance(count - limits.survive * (share > 0), ready, away) >= 0.99 or not ready
        elif share > 0:
            assert load <= count - limits.survive + 2e-6
    for stock in limits.stock:
        taken = [
            count * int(pool_.name[0])
            for pool_, count in zip(pools, plan.backends, strict=True)
            if stock.gpu in pool_.name and stock.zone in (None, pool_.zone)
        ]
        assert sum(taken) <= stock.most
    cost = sum(
        max(0, y - p.reserved) * p.usd_per_hour for y, p in zip(plan.backends, pools, strict=True)
    )
    assert plan.usd_per_hour == pytest.approx(cost)
    if limits.budget_usd_per_hour is not None:
        assert cost <= limits.budget_usd_per_hour + 1e-5
    for model, zone in {(p.model, p.zone) for p in pools if p.spot}:
        mine = [b for b in range(asked.buckets.count) if asked.buckets.class_of(b).model == model]
        spot = sum(
            r
            for r, p in zip(rate, pools, strict=True)
            if p.spot and (p.model, p.zone) == (model, zone)
        )
        assert spot <= 0.5 * asked.rate[mine].sum() + 1e-4
    assert all(0 < u.rate <= asked.rate[u.bucket] + 1e-9 and u.reason for u in plan.unserved)


def chance(n: int, ready: int, away: float) -> float:
    """P(Binomial(n, 1 − away) ≥ ready), term by term."""
    return sum(math.comb(n, k) * (1 - away) ** k * away ** (n - k) for k in range(ready, n + 1))


POOLS = (
    pool("A10G", zone="a"),
    pool("A100-80G", zone="a", reserved=1),
    pool("A100-80G", zone="b", spot=SPOT),
    pool("H100", count=2, zone="b", max_backends=3),
    pool("A10G", "n", zone="b"),
    pool("A100-80G", "n", count=2, zone="a"),
    pool("H100", "n", zone="a", spot=SPOT),
)
stocks = st.lists(
    st.builds(
        Stock,
        gpu=st.sampled_from(tuple(USD)),
        most=st.integers(0, 12),
        zone=st.sampled_from((None, "a", "b")),
    ),
    max_size=3,
    unique_by=lambda stock: (stock.gpu, stock.zone),
)


@pytest.mark.long
@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.5, 40), stocks.map(tuple),
    st.one_of(st.none(), st.floats(0, 40)), st.integers(0, 2),
    st.one_of(st.none(), st.tuples(*[st.integers(0, 4)] * 7)), st.floats(0, 5), st.floats(0, 5),
)  # fmt: skip
@example(0, 1.0, (), 2.0, 1, (0, 0, 1, 0, 1, 0, 0), 0.0, 2.0)  # all that may run are spares
def test_every_plan_is_within_every_limit(
    seed: int,
    rate: float,
    stock: tuple[Stock, ...],
    budget: float | None,
    survive: int,
    running: tuple[int, ...] | None,
    start_usd: float,
    stop_usd: float,
):
    """Stock, budget, spare and ready backends, shares of spot zones: all hold, always."""
    asked = demand(seed, rate, models=("m", "n"))
    limits = Limits(
        stock=stock, budget_usd_per_hour=budget, survive=survive, running=running,
        start_usd=start_usd, stop_usd=stop_usd,
    )  # fmt: skip

    plan = provision(asked, POOLS, limits)

    check(asked, POOLS, limits, plan)


def by_force(asked: Demand, pools: tuple[Pool, ...], limits: Limits, steps: int = 30) -> float:
    """The least cost over every split in 1/steps and its least counts, without a solver."""
    table, kappa = bucket_loads(asked, pools), NormalDist().inv_cdf(0.99)
    splits = [c for c in itertools.product(range(steps + 1), repeat=len(pools))
              if sum(c) == steps]  # fmt: skip
    rows = [b for b in range(asked.buckets.count) if asked.rate[b] > 0]
    best, held = np.inf, table.feasible[rows]
    for split in itertools.product(np.array(splits) / steps, repeat=len(rows)):
        share = np.array(split) * asked.rate[rows][:, None]
        mean = (share * np.where(held, table.seconds[rows], 1e9)).sum(axis=0)
        spread = (share * np.where(held, table.variance[rows], 1e9)).sum(axis=0)
        if mean.max() > 1e6:
            continue
        ready = np.ceil(mean + kappa * np.sqrt(2.0 * spread) - 1e-6)
        counts = np.array([
            backends_for_ready(p, round(k)) + limits.survive * (k > 0)
            for p, k in zip(pools, ready, strict=True)
        ], dtype=float)  # fmt: skip
        spot = sum(share[:, p].sum() for p, pool_ in enumerate(pools) if pool_.spot)
        if spot <= 0.5 * asked.total_rate + 1e-9 and all(
            use <= most for _, use, most in limits.uses(pools, counts)
        ):
            best = min(best, fleet_bill(pools, counts) + limits.switching(counts))
    return best


CASES = [
    ("stock", (), Limits(stock=(Stock(gpu="A100-80G", most=1),))),
    ("survive", (), Limits(survive=1)),
    ("switching", (), Limits(running=(1, 2), start_usd=2.0, stop_usd=1.0)),
    ("reserved", ({"reserved": 2}, {}), Limits()),
    ("spot", ({}, {"spot": SPOT, "zone": "a"}), Limits()),
    ("zone", ({"zone": "a"}, {"zone": "b"}), Limits(stock=(Stock(gpu="A10G", most=2, zone="a"),))),
]


@pytest.mark.parametrize(("options", "limits"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
@pytest.mark.parametrize("seed", range(3))
def test_tiny_fleets_cost_what_brute_force_finds(
    seed: int, options: tuple[dict[str, Any], ...], limits: Limits
):
    """Two buckets, two pools, one limit: within 3 % of the best split on a fine grid."""
    asked = demand(seed + 10, 5.0 + 3 * seed, grid=TINY, longest=1000)
    first, second = options or ({}, {})
    pools = (pool("A10G", **first), pool("A100-80G", **second))
    forced = by_force(asked, pools, limits)

    plan = provision(asked, pools, limits)

    check(asked, pools, limits, plan)
    assert not plan.unserved
    assert plan.usd_per_hour + plan.switching_usd_per_hour <= forced * 1.03 + 1e-9


def test_limits_that_do_not_bind_change_nothing():
    """Generous limits: the cost of the plan without any; the default is no limit at all."""
    asked, pools = demand(1, 20), tuple(pool(gpu) for gpu in USD)
    free = provision(asked, pools)
    loose = Limits(stock=(Stock(gpu="H100", most=500),), budget_usd_per_hour=1e4)

    assert provision(asked, pools, Limits()).plan_id == free.plan_id
    assert provision(asked, pools, loose).usd_per_hour == pytest.approx(free.usd_per_hour)
    assert free.relaxation is None


def test_models_share_a_stock():
    """Two models that want the same GPUs get no more than there are, and buy others instead."""
    asked = demand(2, 24, models=("m", "n"))
    pools = tuple(pool(gpu, model) for model in ("m", "n") for gpu in ("H100", "A100-80G"))
    free = provision(asked, pools)
    wanted = free.backends[1] + free.backends[3]
    limits = Limits(stock=(Stock(gpu="A100-80G", most=wanted - 1),))

    plan = provision(asked, pools, limits)

    assert wanted >= 2
    check(asked, pools, limits, plan)
    assert not plan.unserved
    assert plan.usd_per_hour >= free.usd_per_hour - 1e-9


def test_a_budget_buys_the_most_demand_and_names_the_rest():
    """More money never serves less; what is shed is named, and so is the money that is missing."""
    asked, pools = demand(3, 30), (pool("A10G"), pool("A100-80G"))
    whole = provision(asked, pools)
    lost = []
    for share in (0.0, 0.3, 0.6, 0.9):
        plan = provision(asked, pools, Limits(budget_usd_per_hour=share * whole.usd_per_hour))
        check(asked, pools, Limits(budget_usd_per_hour=share * whole.usd_per_hour), plan)
        lost.append(sum(u.rate for u in plan.unserved))
        assert {u.reason for u in plan.unserved} == {"budget_usd_per_hour is used up"}
        assert plan.relaxation is not None
        assert plan.relaxation.limit == "budget_usd_per_hour"
        assert plan.relaxation.usd_per_hour == pytest.approx(whole.usd_per_hour)
        assert plan.relaxation.more == pytest.approx((1 - share) * whole.usd_per_hour)

    assert lost[0] == pytest.approx(30)
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < 0.2 * 30


def test_a_budget_serves_what_brute_force_can():
    """One bucket, one pool: the largest rate that whole backends within the budget hold."""
    grid = Grid(input_edges=(1, 8192), output_edges=(1, 2048))
    asked, pools = demand(4, 40, grid=grid), (pool("A100-80G"),)
    table, kappa = bucket_loads(asked, pools), NormalDist().inv_cdf(0.99)
    rates = np.linspace(0.01, 40, 4000)
    need = rates * table.seconds[0, 0] + kappa * np.sqrt(2 * rates * table.variance[0, 0])
    most = rates[need <= 3].max()

    plan = provision(asked, pools, Limits(budget_usd_per_hour=3.5 * USD["A100-80G"]))

    assert plan.backends == (3,)
    assert 40 - sum(u.rate for u in plan.unserved) == pytest.approx(most, rel=0.01)


def test_the_cheapest_relaxation_is_named():
    """Of two limits that bind the one whose lifting costs least is named, and how much more."""
    asked, pools = demand(5, 30), (pool("A100-80G", max_backends=1), pool("H100"))
    limits = Limits(stock=(Stock(gpu="H100", most=1),))

    plan = provision(asked, pools, limits)

    assert plan.unserved
    assert all(
        u.reason == "pools 1xA100-80G-m-None are at max_backends; stock of H100 is used up"
        for u in plan.unserved
    )
    ways = {
        "max_backends of 1xA100-80G-m-None": provision(asked, (pool("A100-80G"), pools[1]), limits),
        "stock of H100": provision(asked, pools),
    }
    best = min(ways, key=lambda way: (bool(ways[way].unserved), ways[way].usd_per_hour))
    assert plan.relaxation is not None
    assert plan.relaxation.limit == best
    assert plan.relaxation.usd_per_hour == pytest.approx(ways[best].usd_per_hour)
    assert plan.relaxation.more == max(ways[best].backends[list(ways).index(best)] - 1, 0)
    assert plan.relaxation.unserved_rate == 0


def test_a_promise_no_pool_holds_has_no_relaxation():
    """What no purchase can help is not offered as one."""
    asked, pools = demand(6, 1), (pool("A10G", max_backends=9),)
    strict = tuple(replace(c, slo=Slo(ttft_s=0.001, tpot_s=0.1)) for c in asked.buckets.classes)

    plan = provision(replace(asked, buckets=replace(asked.buckets, classes=strict)), pools)

    assert plan.unserved
    assert plan.relaxation is None


def test_any_pool_may_lose_backends():
    """With survive=1 every pool in use holds its load with one backend fewer."""
    asked, pools = demand(7, 30), tuple(pool(gpu) for gpu in USD)

    plan = provision(asked, pools, Limits(survive=1))

    need, _ = needs_of(asked, pools, plan)
    assert all(n <= y - 1 + 2e-6 for n, y in zip(need, plan.backends, strict=True) if n > 0)
    assert plan.usd_per_hour > provision(asked, pools).usd_per_hour


def test_a_running_fleet_stays_when_change_does_not_pay():
    """Dear starts and stops keep what runs and holds; free ones do not."""
    asked, pools = demand(8, 12), (pool("A10G"), pool("A100-80G"))
    best = provision(asked, pools)
    running = (best.backends[0] + 1, best.backends[1] + 1)

    stay = provision(asked, pools, Limits(running=running, start_usd=50, stop_usd=50))
    move = provision(asked, pools, Limits(running=running, start_usd=0.01, stop_usd=0.01))

    assert stay.backends == running
    assert stay.switching_usd_per_hour == 0
    assert move.backends == best.backends
    assert move.switching_usd_per_hour == pytest.approx(0.02)


def test_what_is_paid_for_already_costs_nothing():
    """Enough reserved backends: the bill is zero, and they are used."""
    asked = demand(9, 8)
    pools = (pool("A10G"), pool("H100", reserved=9))

    plan = provision(asked, pools)

    assert plan.usd_per_hour == 0
    assert plan.backends[1] > 0
    assert plan.lower_bound_usd_per_hour == 0


def test_a_spot_pool_runs_more_than_it_needs_and_not_everything():
    """Enough spot backends to have the needed ones ready, half the requests at most per zone."""
    asked = demand(10, 40)
    pools = (pool("A100-80G"), pool("A100-80G", zone="b", spot=SPOT))

    plan = provision(asked, pools)

    need, rate = needs_of(asked, pools, plan)
    check(asked, pools, Limits(), plan)
    assert 10 < rate[1] <= 20 + 1e-4
    assert plan.backends[1] > math.ceil(need[1])
    assert plan.usd_per_hour < provision(asked, pools[:1]).usd_per_hour


def test_backfill_shortens_the_gap_and_is_paid_for():
    """An on-demand backend that starts sooner than spot returns: less away, at its price."""
    bare = Spot(preemptions_per_hour=2, restart_s=1800)
    filled = replace(bare, backfill_s=180, backfill_usd_per_hour=4.0)

    assert bare.away_share == pytest.approx(0.5)
    assert filled.away_share == pytest.approx(0.05)
    assert filled.backfill_share == pytest.approx(0.45)
    spot_pool = replace(pool("A10G"), spot=filled)
    assert fleet_bill((spot_pool,), np.array([2.0])) == pytest.approx(2 * (1.006 + 0.45 * 4.0))


@given(st.integers(1, 60), st.floats(1e-4, 0.6), st.sampled_from((0.5, 0.9, 0.99, 0.999)))
def test_spot_backends_are_the_least_number_that_keeps_enough_ready(
    k: int, away: float, sure: float
):
    """Enough at n, not at n − 1, by the binomial's own terms."""
    n = spot_backends(k, away, sure)

    assert chance(n, k, away) >= sure - 1e-9
    assert n == k or chance(n - 1, k, away) < sure + 1e-9


def test_ten_thousand_spot_backends_need_a_small_share_more():
    """The law of large numbers: about 1/(1 − away) plus a few deviations."""
    assert 10_417 < spot_backends(10_000, 0.04, 0.99) < 10_500


def test_stock_counts_gpus_of_every_pool():
    """A backend over two GPUs takes two, in its zone."""
    wide = pool("H100", count=2, zone="a")

    assert (wide.gpu, wide.gpus) == ("H100", 2)
    assert Stock(gpu="H100", most=8).taken(wide) == 2
    assert Stock(gpu="H100", most=8, zone="a").taken(wide) == 2
    assert Stock(gpu="H100", most=8, zone="b").taken(wide) == 0
    assert Stock(gpu="A10G", most=8).taken(wide) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [({"budget_usd_per_hour": -1}, "budget"), ({"budget_usd_per_hour": math.nan}, "budget"),
     ({"survive": -1}, "survive"), ({"running": (1, -1)}, "running"),
     ({"start_usd": -1}, "start_usd"), ({"stop_usd": math.inf}, "stop_usd"),
     ({"horizon_h": 0}, "horizon_h"),
     ({"stock": (Stock(gpu="L4", most=1), Stock(gpu="L4", most=2))}, "twice")],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(values: dict[str, Any], words: str):
    """The message names the field."""
    with pytest.raises(InvalidValue, match=words):
        Limits(**values)
    with pytest.raises(InvalidValue, match="stock of L4"):
        Stock(gpu="L4", most=-1)


def test_least_backends_beyond_a_limit_are_refused():
    """Contradictory bounds are an error that names the limit, as is a fleet of another size."""
    pools = (pool("H100", count=2, min_backends=2),)

    with pytest.raises(InvalidValue, match="stock of H100: min_backends of the pools take 4 of 3"):
        provision(demand(1, 1), pools, Limits(stock=(Stock(gpu="H100", most=3),)))
    with pytest.raises(InvalidValue, match="running"):
        provision(demand(1, 1), pools, Limits(running=(1, 2)))

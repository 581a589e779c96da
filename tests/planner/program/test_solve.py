"""The fleets that the integer program finds, checked against the demand from first principles."""

import itertools
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads, load_table, loads_of, utilisations
from planner.program.solve import assign, provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
USD = {"L4": 0.8048, "A10G": 1.006, "A100-80G": 3.4309, "H100": 6.88}
PROFILES = {
    gpu: profiles.build(
        ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
    )
    for gpu in USD
}


def pool(gpu: str, model: str = "m", **options: Any) -> Pool:
    name = f"{gpu}-{model}"
    return Pool(name=name, model=model, profile=PROFILES[gpu], usd_per_hour=USD[gpu], **options)


POOLS = tuple(pool(gpu) for gpu in USD)


def demand(
    seed: int = 0,
    rate: float = 20.0,
    *,
    attainment: float = 0.99,
    dispersion: float = 2.0,
    tpot_s: float = 0.08,
    ttft_s: float = 2.0,
    grid: Grid = GRID,
    models: tuple[str, ...] = ("m",),
) -> Demand:
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6.3, 1.1, 800), 2, 7000).round()
    outputs = np.clip(random.lognormal(4.8, 1, 800), 1, 1000).round()
    slo = Slo(ttft_s=ttft_s, tpot_s=tpot_s, attainment=attainment)
    buckets = Buckets(classes=tuple(SloClass(model=m, slo=slo) for m in models), grid=grid)
    bucket = grid.cell_of(inputs, outputs) + grid.cells * random.integers(0, len(models), 800)
    return demand_from_samples(
        buckets, bucket, inputs, outputs,
        duration_s=100.0, dispersion=(dispersion,) * len(models),
    ).scaled_to(rate)  # fmt: skip


def utilisation(asked: Demand, pools: tuple[Pool, ...], plan: Plan) -> tuple[float, ...]:
    return utilisations(asked, pools, (plan,))[0]


def recheck(asked: Demand, pools: tuple[Pool, ...], plan: Plan) -> np.ndarray:
    """Recomputes M + κ√V of every pool, bucket by bucket, and checks the weights."""
    ready = np.array(plan.backends) > 0 if plan.objective == "assign" else None
    weights, loads = np.array(plan.weights), loads_of(asked, load_table(asked, pools), ready)
    missing = {u.bucket: u.rate for u in plan.unserved if not u.served}
    mean, variance = np.zeros(len(pools)), np.zeros(len(pools))
    for b in range(asked.buckets.count):
        index = b // asked.buckets.grid.cells
        kappa = NormalDist().inv_cdf(asked.buckets.class_of(b).slo.attainment)
        rate = asked.rate[b] - missing.get(b, 0.0)
        assert weights[b].sum() == pytest.approx(1, abs=1e-9) or weights[b].sum() == 0
        assert weights[b].sum() > 0 or rate <= 1e-6 * max(1, asked.rate[b])
        for p in range(len(pools)):
            if weights[b, p] > 0:
                assert loads.feasible[b, p]
                assert plan.backends[p] > 0
                served = rate * weights[b, p]
                mean[p] += served * loads.seconds[b, p]
                variance[p] += kappa**2 * asked.dispersion[index] * served * loads.variance[b, p]
    assert plan.load == pytest.approx(mean, abs=1e-6)
    assert plan.tail == pytest.approx(np.sqrt(variance), abs=1e-6)
    return mean + np.sqrt(variance)


bounds = st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 6)))


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.5, 60), st.sampled_from((0.5, 0.9, 0.99)),
    st.sampled_from((1.0, 5.0)), st.sampled_from((0.05, 0.08, 0.12)),
    st.sampled_from((0.2, 2.0)), st.lists(bounds, min_size=4, max_size=4),
)  # fmt: skip
def test_every_plan_satisfies_every_constraint(
    seed: int,
    rate: float,
    attainment: float,
    dispersion: float,
    tpot_s: float,
    ttft_s: float,
    limits: list[tuple[int, int | None]],
):
    """Weights, the exact chance constraint and the bounds on counts hold, whatever is asked."""
    asked = demand(seed, rate, attainment=attainment, dispersion=dispersion, tpot_s=tpot_s,
                   ttft_s=ttft_s)  # fmt: skip
    pools = tuple(
        replace(pool_, min_backends=low, max_backends=None if extra is None else low + extra)
        for pool_, (low, extra) in zip(POOLS, limits, strict=True)
    )

    plan = provision(asked, pools)

    need = recheck(asked, pools, plan)
    for pool_, count, needed in zip(pools, plan.backends, need, strict=True):
        assert needed <= count + 2e-6
        assert pool_.min_backends <= count
        assert pool_.max_backends is None or count <= pool_.max_backends
    assert plan.usd_per_hour == pytest.approx(
        sum(y * p.usd_per_hour for y, p in zip(plan.backends, pools, strict=True))
    )
    assert plan.lower_bound_usd_per_hour <= plan.usd_per_hour + 1e-6
    assert all(0 < u.rate <= asked.rate[u.bucket] + 1e-9 and u.reason for u in plan.unserved)


def cheapest_by_force(asked: Demand, pools: tuple[Pool, ...], steps: int) -> float:
    """The least cost over every split of every bucket in 1/steps, without a solver."""
    loads = bucket_loads(asked, pools)
    kappa = NormalDist().inv_cdf(asked.buckets.classes[0].slo.attainment)
    splits = np.array([c for c in itertools.product(range(steps + 1), repeat=len(pools))
                       if sum(c) == steps]) / steps  # fmt: skip
    mean = variance = np.zeros((1, len(pools)))
    for b in np.flatnonzero(asked.rate > 0):
        legal = splits[((splits == 0) | loads.feasible[b]).all(axis=1)]
        seconds = np.where(loads.feasible[b], loads.seconds[b], 0)
        spread = np.where(loads.feasible[b], loads.variance[b], 0) * asked.dispersion[0] * kappa**2
        mean = (mean[:, None] + legal * seconds * asked.rate[b]).reshape(-1, len(pools))
        variance = (variance[:, None] + legal * spread * asked.rate[b]).reshape(-1, len(pools))
    counts = np.ceil(mean + np.sqrt(variance) - 1e-6)
    return float((counts @ [pool_.usd_per_hour for pool_ in pools]).min())


TINY = Grid(input_edges=(1, 512, 8192), output_edges=(1, 2048))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("attainment", [0.5, 0.99])
def test_tiny_fleets_cost_what_brute_force_finds(seed: int, attainment: float):
    """Two buckets, three pools: never dearer than the best split on a fine grid by over 3 %."""
    asked = demand(seed, 4.0 + 4 * seed, attainment=attainment, tpot_s=0.1, grid=TINY)
    pools = tuple(pool(gpu) for gpu in ("A10G", "A100-80G", "H100"))

    plan, forced = provision(asked, pools), cheapest_by_force(asked, pools, 80)

    assert not plan.unserved
    assert plan.usd_per_hour <= forced * (1.0 + (1e-9 if attainment == 0.5 else 0.03))


def test_at_the_median_the_program_is_linear_and_solved_to_its_gap():
    """With κ = 0 there is no tangent: the cost equals brute force, from both sides."""
    asked = demand(3, 25, attainment=0.5, tpot_s=0.1, grid=TINY)
    pools = (pool("A10G"), pool("A100-80G"))

    plan = provision(asked, pools)

    assert plan.usd_per_hour == pytest.approx(cheapest_by_force(asked, pools, 2000))
    assert 0 <= plan.gap <= 1e-4


def test_a_promise_that_no_pool_holds_is_named():
    """Infeasible is a plan that says which buckets, how much and why, and serves the rest."""
    asked = demand(ttft_s=0.1)

    plan = provision(asked, POOLS)

    loads = bucket_loads(asked, POOLS)
    lost = {b for b in range(GRID.cells) if asked.rate[b] > 0 and not loads.promised[b]}
    assert lost
    assert all(u.served for u in plan.unserved)
    assert all(sum(plan.weights[b]) == pytest.approx(1) for b in lost)
    assert {u.bucket for u in plan.unserved} == lost
    assert all("no pool holds TTFT 0.1 s" in u.reason for u in plan.unserved)
    assert sum(plan.backends) > 0


@pytest.mark.parametrize("every", [1200, 50])
def test_what_no_pool_can_hold_leaves_at_its_own_rate(every: int):
    """A few prompts longer than any context do not cancel the rest of their bucket: its fleet is
    bought, and what is lost is those few, by their rate and with the reason."""
    inputs, outputs = np.where(np.arange(12_000) % 2, 300.0, 6000.0), np.full(12_000, 100.0)
    slo = Slo(ttft_s=2.0, tpot_s=0.1, attainment=0.99)
    buckets = Buckets(classes=(SloClass(model="m", slo=slo),), grid=GRID)

    def plan_of(sizes: Any) -> Plan:
        cells = GRID.cell_of(sizes, outputs)
        asked = demand_from_samples(
            buckets, cells, sizes, outputs, duration_s=600.0, dispersion=(1.2,)
        )
        return provision(asked, POOLS)

    whole, beyond = plan_of(inputs), inputs.copy()
    beyond[::every] = 120_000
    plan = plan_of(beyond)

    lost = sum(u.rate for u in plan.unserved)
    assert 0.9 * whole.usd_per_hour <= plan.usd_per_hour <= whole.usd_per_hour
    assert lost == pytest.approx(20.0 / every if every < 100 else 0.0, rel=0.01)
    assert all("no pool has room for a context" in u.reason for u in plan.unserved)


def test_bounds_that_bind_are_named_and_used_up():
    """With too few backends allowed, all of them serve and the rest is named with the bound."""
    pools = (pool("A100-80G", max_backends=2), pool("H100", max_backends=1))
    asked = demand(rate=200)

    plan = provision(asked, pools)

    assert plan.backends == (2, 1)
    assert 0 < sum(u.rate for u in plan.unserved) < 200
    assert "pools A100-80G-m, H100-m are at max_backends" in {u.reason for u in plan.unserved}
    assert all("are at max_backends" in u.reason for u in plan.unserved)
    assert (
        min((m + t) / y for m, t, y in zip(plan.load, plan.tail, plan.backends, strict=True)) > 0.9
    )


def test_no_price_makes_it_pay_to_drop_a_request():
    """However dear the only pool, everything it can serve is served."""
    dear = replace(pool("H100"), usd_per_hour=1e6)

    assert provision(demand(rate=0.01), (dear,)).unserved == ()


def test_no_demand_needs_only_the_least_fleet():
    """Zero rates: min_backends, and the open pool takes every bucket that it can hold."""
    asked = replace(demand(), rate=np.zeros(GRID.cells))
    pools = (pool("A10G"), pool("H100", min_backends=1))

    plan = provision(asked, pools)

    assert plan.backends == (0, 1)
    assert plan.unserved == ()
    assert [row[1] for row in plan.weights] == bucket_loads(asked, pools).feasible[:, 1].astype(
        float
    ).tolist()


def test_models_are_planned_side_by_side():
    """Two models share no pool: together they cost what they cost alone."""
    both = demand(models=("m", "n"))
    pools = tuple(pool(gpu, model) for model in ("m", "n") for gpu in ("A10G", "A100-80G"))

    plan = provision(both, pools)

    recheck(both, pools, plan)
    for half in (slice(0, 2), slice(2, 4)):
        alone = provision(both, pools[half])
        assert alone.backends == plan.backends[half]


def test_a_plan_has_the_same_name_every_time():
    """The same demand gives the same plan and the same eight-digit name; another, another."""
    first, second = provision(demand(), POOLS), provision(demand(), POOLS)

    assert first.plan_id == second.plan_id
    assert len(first.plan_id) == 8
    assert int(first.plan_id, 16) >= 0
    assert provision(demand(rate=90), POOLS).plan_id != first.plan_id


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 80), st.tuples(*[st.integers(0, 4)] * 4))
def test_assigned_weights_hold_and_their_peak_is_true(
    seed: int, rate: float, backends: tuple[int, int, int, int]
):
    """Counts stay as given, only running pools serve, load and tail are what weights make them.

    Where a pool is used by more than that, it is for its prompts, which need whole backends.
    """
    asked = demand(seed, rate)

    plan = assign(asked, POOLS, backends)

    need = recheck(asked, POOLS, plan)
    used = np.array(utilisation(asked, POOLS, plan)) * backends
    more = used > need + 1e-6
    assert plan.backends == backends
    assert used[~more] == pytest.approx(need[~more], abs=1e-6)
    assert used[more] == pytest.approx(np.round(used[more]), abs=1e-6)
    assert (used[more] > np.array(backends)[more]).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_assigned_peak_is_near_the_least(seed: int):
    """On two buckets no split of a fine grid has a peak lower by over 2 %."""
    asked = demand(seed, 20, grid=TINY, tpot_s=0.1)
    pools, counts = (pool("A10G"), pool("H100")), np.array([3, 2])
    loads = bucket_loads(asked, pools)
    kappa = NormalDist().inv_cdf(0.99)
    one, two = np.meshgrid(*[np.linspace(0, 1, 201)] * 2, indexing="ij")
    split = np.stack([np.stack([one, two], -1), np.stack([1 - one, 1 - two], -1)], -1)
    rate = asked.rate[:, None]
    mean = (split * np.where(loads.feasible, loads.seconds * rate, 1e9)).sum(-2)
    variance = (split * np.where(loads.feasible, loads.variance * rate * 2.0, 1e9)).sum(-2)
    least = ((mean + kappa * np.sqrt(variance)) / counts).max(-1).min()

    plan = assign(asked, pools, (3, 2))

    assert max(utilisation(asked, pools, plan)) <= least * 1.02


def test_the_fleet_of_a_plan_holds_its_demand():
    """assign on provision's own counts does not exceed 1."""
    asked = demand(5, 60)
    plan = provision(asked, POOLS)

    again = assign(asked, POOLS, plan.backends)

    assert max(utilisation(asked, POOLS, again)) <= 1 + 1e-6


def test_a_fleet_without_backends_serves_nothing_and_says_so():
    """Buckets that only stopped pools could serve are named."""
    plan = assign(demand(), (pool("H100"),), (0,))

    assert sum(u.rate for u in plan.unserved) == pytest.approx(20)
    assert {u.reason for u in plan.unserved} == {"pools H100-m have no backend"}


@pytest.mark.parametrize("backends", [(1,), (1, 1, 1, -1)])
def test_counts_that_fit_no_fleet_are_refused(backends: tuple[int, ...]):
    """One count ≥ 0 per pool, or an error that names the argument."""
    with pytest.raises(InvalidValue, match="backends"):
        assign(demand(), POOLS, backends)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_no_cheaper_fleet_has_shares_that_hold(seed: int):
    """Of every combination of counts that costs less none can be assigned under its capacity."""
    asked = demand(seed, 8.0 + 6 * seed)
    pools = tuple(pool(gpu) for gpu in ("A10G", "A100-80G", "H100"))

    plan = provision(asked, pools)

    prices = [pool_.usd_per_hour for pool_ in pools]
    for counts in itertools.product(range(9), repeat=3):
        if np.dot(counts, prices) < plan.usd_per_hour - 1e-6 and any(counts):
            other = assign(asked, pools, counts)
            assert other.unserved or max(utilisation(asked, pools, other)) > 1 + 1e-6, counts


def test_prefix_hits_make_a_fleet_smaller():
    """Prefill-heavy traffic of which 60 % hit needs fewer backends, and the plan says the share."""
    random = np.random.default_rng(3)
    inputs = np.clip(random.lognormal(8.2, 0.4, 800), 500, 7000).round()
    outputs = np.clip(random.lognormal(4.0, 0.6, 800), 2, 400).round()
    plain = demand()
    asked, hits = (
        demand_from_samples(
            plain.buckets, GRID.cell_of(inputs, outputs), inputs, outputs,
            duration_s=100.0, dispersion=(2.0,), cached=share * inputs,
        )
        for share in (0.0, 0.6)
    )  # fmt: skip
    pools = (pool("A100-80G"),)

    fewer, more = provision(hits, pools), provision(asked, pools)

    assert fewer.backends[0] <= 0.7 * more.backends[0]
    assert fewer.cached_share == pytest.approx((0.6,))
    assert more.cached_share == (0.0,)
    assert utilisation(hits, pools, fewer)[0] <= 1 < utilisation(asked, pools, fewer)[0]

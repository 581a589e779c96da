"""Mean load, variance and tail of pools."""

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import (
    bucket_loads,
    load_and_tail,
    load_terms,
    utilisations,
    why_infeasible,
)
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo

GRID = Grid(input_edges=(1, 512, 8192), output_edges=(1, 128, 1024))
SLO = Slo(ttft_s=2.0, tpot_s=0.08)


def pool(gpu: str, model: str = "m", **options: Any) -> Pool:
    profile = profiles.build(
        ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
    )
    return Pool(name=gpu, model=model, profile=profile, usd_per_hour=1.0, **options)


def demand(
    rows: list[tuple[int, float, float, float]],
    slo: Slo = SLO,
    rate: float = 5.0,
    dispersion: float = 1.0,
) -> Demand:
    buckets = Buckets(classes=(SloClass(model="m", slo=slo),), grid=GRID)
    bucket, inputs, outputs, share = np.array(rows).T
    rates = np.zeros(4)
    rates[bucket.astype(int)] = rate
    return Demand(buckets=buckets, rate=rates, bucket=bucket.astype(np.int64), input_tokens=inputs,
                  output_tokens=outputs, share=share, dispersion=(dispersion,))  # fmt: skip


def test_loads_are_harmonic_means_over_actual_sizes():
    """E[1/X], E[1/n*] and E[1/(X n*)] by hand; neither the mean size nor the corner."""
    a100 = pool("A100-80G")
    sizes = np.array([[100.0, 50.0], [400.0, 100.0]])
    capacity = a100.profile.capacity(sizes[:, 0], sizes[:, 1], SLO)

    loads = bucket_loads(demand([(0, 100, 50, 0.25), (0, 400, 100, 0.75)]), (a100,))

    share = np.array([0.25, 0.75])
    assert loads.seconds[0, 0] == pytest.approx(float((share / capacity.rate).sum()))
    assert loads.slots[0, 0] == pytest.approx(float((share / capacity.n_star).sum()))
    assert loads.variance[0, 0] == pytest.approx(
        float((share / capacity.rate / capacity.n_star).sum())
    )


def test_prefix_hits_make_requests_lighter():
    """Loads are those of the capacity with hits, cell by cell; prompts stall others for less."""
    a100 = pool("A100-80G")
    rows = [(2, 2000.0, 50.0, 0.5), (2, 3000.0, 50.0, 0.5)]
    asked = replace(demand(rows), cached_share=np.array([0.0, 0.6]))
    sizes = np.array([2000.0, 3000.0]), np.array([50.0, 50.0])
    capacity = a100.profile.capacity(*sizes, SLO, np.array([0.0, 1800.0]))

    loads, plain = bucket_loads(asked, (a100,)), bucket_loads(demand(rows), (a100,))

    assert loads.seconds[2, 0] == pytest.approx(float((0.5 / capacity.rate).sum()))
    for name in ("seconds", "variance", "slots", "prefill", "squares", "own_s"):
        assert getattr(loads, name)[2, 0] < 0.9 * getattr(plain, name)[2, 0], name


@pytest.mark.parametrize(("share", "feasible"), [(0.0049, True), (0.0051, False)])
def test_a_pool_may_miss_half_of_what_its_class_may(share: float, feasible: bool):
    """At 99 % half a percent of a class may be too large for a pool; with more, another serves it.

    They are served, so they count as what they take."""
    rows = [(2, 600.0, 50.0, 1 - share), (2, 7900.0, 50.0, share)]  # 7,900 miss TTFT on an A10G

    loads = bucket_loads(demand(rows), (pool("A10G"), pool("H100")))
    alone = bucket_loads(demand([(2, 600.0, 50.0, 1.0)]), (pool("A10G"),))

    assert loads.promised[2]
    assert loads.misfit[2].tolist() == pytest.approx([share, 0.0])
    assert loads.feasible[2].tolist() == [feasible, True]
    assert np.isinf(loads.seconds[2, 0]) == (not feasible)
    if feasible:
        assert 1.005 < loads.seconds[2, 0] / alone.seconds[2, 0] < 1.2


def test_what_no_pool_promises_is_served_as_what_it_takes():
    """A prompt too long for the TTFT takes as much of a backend as its pace needs, and no more."""
    rows = [(2, 7900.0, 50.0, 1.0)]
    strict, loose = replace(SLO, ttft_s=0.01), replace(SLO, ttft_s=60.0)

    unpromised, promised = (
        bucket_loads(demand(rows, slo), (pool("A10G"),)) for slo in (strict, loose)
    )

    assert (bool(unpromised.promised[2]), bool(promised.promised[2])) == (False, True)
    assert unpromised.feasible[2, 0]
    assert unpromised.slots[2, 0] == promised.slots[2, 0] < 1
    plan = provision(demand(rows, strict), (pool("A10G"),))
    assert [(u.bucket, u.served) for u in plan.unserved] == [(2, True)]
    assert sum(plan.backends) > 0


def test_the_classes_own_attainment_is_what_may_be_missed():
    """A class that promises 90 % lets ten times as many requests be too large for a pool."""
    rows = [(2, 600.0, 50.0, 0.96), (2, 7900.0, 50.0, 0.04)]

    strict, loose = (
        bucket_loads(demand(rows, replace(SLO, attainment=a)), (pool("A10G"), pool("H100")))
        for a in (0.99, 0.9)
    )

    assert not strict.feasible[2, 0]
    assert loose.feasible[2, 0]


def test_a_bucket_never_seen_is_taken_at_its_centre():
    """No rows: the centre of the grid cell stands for it."""
    seen = demand([(0, 100, 50, 1.0)])
    inputs, outputs = GRID.centre(1)

    loads = bucket_loads(seen, (pool("H100"),))
    alone = bucket_loads(demand([(1, inputs, outputs, 1.0)]), (pool("H100"),))

    assert loads.seconds[1, 0] == alone.seconds[1, 0]


def test_a_pool_of_another_model_is_not_feasible():
    """Models share no pool."""
    loads = bucket_loads(demand([(0, 100, 50, 1.0)]), (pool("H100"), pool("A10G", model="other")))

    assert loads.feasible[:, 0].any()
    assert not loads.feasible[:, 1].any()


@pytest.mark.parametrize(("attainment", "dispersion"), [(0.5, 3.0), (0.9, 1.0), (0.99, 4.0)])
def test_load_and_tail_follow_the_formula(attainment: float, dispersion: float):
    """M = λ E[1/X]; the tail is κ √(z λ E[1/(X n*)]), and nothing at the median."""
    asked = demand([(0, 100, 50, 1.0)], replace(SLO, attainment=attainment), 5.0, dispersion)
    loads = bucket_loads(asked, (pool("A10G"),))

    load, tail = load_and_tail(np.array([[1.0], [0], [0], [0]]), *load_terms(asked, loads))

    kappa = NormalDist().inv_cdf(attainment)
    assert load[0] == pytest.approx(5 * loads.seconds[0, 0])
    assert tail[0] == pytest.approx(kappa * (dispersion * 5 * loads.variance[0, 0]) ** 0.5)


def test_utilisation_of_a_plan_by_another_demand():
    """At the plan's own demand it is below 1; with demand it never foresaw it is infinite."""
    pools = (pool("A10G"), pool("H100"))
    asked = demand([(0, 100, 50, 1.0)])
    plan = provision(asked, pools)
    surprise = demand([(0, 100, 50, 0.9), (0, 8000, 50, 0.1)], replace(SLO, ttft_s=0.3))

    (same,) = utilisations(asked, pools, (plan,))
    (more,) = utilisations(asked.scaled_to(500), pools, (plan,))

    assert 0 < max(same) <= 1 + 1e-6
    assert max(more) > 1
    assert max(same) == pytest.approx(
        max((m + t) / y for m, t, y in zip(plan.load, plan.tail, plan.backends, strict=True) if y)
    )
    with pytest.raises(InvalidValue, match="other pools or buckets"):
        utilisations(surprise, pools, (plan,))
    too_long = demand([(0, 100, 50, 0.9), (0, 7900, 50, 0.1)])  # for the TTFT of an A10G
    on_a10g = replace(plan, backends=(1, 0), weights=((1.0, 0.0),) * 4)
    (stranded,) = utilisations(too_long, pools, (on_a10g,))
    assert max(stranded) == float("inf")


@pytest.mark.parametrize(
    ("slo", "pools", "size", "words"),
    [
        (SLO, (pool("H100", model="x"),), (100, 50), "no pool serves m"),
        (Slo(ttft_s=0.05, tpot_s=0.08), (pool("A10G"),), (7000, 50), "no pool holds TTFT 0.05 s"),
        (Slo(ttft_s=2, tpot_s=0.01), (pool("A10G"),), (100, 50), "no pool holds TPOT 0.01 s"),
        (Slo(ttft_s=0.02, tpot_s=0.01), (pool("A10G"),), (100, 50), "TTFT 0.02 s and TPOT 0.01 s"),
        (SLO, (pool("H100"),), (9000, 50), "no pool has room"),
    ],
)
def test_the_reason_names_what_binds(
    slo: Slo, pools: tuple[Pool, ...], size: tuple[int, int], words: str
):
    """The model, the target or the size: whatever keeps every pool from serving the bucket."""
    assert words in why_infeasible(demand([(2, *size, 1.0)], slo), pools, 2)

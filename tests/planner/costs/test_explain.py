"""The parts of a plan's cost: they sum to the bill, whatever the plan."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.explain import (
    SentRequests,
    attribution,
    explain,
    served_demand,
    with_single_types,
)
from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.solve import assign, provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
USD = {"A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}


def pool(gpu: str, usd: float, model: str = "m", **bounds: Any) -> Pool:
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
    profile = profiles.build(spec)
    return Pool(name=f"{gpu}-{model}", model=model, profile=profile, usd_per_hour=usd, **bounds)


POOLS = tuple(pool(gpu, usd) for gpu, usd in USD.items())


def sent(seed: int, models: tuple[str, ...] = ("m",)) -> tuple[Buckets, SentRequests]:
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6, 1, 400), 2, 5000).round()
    outputs = np.clip(random.lognormal(5, 1, 400), 1, 900).round()
    classes = tuple(SloClass(model=m, slo=Slo(ttft_s=2, tpot_s=0.1)) for m in models)
    buckets = Buckets(classes=classes, grid=GRID)
    bucket = GRID.cell_of(inputs, outputs) + GRID.cells * random.integers(0, len(models), 400)
    key = tuple(random.choice(["ann", "bob", "bob", ""], 400).tolist())
    return buckets, SentRequests(bucket=bucket, input_tokens=inputs, output_tokens=outputs, key=key)


def demand(seed: int, rate: float, models: tuple[str, ...] = ("m",)) -> Demand:
    buckets, requests = sent(seed, models)
    asked = demand_from_samples(
        buckets,
        requests.bucket,
        requests.input_tokens,
        requests.output_tokens,
        duration_s=50,
        dispersion=(2.0,) * len(models),
    )
    return asked.scaled_to(rate)


bounds = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(3, 6)))


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.5, 90), st.lists(bounds, min_size=3, max_size=3))
def test_gap_and_bill_sum_whatever_the_limits(
    seed: int, rate: float, limits: list[tuple[int, int | None]]
):
    """Bound and parts sum to the cost, as do the bills; no part of a provisioned plan is < 0."""
    asked = demand(seed, rate)
    pools = tuple(
        replace(p, min_backends=low, max_backends=high)
        for p, (low, high) in zip(POOLS, limits, strict=True)
    )
    plan = provision(asked, pools)

    why = explain(plan, asked, pools, sent=sent(seed)[1])

    usd = plan.usd_per_hour
    assert why.gap.bound == plan.lower_bound_usd_per_hour
    assert why.gap.bound + why.gap.total == pytest.approx(usd, abs=1e-9)
    assert sum(why.bucket) + why.idle == pytest.approx(usd, abs=1e-9)
    assert sum(cost for _, cost in why.key) + why.idle == pytest.approx(usd, abs=1e-6)
    assert min(why.gap.tail, why.gap.integrality, why.gap.limits, why.idle) >= -1e-6
    assert why.gap.switching == 0
    assert all(cost == 0 for cost, rate in zip(why.bucket, plan.rate, strict=True) if not rate)


def test_each_ingredient_is_blamed_for_what_it_does():
    """A bound on counts shows under limits, a fleet that runs on under switching, else neither."""
    asked = demand(1, 20)
    free = provision(asked, POOLS)
    least = tuple(replace(p, min_backends=n + 1) for p, n in zip(POOLS, free.backends, strict=True))
    bound, running = provision(asked, least), assign(asked, POOLS, (9, 9, 9))

    plain, limited, kept = (
        explain(plan, asked, pools).gap
        for plan, pools in ((free, POOLS), (bound, least), (running, POOLS))
    )

    assert plain.tail > 0
    assert plain.integrality > 0
    assert (plain.limits, plain.switching) == (0, 0)
    assert limited.limits == pytest.approx(bound.usd_per_hour - free.usd_per_hour)
    assert kept.switching == pytest.approx(running.usd_per_hour - free.usd_per_hour)
    assert kept.bound + kept.total == pytest.approx(running.usd_per_hour)


def test_what_is_paid_for_already_is_off_the_bill():
    """Reserved backends count at their price in every part, and come off at the end."""
    asked = demand(1, 20)
    pools = (*POOLS[:2], replace(POOLS[2], reserved=1))
    plan = provision(asked, pools)

    why = explain(plan, asked, pools)

    assert why.gap.reserved == pytest.approx(-USD["H100"] * min(1, plan.backends[2]))
    assert why.gap.bound + why.gap.total == pytest.approx(plan.usd_per_hour)
    assert min(why.gap.tail, why.gap.integrality, why.gap.limits) >= -1e-9
    assert sum(why.bucket) + why.idle == pytest.approx(plan.usd_per_hour)
    assert why.idle == pytest.approx(0)


def test_no_tail_is_kept_for_a_promise_to_half():
    """At an attainment of one half nothing is kept free for bursts."""
    asked = demand(1, 20)
    classes = tuple(replace(c, slo=replace(c.slo, attainment=0.5)) for c in asked.buckets.classes)
    asked = replace(asked, buckets=replace(asked.buckets, classes=classes))

    gap = explain(provision(asked, POOLS), asked, POOLS).gap

    assert gap.tail == pytest.approx(0, abs=1e-9)
    assert gap.integrality > 0


def test_a_bucket_pays_for_the_pools_it_uses():
    """Only for those, and twice the work costs twice as much."""
    asked = demand(4, 30)
    plan = provision(asked, POOLS)

    bill = attribution(plan, asked, POOLS)

    weights = np.array(plan.weights) * (asked.rate > 0)[:, None]
    assert np.array_equal(bill > 0, weights > 0)
    counts = np.array(plan.backends) * list(USD.values())
    used = weights.sum(axis=0) > 0
    assert bill.sum(axis=0)[used] == pytest.approx(counts[used])


def test_a_key_pays_for_what_its_requests_take():
    """Two keys that send the same pay the same; one whose answers are longer pays more."""
    buckets, requests = sent(5)
    half = len(requests.key) // 2
    bucket = np.tile(requests.bucket[:half], 2)
    inputs = np.tile(requests.input_tokens[:half], 2)
    same = np.tile(requests.output_tokens[:half], 2)
    longer = np.concatenate([same[:half], same[half:] * 1.5])
    key = ("ann",) * half + ("bob",) * half
    bills = []
    for outputs in (same, longer):
        asked = demand_from_samples(
            buckets,
            bucket,
            inputs,
            outputs,
            duration_s=50,
            dispersion=(2.0,),
        )
        plan = provision(asked, POOLS)
        why = explain(
            plan, asked, POOLS,
            sent=SentRequests(bucket=bucket, input_tokens=inputs, output_tokens=outputs, key=key),
        )  # fmt: skip
        bills.append(dict(why.key))

    assert bills[0]["ann"] == pytest.approx(bills[0]["bob"])
    assert bills[1]["bob"] > 1.1 * bills[1]["ann"]


def test_a_key_whose_prompts_hit_pays_less():
    """The same sizes, but of one sender's prompts 60 % are hits."""
    half = 200
    inputs, outputs = np.full(2 * half, 3000.0), np.full(2 * half, 60.0)
    cached = np.concatenate([np.zeros(half), 0.6 * inputs[half:]])
    bucket = GRID.cell_of(inputs, outputs)
    buckets, _ = sent(0)
    asked = demand_from_samples(
        buckets, bucket, inputs, outputs, duration_s=50, dispersion=(2.0,), cached=cached
    )
    requests = SentRequests(
        bucket=bucket, input_tokens=inputs, output_tokens=outputs, cached_tokens=cached,
        key=("ann",) * half + ("bob",) * half,
    )  # fmt: skip

    bill = dict(explain(provision(asked, POOLS), asked, POOLS, sent=requests).key)

    assert bill["bob"] < 0.8 * bill["ann"]


def test_models_are_billed_apart():
    """A model's buckets pay its own pools only."""
    asked = demand(6, 20, ("m", "n"))
    pools = (*POOLS, pool("H100", 6.9, "n"))
    plan = provision(asked, pools)

    why = explain(plan, asked, pools)

    other = plan.backends[-1] * 6.9
    assert sum(why.bucket[GRID.cells :]) == pytest.approx(other)
    assert why.gap.bound + why.gap.total == pytest.approx(plan.usd_per_hour)


def test_unserved_demand_is_in_no_bill():
    """What the limits leave out neither pays nor counts, and its next request has a price."""
    asked = demand(2, 400)
    pools = tuple(replace(p, max_backends=2) for p in POOLS)
    plan = provision(asked, pools)

    why = explain(plan, asked, pools)

    assert plan.unserved
    assert served_demand(plan, asked).total_rate < asked.total_rate
    assert sum(why.bucket) + why.idle == pytest.approx(plan.usd_per_hour)
    assert all(usd is not None and usd > 0 for usd in why.next_usd)


def test_the_next_price_is_marked_where_it_misleads():
    """Below ten backends the derivative is no forecast, and the explanation says so."""
    small, large = demand(3, 2), demand(3, 400)

    assert not explain(provision(small, POOLS), small, POOLS).reliable
    assert explain(provision(large, POOLS), large, POOLS).reliable


def test_single_types_stand_beside_the_plan():
    """Every type is priced for the same demand, and none that serves it all is cheaper."""
    asked = demand(1, 12)
    plan = with_single_types(provision(asked, POOLS), asked, POOLS)

    able = [single for single in plan.singles if not single.unserved_share]

    assert [single.gpu for single in plan.singles] == list(USD)
    assert able
    assert all(single.usd_per_hour >= plan.usd_per_hour - 1e-9 for single in able)
    assert all((single.why is None) == (single in able) for single in plan.singles)

"""The queue for prefill: what a tight TTFT target asks beside the load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.engine import profiles
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program import solve
from planner.program.headroom import bucket_loads, prefill_work, utilisations
from planner.program.prefill import FARTHEST, Prefill
from planner.sizes import Grid, log_edges
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

PRICES = {"a10g": 1.0, "a100-80g": 3.43, "h100": 6.88}
POOLS = tuple(
    Pool(
        name=gpu,
        model="m",
        profile=profiles.find_profile(f"llama-3-8b/{gpu}", Path()),
        usd_per_hour=usd,
    )
    for gpu, usd in PRICES.items()
)


def demand(rate, ttft_s):
    """Long prompts, short answers and a loose TPOT: what queues is prefill."""
    rng = np.random.default_rng(1)
    inputs = np.clip(np.rint(rng.lognormal(np.log(1500), 0.6, 2000)), 10, 6000)
    outputs = np.clip(np.rint(rng.lognormal(np.log(120), 0.5, 2000)), 2, 900)
    buckets = Buckets(
        classes=(SloClass(model="m", slo=Slo(ttft_s=ttft_s, tpot_s=0.2)),),
        grid=Grid(input_edges=log_edges(64, 8192), output_edges=log_edges(16, 1024)),
    )
    cells = buckets.grid.cell_of(inputs, outputs)
    return demand_from_samples(
        buckets, cells, inputs, outputs, duration_s=2000 / rate, dispersion=(1.0,)
    )


def single_bucket(rate, seconds, slack_s, burst=1.0, misses=0.01):
    """One bucket on one pool, every prompt of the same length."""
    return Prefill(
        rate=np.array([rate]),
        seconds=np.array([[seconds]]),
        squares=np.array([[seconds**2]]),
        slack_s=np.array([[slack_s]]),
        burst=np.array([burst]),
        misses=np.array([misses]),
    )


def raised(prompts, backends):
    return float(prompts.raised(np.ones((1, 1)), np.array([float(backends)]))[0])


def test_a_loose_ttft_asks_for_nothing_more():
    """At two seconds the load binds: the plan is the one that it was without prefill."""
    asked = demand(15, 2.0)
    plan = solve.provision(asked, POOLS)
    load = [np.ceil(m + t - 1e-6) for m, t in zip(plan.load, plan.tail, strict=True)]

    assert list(plan.backends) == load


@pytest.mark.parametrize("ttft_s", [1.0, 0.6])
def test_a_tight_ttft_asks_for_more_than_the_load(ttft_s):
    """The same requests under a tighter promise cost more, though their load is the same."""
    asked = demand(36, ttft_s)
    loose, tight = (solve.provision(d, POOLS) for d in (demand(36, 2.0), asked))

    assert tight.usd_per_hour > loose.usd_per_hour
    plans = replace(loose, buckets=asked.buckets), tight
    too_small, large_enough = utilisations(asked, POOLS, plans)
    assert max(too_small) > 1
    assert max(large_enough) <= 1


def test_plans_hold_their_own_prefill():
    """No pool of a plan has fewer backends than its prompts need."""
    asked = demand(40, 0.4)
    plan = solve.provision(asked, POOLS)
    backends = np.array(plan.backends, dtype=float)

    again = prefill_work(asked, bucket_loads(asked, POOLS)).raised(np.array(plan.weights), backends)

    assert again.tolist() == backends.tolist()


def test_an_exponential_queue_is_what_the_formula_says():
    """One server, Poisson arrivals, exponential service: the tail is ρ·exp(−(1 − ρ)t/E[S])."""
    prompts = single_bucket(rate=5.0, seconds=0.1, slack_s=0.0)
    slack_s = np.log(0.5 / 0.01) * 0.1 / 0.5
    exponential = 2 * prompts.squares

    def with_slack(share):
        return Prefill(
            rate=prompts.rate, seconds=prompts.seconds, squares=exponential, burst=prompts.burst,
            misses=prompts.misses, slack_s=np.array([[share * slack_s]]),
        )  # fmt: skip

    assert raised(with_slack(1.01), 1) == 1
    assert raised(with_slack(0.99), 1) > 1


@given(
    st.floats(0.1, 50), st.floats(0.01, 0.5), st.floats(0.0, 3.0), st.floats(1.0, 20.0),
    st.integers(1, 20),
)  # fmt: skip
def test_more_patience_never_needs_more(rate, seconds, slack_s, burst, backends):
    """Counts are never lowered and are bounded; they fall with slack and rise with burstiness."""
    least = raised(single_bucket(rate, seconds, slack_s, burst), backends)

    assert backends <= least <= np.ceil(FARTHEST * backends + 1)
    assert raised(single_bucket(rate, seconds, slack_s + 1.0, burst), backends) <= least
    assert raised(single_bucket(rate, seconds, slack_s, burst + 1.0), backends) >= least


def test_nothing_asked_changes_nothing():
    """Where no prompts are described counts stay."""
    counts = np.array([2.0, 0.0])

    assert Prefill.none(3, 2).raised(np.ones((3, 2)), counts).tolist() == counts.tolist()

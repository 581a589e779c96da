"""Plans and portfolios for people: every figure in its row, and what is missing stated."""

from dataclasses import replace
from io import StringIO

import numpy as np
from rich.console import Console

from cuvee.terminal import show_plan, show_portfolio
from planner.costs.explain import SentRequests, explain, with_single_types
from planner.costs.portfolio import buy_portfolio
from planner.costs.whatif import alternative
from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 512, 8192), output_edges=(1, 128, 2048))
SPEC = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
POOLS = (Pool(name="h", model="m", profile=profiles.build(SPEC), usd_per_hour=7.0),)
BUCKETS = Buckets(classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=0.1)),), grid=GRID)
SENT = SentRequests(
    bucket=np.array([0, 1, 2]),
    input_tokens=np.array([100.0, 100, 2000]),
    output_tokens=np.array([50.0, 500, 20]),
    key=("ann", "bob", ""),
)
DEMAND = demand_from_samples(
    BUCKETS, SENT.bucket, SENT.input_tokens, SENT.output_tokens, duration_s=1, dispersion=(1.5,)
).scaled_to(100)


def shown(pools: tuple[Pool, ...], *changes: str, whole: bool = True) -> str:
    plan = with_single_types(provision(DEMAND, pools), DEMAND, pools)
    explanation = explain(plan, DEMAND, pools, sent=SENT)
    out = StringIO()
    alternatives = [alternative(change, DEMAND, pools) for change in changes]
    show_plan(plan, explanation, alternatives, Console(file=out, width=120), whole=whole)
    return out.getvalue()


def test_the_whole_plan_has_buckets_keys_and_changes():
    """Requests without a key are billed as such; a small fleet's prices have a caveat."""
    text = shown(POOLS, "tpot_s=0.05")

    for word in ("ann", "bob", "(none)", "tpot_s=0.05", "lower bound", "whole backends", "next"):
        assert word in text
    assert "fewer than 10 backends" in text


def test_of_many_pools_those_without_a_backend_are_a_number():
    """Twenty engine configurations fit on no screen, and a plan uses few of them."""
    dear = [replace(POOLS[0], name=f"h{n}", usd_per_hour=8.0 + n) for n in range(20)]

    text = shown((*POOLS, *dear))

    assert "(20 others)" in text
    assert "h19" not in text


def test_what_limits_leave_out_is_stated():
    """The bucket, its rate and the reason; what idles has a row of its own in the bill."""
    few = shown((replace(POOLS[0], max_backends=1),))
    many = shown((*POOLS, replace(POOLS[0], name="spare", usd_per_hour=9.0, min_backends=1)))

    assert "unserved: m in" in few
    assert "max_backends" in few
    assert "limits" in many


def test_a_portfolio_states_what_it_saves():
    """Against renting everything, against one type; and what no fleet can serve."""
    out = StringIO()
    bound = (replace(POOLS[0], max_backends=2),)

    show_portfolio(
        buy_portfolio(DEMAND, bound, np.array([5.0, 400]), discount=0.4),
        Console(file=out, width=120),
    )

    for word in ("2 hours", "H100", "all on demand", "saving", "unserved in the busiest hour"):
        assert word in out.getvalue()

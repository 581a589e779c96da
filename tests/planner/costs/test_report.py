"""What scripts read: the keys stay, and every value is plain."""

import json

import numpy as np

from planner.costs.explain import SentRequests, explain, with_single_types
from planner.costs.portfolio import buy_portfolio
from planner.costs.report import plan_json, portfolio_json
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
    bucket=np.array([0, 1, 2, 2]),
    input_tokens=np.array([100.0, 100, 2000, 3000]),
    output_tokens=np.array([50.0, 500, 20, 90]),
    key=("ann", "bob", "", "ann"),
)
DEMAND = demand_from_samples(
    BUCKETS, SENT.bucket, SENT.input_tokens, SENT.output_tokens, duration_s=1, dispersion=(1.5,)
)


def test_a_plan_keeps_its_keys():
    """What 0.1 had is there under the same names, after the share that the bill is not for."""
    plan = with_single_types(provision(DEMAND, POOLS), DEMAND, POOLS)

    body = plan_json(plan)

    assert list(body) == [
        "unserved_share",
        "plan_id", "objective", "usd_per_hour", "lower_bound_usd_per_hour", "gap", "solve_s",
        "pools", "backends", "load", "tail", "requests_per_s", "buckets", "rate", "weights",
        "switching_usd_per_hour", "certificate", "relaxation", "unserved", "single_types",
        "safe_usd_per_hour", "cached_share",
    ]  # fmt: skip
    assert json.loads(json.dumps(body)) == body


def test_an_explanation_goes_with_the_plan():
    """Lists by bucket as long as the plan's; sums that a script can check."""
    plan = provision(DEMAND, POOLS)
    why = explain(plan, DEMAND, POOLS, sent=SENT)
    others = [alternative("tpot_s=0.05", DEMAND, POOLS)]

    body = plan_json(plan, why, others)
    explanation, (other,) = body["explanation"], body["what_if"]

    assert json.loads(json.dumps(body)) == body
    assert set(explanation["gap_usd_per_hour"]) == {
        "tail", "integrality", "limits", "switching", "reserved",
    }  # fmt: skip
    parts = sum(explanation["gap_usd_per_hour"].values())
    assert abs(explanation["lower_bound_usd_per_hour"] + parts - body["usd_per_hour"]) < 1e-9
    assert len(explanation["usd_per_hour_by_bucket"]) == len(body["rate"])
    assert len(explanation["next_usd_per_1000_requests"]) == len(body["rate"])
    assert set(explanation["usd_per_hour_by_key"]) == {"ann", "bob", ""}
    bill = sum(explanation["usd_per_hour_by_key"].values()) + explanation["idle_usd_per_hour"]
    assert abs(bill - body["usd_per_hour"]) < 1e-9
    assert other["change"] == "tpot_s=0.05"
    assert other["backends"].keys() == body["backends"].keys()


def test_a_portfolio_as_json():
    """Commitments by GPU, the three kinds of cost, and the savings."""
    body = portfolio_json(buy_portfolio(DEMAND, POOLS, np.array([5.0, 50, 20]), discount=0.4))

    assert json.loads(json.dumps(body)) == body
    assert set(body["gpus"]) == {"H100"}
    assert {"committed", "on_demand_hours", "spot_hours"} <= set(body["gpus"]["H100"])
    total = body["committed_usd"] + body["on_demand_usd"] + body["spot_usd"]
    assert abs(total - body["usd"]) < 1e-9
    assert body["saving"] == 1 - body["usd"] / body["all_on_demand_usd"]
    assert body["single_type"] == "H100"

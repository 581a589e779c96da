"""How a gateway stands, from two readings of its admin port."""

import json
from typing import Any

from gateway.inspection.admin_client import AdminReading
from gateway.inspection.samples import Samples
from gateway.inspection.standing import standing

PLAN: dict[str, Any] = {
    "plan_id": "abc", "usd_per_hour": 8.0, "reason": "more demand", "pools": ["a", "b"],
    "certificate": {"holds": True, "attainment": 0.995},
    "single_types": {
        "H100": {"feasible": True, "usd_per_hour": 14.0},
        "A10G": {"feasible": True, "usd_per_hour": 10.0},
        "T4": {"feasible": False, "usd_per_hour": 1.0},
    },
}  # fmt: skip


def reading(at_s: float, requests: int, kept: int, missed: int, **values: Any) -> AdminReading:
    page = f"""
cuvee_build_info{{version="1"}} 1
cuvee_backend_up{{backend="a-0",pool="a"}} 1
cuvee_backend_up{{backend="a-1",pool="a"}} 0
cuvee_load{{backend="a-0",pool="a"}} 0.8
cuvee_load{{backend="a-1",pool="a"}} 0
cuvee_in_flight{{backend="a-0",pool="a"}} 7
cuvee_desired_backends{{pool="a"}} 3
cuvee_pool_pace{{pool="a"}} 1.1
cuvee_requests_total{{model="m",outcome="ok",pool="a"}} {requests}
cuvee_slo_total{{class="default",met="yes",model="m",pool="a"}} {kept}
cuvee_slo_total{{class="default",met="no",model="m",pool="a"}} {missed}
cuvee_responses_total{{class="default",code="503",model="m"}} 4
cuvee_queued_requests{{worker="0"}} 2
"""
    told = {"/cuvee/plan": PLAN, "/readyz": {"status": "ready"}} | values
    return AdminReading("http://gateway", Samples(page), told, at_s)


def test_rates_and_shares_are_of_the_interval():
    """Counts are since the start."""
    seen = standing(reading(110.0, 130, 118, 12), reading(100.0, 100, 100, 0))

    [one] = seen.classes
    assert seen.requests_per_s == 3.0
    assert (one.recent, one.share) == (0.6, 118 / 130)
    assert (seen.requests, seen.errors, seen.queued) == (130, 4, 2)


def test_the_fleet_by_pools_of_the_plan():
    """Those without a backend too; the load is the mean of all that there are."""
    first, second = standing(reading(110.0, 1, 1, 0)).pools

    assert (first.up, first.backends, first.desired, first.in_flight) == (1, 2, 3, 7)
    assert (first.load, first.pace) == (0.4, 1.1)
    assert (second.backends, second.load, second.pace) == (0, None, None)


def test_dollars_beside_the_cheapest_type_that_can():
    """A type that cannot serve all is no measure; before a demand is known there is none."""
    seen = standing(reading(110.0, 1, 1, 0))
    assert (seen.single, seen.compared) == (("A10G", 10.0), True)
    unknown = standing(reading(1.0, 1, 1, 0, **{"/cuvee/plan": {"single_types": {}}}))
    assert (unknown.single, unknown.compared) == (None, False)


def test_a_restart_between_two_looks_has_no_rate():
    """Counters begin anew: nothing negative is shown."""
    seen = standing(reading(110.0, 3, 3, 0), reading(100.0, 1000, 1000, 0))

    assert seen.requests_per_s is None
    assert seen.classes[0].recent is None


def test_loops_that_fail_are_named():
    """With their reasons; the others are not."""
    loops = {"a": {"error": "broken"}, "b": {"error": None}}

    assert standing(reading(1.0, 1, 1, 0, **{"/cuvee/loops": {"loops": loops}})).loops == {
        "a": "broken"
    }


def test_all_of_it_is_plain_values():
    """As JSON has them."""
    told = json.loads(json.dumps(standing(reading(1.0, 1, 1, 0)).figures()))

    assert told["pools"][0]["name"] == "a"
    assert told["single"] == {"gpu": "A10G", "usd_per_hour": 10.0}

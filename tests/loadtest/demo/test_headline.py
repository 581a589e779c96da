"""The last lines of a demo say what the run showed, and no more."""

from dataclasses import replace

from loadtest.demo import summary
from loadtest.demo.headline import headline
from loadtest.demo.race import FleetInForce, Lane, LaneRequest
from loadtest.demo.summary import PlanSeen
from loadtest.replay.record import Record
from planner.slo import Slo

CERTIFICATE = {"attainment": 0.9962, "seeds": 16, "holds": True}
SINGLES = {
    "A": {
        "feasible": True, "certified": True, "usd_per_hour": 10.0, "backends": {"a": 4, "b": 0},
        "unserved_share": 0.0,
    },
}  # fmt: skip


def plan(name, at_s, usd, certificate):
    body = {
        "plan_id": name, "usd_per_hour": usd, "pools": ["a", "b"], "backends": {"a": 1, "b": 2},
        "certificate": certificate, "single_types": SINGLES,
    }  # fmt: skip
    return PlanSeen(at_s=at_s, body=body)


def record(at_s, plan_id):
    return Record(
        index=0, arrival_s=at_s, sent_s=at_s, e2e_s=1.0, input_tokens=5, output_tokens=5,
        status=200, ttft_s=0.1, tpot_s=0.05, plan=plan_id,
    )  # fmt: skip


OTHER = Lane(
    name="round robin",
    played=True,
    fleets=(FleetInForce(from_s=0.0, backends={"a": 1}, usd_per_hour=8.0),),
    requests=(
        LaneRequest(arrival_s=0.0, ended_s=1.0, met=True),
        LaneRequest(arrival_s=5.0, ended_s=9.0, met=False),
    ),
)
RUN = summary.summarise(
    [record(0.0, "p1"), record(5.0, "p2")],
    [plan("p1", 0.0, 8.0, CERTIFICATE), plan("p2", 4.5, 9.0, None)],
    Slo(ttft_s=1.0, tpot_s=0.1),
    turn_s=4.0,
    gpus={"a": "A", "b": "B"},
    others=[OTHER],
)


def test_a_buyer_reads_dollars_and_what_is_proven():
    """For each half the plan in force at its end, beside the best fleet of one type."""
    before, after, run, others, how = headline(RUN)

    assert "$8.00/h (1 A, 2 B) instead of $10.00 (4 A): 20% less" in before
    assert "99.6% kept, proven on 16 seeds" in before
    assert "10% less; safe by the formula, not yet certified" in after
    assert "2 requests, 0 failed, 100.0% kept TTFT ≤ 1 s and TPOT ≤ 100 ms; 1 swap" in run
    assert "round robin on the same mix: 50.0% kept" in others
    assert "virtual time" in how


def test_nothing_is_said_of_lanes_that_did_not_race():
    """A run without them has the lines about itself alone."""
    alone = replace(RUN, lanes=RUN.lanes[:1])

    assert len(headline(alone)) == 3

"""A run adds up: periods, shares and costs say what the records and plans say."""

import json

import pytest
from rich.console import Console

from loadtest.demo import summary
from loadtest.demo.summary import Period, PlanSeen
from loadtest.replay.record import Record
from planner.slo import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.1)


def plan(name, at_s, weights, usd, singles):
    """What `/cuvee/plan` says, as far as a summary reads it: pools a and b, one bucket."""
    return PlanSeen(
        at_s=at_s,
        body={
            "plan_id": name,
            "reason": "because",
            "pools": ["a", "b"],
            "backends": {"a": 1, "b": 2},
            "weights": [weights],
            "rate": [1.0],
            "requests_per_s": 1.0,
            "usd_per_hour": usd,
            "lower_bound_usd_per_hour": usd / 2,
            "buckets": {
                "input_edges": [1, 10],
                "output_edges": [1, 20],
                "cells": [{"model": "m", "input": [1, 10], "output": [1, 20]}],
            },
            "certificate": None,
            "single_types": singles,
        },
    )


SINGLES = {
    "A": {
        "feasible": True,
        "usd_per_hour": 10.0,
        "backends": {"a": 4},
        "unserved_share": 0.0,
        "certified": False,
    },
    "B": {
        "feasible": False,
        "usd_per_hour": 1.0,
        "backends": {"b": 1},
        "unserved_share": 0.25,
        "certified": False,
    },
}
GPUS = {"a": "A", "b": "B"}
PLANS = [plan("p1", 0.0, [0.5, 0.5], 8.0, SINGLES), plan("p2", 6.0, [1.0, 0.0], 5.0, SINGLES)]


def record(at_s, pool, plan_id, *, ttft_s=0.5, error=None, decision="planned"):
    return Record(
        index=0, arrival_s=at_s, sent_s=at_s, e2e_s=1.0, input_tokens=5, output_tokens=5,
        status=200, ttft_s=ttft_s, tpot_s=0.05, error=error, pool=pool, bucket="0", plan=plan_id,
        decision=decision,
    )  # fmt: skip


RECORDS = [
    record(0, "a", "p1"),
    record(1, "b", "p1", decision="spill"),
    record(5, "a", "p1", ttft_s=2.0),
    record(6, "a", "p1"),
    record(7, "a", "p2", error="boom"),
]


def row(period: Period) -> tuple[str, int, int, int, int]:
    """Name, requests, failed, off the plan, within the SLO."""
    assert period.attainment is not None
    return (
        period.name, period.requests, period.failed, period.off_plan, period.attainment.met,
    )  # fmt: skip


def test_periods_part_at_the_turn_and_at_the_swap():
    """Every request is in one period and in the whole; failed and slow ones missed the SLO."""
    run = summary.summarise(RECORDS, PLANS, SLO, turn_s=4.0, gpus=GPUS)

    assert [row(period) for period in run.periods] == [
        ("before, plan 1", 2, 0, 1, 2),
        ("after, plan 1", 2, 0, 0, 1),
        ("after, plan 2", 1, 1, 0, 0),
        ("everything", 5, 1, 1, 3),
    ]
    assert [(p.name, p.requests) for p in run.pools] == [("a", 4), ("b", 1)]


def test_shares_are_planned_beside_real():
    """Per plan and bucket: the plan's weights, and where its requests went."""
    run = summary.summarise(RECORDS, PLANS, SLO, turn_s=4.0, gpus=GPUS)

    assert [(s.plan, s.requests, s.planned, s.real) for s in run.slices] == [
        ("p1", 4, (0.5, 0.5), (0.75, 0.25)),
        ("p2", 1, (1.0, 0.0), (1.0, 0.0)),
    ]


def test_a_plan_that_served_no_request_is_left_out():
    """A plan seen after the last request says nothing about the run."""
    late = plan("p3", 9.0, [0.0, 1.0], 3.0, SINGLES)

    run = summary.summarise(RECORDS, [*PLANS, late], SLO, turn_s=4.0, gpus=GPUS)

    assert [p.name for p in run.plans] == ["p1", "p2"]


def test_the_tables_fit_a_terminal_and_name_the_best_single_type():
    """80 columns; the saving is against the best type that can serve everything."""
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in summary.tables(summary.summarise(RECORDS, PLANS, SLO, turn_s=4.0, gpus=GPUS)):
        console.print(table)
    console.file.close()
    text = console.export_text()

    assert "cannot: 25%" in text
    assert "10.00 (× 4)" in text
    assert "20%" in text  # 8 against 10
    assert "50%" in text  # 5 against 10
    assert "…" not in text


def test_json_holds_everything():
    """The JSON form has the same figures under the names of the fields."""
    run = summary.summarise(RECORDS, PLANS, SLO, turn_s=4.0, gpus=GPUS)

    read = json.loads(json.dumps(summary.to_json(run)))

    assert read["requests"] == 5
    assert read["plans"][1]["body"]["usd_per_hour"] == 5.0
    assert read["periods"][3]["attainment"]["share"] == pytest.approx(0.6)

"""The race: the same requests on other fleets, in virtual time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.config.load import load
from loadtest.demo.race import FleetInForce, Lane, LaneRequest, Race, best_single
from planner.traffic.trace import Trace

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "demo.yaml"
# Prompts that only one of the two pools can read in time, and as many that both can.
TRACE = Trace(
    arrival_s=np.arange(120, dtype=float) / 6,
    input_tokens=np.tile([200.0, 6000.0], 60),
    output_tokens=np.full(120, 50.0),
    key=("k",) * 120,
)
THREE = {"a100": 3}


def single(usd, certified=False, feasible=True, backends=THREE):
    return {
        "usd_per_hour": usd,
        "certified": certified,
        "feasible": feasible,
        "backends": backends,
    }


def body(backends, usd, **singles):
    """What `/cuvee/plan` says, as far as the race reads it."""
    return {
        "backends": backends,
        "usd_per_hour": usd,
        "certificate": None,
        "single_types": singles,
    }


def test_the_best_single_type_is_a_certified_one_where_there_is_one():
    """One that is only calculated counts where none was played; one that cannot serve, never."""
    calculated, played = single(5.0), single(7.0, certified=True)

    def best(**singles: Any) -> str | None:
        found = best_single(body({}, 1.0, **singles), 0.0)
        return None if found is None else found.gpu

    assert best(A=calculated, B=played) == "B"
    assert best(A=calculated, C=single(9.0)) == "A"
    assert best(A=single(1.0, feasible=False)) is None


def test_every_request_races_once_in_every_lane():
    """Also over a change of the plan, at which both lanes change their fleets."""
    race = Race(load(CONFIG), TRACE)
    race.on_plan(body({"a10g": 1, "a100": 1}, 4.4, A=single(6.9, backends={"a100": 2})), 0.0)
    race.on_plan(body({"a100": 2}, 6.9, A=single(10.3)), 10.0)

    for lane in (race.single, race.round_robin):
        assert [r.arrival_s for r in lane.requests] == pytest.approx(TRACE.arrival_s.tolist())
        assert [fleet.from_s for fleet in lane.fleets] == [0.0, 10.0]
        assert all(r.ended_s > r.arrival_s for r in lane.requests)
    before, after = race.single.fleet(9.9), race.single.fleet(10.0)
    assert before is not None
    assert after is not None
    assert (before.backends, after.backends) == ({"a100": 2}, {"a100": 3})


def test_round_robin_breaks_promises_that_large_backends_alone_keep():
    """Each second request goes to a small GPU, whatever its size."""
    race = Race(load(CONFIG), TRACE)
    race.on_plan(body({"a10g": 1, "a100": 2}, 7.9, A=single(10.3)), 0.0)

    assert race.single.kept() == 1.0
    assert (race.round_robin.kept() or 0.0) < 0.9


def test_a_lane_counts_what_has_ended_and_what_was_paid():
    """Half an hour of $2 and half an hour of $4 cost $3; a request counts from its end on."""
    lane = Lane(
        name="x",
        played=True,
        fleets=(
            FleetInForce(from_s=0.0, backends={"a": 1}, usd_per_hour=2.0),
            FleetInForce(from_s=1800.0, backends={"a": 2}, usd_per_hour=4.0),
        ),
        requests=(
            LaneRequest(arrival_s=0.0, ended_s=10.0, met=True),
            LaneRequest(arrival_s=1.0, ended_s=20.0, met=False),
        ),
    )

    assert lane.spent_usd(3600.0) == pytest.approx(3.0)
    assert lane.spent_usd(900.0) == pytest.approx(0.5)
    assert (lane.kept(5.0), lane.kept(15.0), lane.kept()) == (None, 1.0, 0.5)

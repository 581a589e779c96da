"""The bill of a day: what fleets cost that follow one demand in different ways."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from loadtest.day.bill import DayDemand, delay_slots, spent_usd
from planner.traffic.trace import read_trace

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def day() -> DayDemand:
    """Two quiet slots, a busy one, and a quiet one."""
    loaded = load(CONFIGS / "demo.yaml")
    pools = tuple(replace(pool, max_backends=12) for pool in loaded.pools)
    trace = read_trace(CONFIGS / "workloads" / "chat.csv")
    demand = demand_of(trace, loaded, estimator=Estimator())
    return DayDemand(demand, pools, np.array([2.0, 2.0, 12.0, 2.0]))


def test_who_knows_everything_is_never_short(day):
    """Each slot costs the cheapest fleet for its own rate."""
    lane = day.clairvoyant("clairvoyant", 4.0)
    each = [day.usd_per_hour(day.required(rate)) for rate in day.rates.tolist()]

    assert lane.short_share == 0.0
    assert lane.usd == pytest.approx(sum(each))
    assert each[2] > each[0]


def test_a_loop_that_orders_what_it_saw_is_short_as_demand_rises(day):
    """What it orders for the busy slot comes when that is over; until it comes, nothing goes."""
    lane = day.naive("naive", 4.0, 1)

    assert lane.short_share == 0.25
    assert lane.usd == pytest.approx(4 * day.usd_per_hour(day.required(2.0)))


def test_the_best_type_alone_is_never_cheaper(day):
    """A mix may always be of one type; a fleet for the peak costs more than one that moves."""
    moving, still = day.single(4.0)

    assert day.clairvoyant("clairvoyant", 4.0).usd <= moving.usd + 1e-9 < still.usd


def test_a_fleet_that_is_too_small_is_short(day):
    """By the planner's own measure, at the true rate."""
    enough = day.required(12.0)
    counts = [day.required(2.0), enough, day.required(2.0), enough]

    assert day.own("own", 1.0, counts).short_share == 0.25


def test_machines_cost_from_their_order_to_their_end():
    """In hours of the day that is shown."""
    spans = [("a", 0.0, 10.0), ("b", 5.0, 10.0)]

    assert spent_usd(spans, {"a": 1.0, "b": 4.0}, 0.1) == pytest.approx(3.0)
    assert (delay_slots(3.0, 3.0), delay_slots(3.1, 3.0)) == (1, 2)

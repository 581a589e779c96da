"""How long a play must last."""

import numpy as np
import pytest

from planner.model.buckets import Buckets, SloClass
from planner.proof.length import LEAST_S, REQUESTS, STAYS, play_length
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(100, 10_000), output_edges=(100, 10_000))
CLASSES = (
    SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=0.1)),
    SloClass(model="m", slo=Slo(ttft_s=30, tpot_s=0.5), name="batch"),
)


def demand(outputs, bucket=0, rate=50.0):
    sizes = np.full(len(outputs), 50.0), np.array(outputs, dtype=float)
    buckets = Buckets(classes=CLASSES, grid=GRID)
    return demand_from_samples(
        buckets, np.full(len(outputs), bucket), *sizes, duration_s=len(outputs) / rate,
        dispersion=(1.0, 1.0),
    )  # fmt: skip


def test_the_longest_stay_decides_for_long_answers():
    """P99 of the output at the TPOT target, and the TTFT, three times."""
    length = play_length(demand([5000.0] * 200))

    assert length.history_s == pytest.approx(2 + 5000 * 0.1, rel=0.1)
    assert length.counted_s == pytest.approx(STAYS * length.history_s)
    assert length.lead_s == pytest.approx(length.history_s)
    assert length.tail_s == pytest.approx(2 * length.lead_s)


def test_each_class_stays_by_its_own_promise():
    """The same answers under a laxer promise may stay five times as long."""
    strict, lax = (play_length(demand([2000.0] * 200, bucket=b)) for b in (0, GRID.cells))

    assert lax.history_s > 4 * strict.history_s


def test_short_answers_are_played_for_minutes_and_thousands():
    """Bursts last for minutes; with few requests a second, enough of them must come."""
    usual, seldom = play_length(demand([10.0] * 200)), play_length(demand([10.0] * 200, rate=1.0))

    assert usual.counted_s == LEAST_S
    assert seldom.counted_s == pytest.approx(REQUESTS)
    assert usual.longer(3).counted_s == 3 * LEAST_S
    assert usual.total_s == sum((usual.history_s, usual.lead_s, usual.counted_s, usual.tail_s))

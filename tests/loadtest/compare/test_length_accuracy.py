"""Length prediction is measured honestly: before it learns, and against what others do."""

from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from loadtest.compare.length_accuracy import WARM_UP, measure_accuracy, prediction_cost
from planner.errors import InvalidValue
from planner.program import solve
from planner.traffic.trace import Trace, read_trace

CONFIG = Path(__file__).resolve().parents[3] / "configs/demo.yaml"
HISTORY = Path(__file__).resolve().parents[3] / "configs/workloads/azure-2023-history.csv"


def trace(lengths, keys):
    count = len(lengths)
    return Trace(
        arrival_s=np.arange(count, dtype=float),
        input_tokens=np.full(count, 100.0),
        output_tokens=np.array(lengths, dtype=float),
        key=tuple(keys),
    )


def test_keys_part_what_sizes_cannot():
    """Two senders of the same prompt size with different answers: only the key tells them apart."""
    keys = ["a", "b"] * 600
    rows = trace([10 if key == "a" else 200 for key in keys], keys)

    ours, drawn, *_ = measure_accuracy(rows, rng=np.random.default_rng(0))
    blind, *_ = measure_accuracy(rows, rng=np.random.default_rng(0), keys=False)

    assert ours.mae < 10
    assert drawn.mae == pytest.approx(95, rel=0.1)  # wrong half of the time, by 190
    assert blind.mae > 5 * ours.mae


def test_a_request_is_never_predicted_from_itself():
    """Answers that only ever grow are always underestimated."""
    rows = trace(range(1, WARM_UP + 300), ["a"] * (WARM_UP + 299))

    ours, *_ = measure_accuracy(rows, rng=np.random.default_rng(0))

    assert ours.bias < 1
    assert ours.covered == 0.0


def test_real_traffic_meets_the_promises():
    """On the shipped trace: at most half the error of a random draw, and an honest P90."""
    ours, drawn, *_ = measure_accuracy(read_trace(HISTORY), rng=np.random.default_rng(0))

    assert ours.mae <= 0.5 * drawn.mae
    assert ours.covered == pytest.approx(0.90, abs=0.02)


def test_a_short_trace_is_refused():
    """Too few requests to warm up on prove nothing."""
    with pytest.raises(InvalidValue, match="too short"):
        measure_accuracy(trace([1] * 10, ["a"] * 10), rng=np.random.default_rng(0))


def test_true_lengths_and_learned_ones_keep_the_same_promise():
    """On the shipped trace, on a fleet without much to spare: within 0.6 points."""
    loaded = load(CONFIG)
    history = read_trace(HISTORY)
    plan = solve.assign(demand_of(history, loaded, estimator=Estimator()), loaded.pools, (2, 0, 1))

    cost = prediction_cost(history, plan, loaded.pools)

    assert cost.requests == len(history)
    assert cost.truth < 1.0  # it is a fleet on which something can be lost
    assert abs(cost.points) <= 0.6


def test_lengths_that_cannot_be_predicted_cost_attainment():
    """The measure can tell: every fifth answer is ninety times as long, and nothing says which."""
    loaded, count = load(CONFIG), 1500
    rng = np.random.default_rng(0)
    wild = Trace(
        arrival_s=np.cumsum(rng.exponential(1 / 6.0, count)),
        input_tokens=np.full(count, 300.0),
        output_tokens=np.where(rng.random(count) < 0.8, 10.0, 900.0),
        key=("",) * count,
    )
    plan = solve.assign(demand_of(wild, loaded, estimator=Estimator()), loaded.pools, (2, 0, 0))

    assert prediction_cost(wild, plan, loaded.pools).points > 5

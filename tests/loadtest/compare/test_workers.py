"""Several workers serve a fleet about as well as one."""

from pathlib import Path

import pytest

from gateway.routing import shared_load
from loadtest.compare.sharing import highest_rate
from loadtest.compare.workers import WorkersBench

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RATE = 20.0


@pytest.fixture(scope="module")
def bench():
    trace = CONFIGS / "workloads" / "azure-2023-turn.csv"
    return WorkersBench.planned(CONFIGS / "demo.yaml", trace, rate=RATE, requests=4000, seeds=1)


def test_the_attainable_load_is_where_the_target_is_met():
    """The highest rate of a falling attainment."""
    assert highest_rate(lambda rate: 1 - rate / 1000, 10.0, 0.98) == pytest.approx(20.0, rel=0.005)


@pytest.mark.long
def test_four_workers_attain_what_one_does(bench):
    """Within 2 % of the load at which one just keeps the promise, four keep it too."""
    target = bench.slo.attainment
    single = highest_rate(lambda rate: bench.attainment(rate, 1), RATE, target)

    assert RATE < single < 4 * RATE  # inside the bracket
    assert bench.attainment(0.98 * single, 4) >= target


def test_workers_that_saw_nothing_of_each_other_would_not(bench, monkeypatch):
    """The test above can fail: with more load it would, if the shared load were never read."""
    monkeypatch.setattr(shared_load, "STALE_S", float("inf"))

    assert bench.attainment(2.8 * RATE, 4) < bench.slo.attainment - 0.1

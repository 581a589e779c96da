"""What a plan would change of the fleet that there is."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.rehearsal.fleet_diff import FleetVerdict, compare_fleet, limits_of_change
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from planner.model.demand import Demand
from planner.program.solve import provision
from planner.traffic.trace import read_trace

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TRACE = read_trace(CONFIGS / "workloads" / "azure-2023-history.csv")
FILE = """
prices: aws-2026-07
models: {{llama-3-8b: {{slo: {{ttft_s: 2.0, tpot_s: 0.12}}}}}}
pools:
  a100:
    model: llama-3-8b
    profile: llama-3-8b/A100-80G
    backends: [{urls}]
    max_backends: {most}
planner: {{min_saving: {saving}}}
"""


def make_loaded(folder: Path, backends: int, *, most: int = 8, saving: float = 0.05) -> Loaded:
    """A configuration with so many A100."""
    urls = ", ".join(f'"http://127.0.0.1:{9000 + n}"' for n in range(backends))
    path = folder / "cuvee.yaml"
    path.write_text(FILE.format(urls=urls, most=most, saving=saving))
    return load(path)


def compared(loaded: Loaded, rate: float):
    demand = demand_at(loaded, rate)
    return compare_fleet(provision(demand, loaded.pools, limits_of_change(loaded)), demand, loaded)


def demand_at(loaded: Loaded, rate: float) -> Demand:
    demand = demand_of(TRACE, loaded, estimator=Estimator()).scaled_to(rate)
    return replace(demand, dispersion=(1.0,))


def needed(folder: Path, rate: float) -> int:
    """The backends of the plan."""
    loaded = make_loaded(folder, 1)
    return provision(demand_at(loaded, rate), loaded.pools).backends[0]


@pytest.mark.long
def test_the_fleet_of_the_plan_holds_and_stays(tmp_path):
    """Nothing to start, nothing to stop, the same bill."""
    count = needed(tmp_path, 4.0)
    diff = compared(make_loaded(tmp_path, count), 4.0)

    assert diff.verdict is FleetVerdict.HOLDS
    assert diff.steps == (("a100", count, count),)
    assert diff.usd_per_hour == pytest.approx(diff.plan.usd_per_hour)


@pytest.mark.long
def test_a_fleet_that_is_too_large_would_change(tmp_path):
    """It holds; the plan costs less by more than `min_saving`, or else the fleet stays."""
    count = needed(tmp_path, 4.0)
    diff = compared(make_loaded(tmp_path, 2 * count), 4.0)
    kept = compared(make_loaded(tmp_path, 2 * count, saving=0.6), 4.0)

    assert diff.holds
    assert diff.verdict is FleetVerdict.CHANGES
    assert diff.saving == pytest.approx(0.5)
    assert kept.verdict is FleetVerdict.HOLDS


def test_a_fleet_that_is_too_small_would_change(tmp_path):
    """There is no saving against a fleet that does not hold."""
    diff = compared(make_loaded(tmp_path, 1, most=20), 20.0)

    assert not diff.holds
    assert diff.verdict is FleetVerdict.CHANGES
    assert diff.saving is None


def test_what_no_fleet_within_the_bounds_serves_is_a_verdict_of_its_own(tmp_path):
    """The plan leaves demand over, and the fleet that there is does not hold."""
    diff = compared(make_loaded(tmp_path, 1, most=1), 60.0)

    assert diff.plan.unserved
    assert diff.verdict is FleetVerdict.UNSERVED
    assert diff.saving is None


def test_a_fleet_without_backends_holds_nothing(tmp_path):
    """A configuration for planning alone lists none: all of the plan is to start."""
    diff = compared(make_loaded(tmp_path, 0), 4.0)

    assert diff.verdict is FleetVerdict.CHANGES
    assert diff.usd_per_hour == 0

"""Certified plans: proven by the gateway's own router, and never dearer than what is proven."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from gateway.certification import Stand, certified
from gateway.certify_command import certify_command
from gateway.config import load
from gateway.history import demand_of
from gateway.routing.lengths import Lengths
from gateway.traffic import Observed, Replayed
from planner import solve
from planner.certify import certify
from planner.workload import dispersion, read

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TRACE = read(CONFIGS / "workloads" / "azure-2023-history.csv")
MODEL = "llama-3-8b"


@pytest.fixture(scope="module")
def loaded():
    return load(CONFIGS / "demo.yaml")


@pytest.fixture(scope="module")
def found(loaded):
    return certified(loaded, TRACE, rate=6.0, process="poisson", requests=400, seeds=4)


def test_never_dearer_than_what_is_certified(found):
    """The refined plan holds and costs no more than any start that does."""
    plan, seal = found.first
    proven = [p.usd_per_hour for _, p, s in found.singles if s.holds]
    proven += [plan.usd_per_hour] if seal.holds else []

    assert found.refined.certificate.holds
    assert proven
    assert found.refined.plan.usd_per_hour <= min(proven) + 1e-9


def test_a_certificate_holds_on_seeds_nobody_has_seen(loaded, found):
    """On fresh seeds the refined plan's attainment is at most half a point under the target."""
    lengths = Lengths()
    demand_of(TRACE, loaded, lengths=lengths)
    traffic = Replayed(
        trace=TRACE, rate=6.0, process="poisson", dispersion=1.0, requests=400, lengths=lengths,
        model=MODEL,
    )  # fmt: skip
    stand = Stand(traffic, loaded.pools, MODEL)

    fresh = certify(found.refined.plan, stand.play, target=0.99, seeds=range(100, 104))

    assert fresh.attainment >= 0.985


def test_the_same_question_has_the_same_answer(loaded, found):
    """Same trace, rate and seeds: the same plans and certificates."""
    again = certified(loaded, TRACE, rate=6.0, process="poisson", requests=400, seeds=4)

    assert again.refined.plan.plan_id == found.refined.plan.plan_id
    assert again.refined.certificate == found.refined.certificate


@pytest.mark.parametrize("process", ["own", "gamma", "poisson"])
def test_traffic_comes_at_the_rate_and_with_the_sizes_asked_for(loaded, process):
    """Whatever the arrivals: the rate, sizes from the trace, and beliefs for each request."""
    lengths = Lengths()
    demand_of(TRACE, loaded, lengths=lengths)
    traffic = Replayed(
        trace=TRACE, rate=20.0, process=process, dispersion=4.0, requests=3000, lengths=lengths,
        model=MODEL,
    )  # fmt: skip

    trace, believed = traffic.draw(1)
    again, _ = traffic.draw(1)

    assert trace.rate == pytest.approx(20.0, rel=0.25)
    assert set(trace.input_tokens) <= set(TRACE.input_tokens)
    assert believed.shape == (len(trace), 3)
    assert np.all(believed[:, 2] >= believed[:, 1])
    assert np.array_equal(trace.arrival_s, again.arrival_s)


def test_gamma_arrivals_have_the_dispersion_asked_for(loaded):
    """Bursts by design: counts in 10 s windows vary four times as much as Poisson's."""
    traffic = Replayed(
        trace=TRACE, rate=20.0, process="gamma", dispersion=4.0, requests=40_000,
        lengths=Lengths(), model=MODEL,
    )  # fmt: skip

    times = traffic._trace(np.random.default_rng(0)).arrival_s

    assert dispersion(times, 10.0, times[-1]) == pytest.approx(4.0, rel=0.25)


def test_observed_demand_is_played_as_it_was_counted(loaded):
    """Drawn from a demand: its rate, its mean sizes, and every request in its own bucket."""
    demand = replace(demand_of(TRACE, loaded, lengths=Lengths()), dispersion=(1.0,))
    trace, believed = Observed(demand, MODEL, 6000).draw(3)

    grid = demand.space.grid
    counted = demand.rate[demand.bucket] * demand.share / demand.total_rate
    buckets = [grid.cell(int(i), int(o)) for i, o, _ in believed]
    shares = np.bincount(buckets, minlength=grid.cells) / len(buckets)
    assert trace.rate == pytest.approx(demand.total_rate, rel=0.1)
    assert trace.input_tokens.mean() == pytest.approx(counted @ demand.input_tokens, rel=0.1)
    assert trace.output_tokens.mean() == pytest.approx(counted @ demand.output_tokens, rel=0.1)
    assert shares == pytest.approx(demand.rate / demand.total_rate, abs=0.03)


def test_an_underprovisioned_plan_fails_on_either_kind_of_traffic(loaded):
    """The certificate is able to fail: the same shares on a fleet that is too small."""
    lengths = Lengths()
    demand = demand_of(TRACE, loaded, lengths=lengths).scaled_to(40.0)
    plan = solve.assign(demand, loaded.pools, (1, 1, 1))
    kinds = (
        Observed(demand, MODEL, 600),
        Replayed(trace=TRACE, rate=40.0, process="own", dispersion=1.0, requests=600,
                 lengths=lengths, model=MODEL),
    )  # fmt: skip

    seals = [certify(plan, Stand(k, loaded.pools, MODEL).play, target=0.99) for k in kinds]

    assert [seal.holds for seal in seals] == [False, False]


def test_the_command_prints_a_table_and_json(tmp_path: Path):
    """`cuvee certify`: fleets with attainment and interval; the same as JSON."""
    raw = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    raw["pools"] = {n: p for n, p in raw["pools"].items() if n != "a10g"}
    for pool in raw["pools"].values():
        pool["profile"] = str(CONFIGS / pool["profile"])
    raw["prices"] = str(CONFIGS / "prices.yaml")
    raw["planner"] = {}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(raw))
    arguments = [
        "--config", str(path), "--trace", str(CONFIGS / "workloads" / "azure-2023-history.csv"),
        "--rate", "3", "--requests", "150", "--seeds", "2", "--arrivals", "poisson",
    ]  # fmt: skip

    shown = CliRunner().invoke(certify_command, arguments)
    told = CliRunner().invoke(certify_command, [*arguments, "--json"])

    body = json.loads(told.output)
    assert shown.exit_code == 0
    assert "refined" in shown.output
    assert set(body["single_types"]) == {"A100-80G", "H100"}
    assert body["refined"]["usd_per_hour"] <= body["plan"]["usd_per_hour"]

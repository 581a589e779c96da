"""What a scrape shows."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.routing.backend import Lease
from gateway.routing.observation import FIELDS, Observation, Outcome
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.stats import Stats

GOOD = Observation(
    model="m", key="secret", route="chat", stream=True, bucket=3, prompt_bytes=400,
    max_tokens=None, estimated_input=100, estimated_output=50, exact_input=False,
    outcome=Outcome.OK, status=200, duration_s=2.0, ttft_s=0.3, tpot_s=0.02, input_tokens=110,
    output_tokens=40, pool="h100", backend="h100-0", plan_id="p", decision="planned",
)  # fmt: skip


def replace(observation, **fields):
    """The same but for some fields."""
    return Observation(**{name: getattr(observation, name) for name in FIELDS} | fields)


SHED = replace(
    GOOD, outcome=Outcome.SHED, status=429, ttft_s=None, tpot_s=None, input_tokens=None,
    output_tokens=None, pool=None, backend=None, plan_id=None, decision=None,
)  # fmt: skip


def scrape(metrics):
    """Samples by name and label values."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def count(metrics, *observations):
    """Takes in requests that ended, as a worker would have summed them up."""
    stats = Stats()
    for observation in observations:
        stats.observed(observation)
    metrics.add(stats.drain())


@pytest.fixture
def metrics(fleet):
    return Metrics(fleet)


def test_requests_are_counted_by_how_they_ended(metrics):
    """Every observation counts once; retries and decisions are counted beside it."""
    count(metrics, GOOD, replace(GOOD, retries=2, decision="spill"))
    count(metrics, SHED)
    found = scrape(metrics)

    assert found["cuvee_requests_total", "h100", "m", "ok"] == 2
    assert found["cuvee_requests_total", "", "m", "shed"] == 1
    assert found["cuvee_decisions_total", "h100", "m", "planned"] == 1
    assert found["cuvee_decisions_total", "h100", "m", "spill"] == 1
    assert found["cuvee_retries_total", "m"] == 2
    assert found["cuvee_tokens_total", "h100", "input", "m"] == 220
    assert found["cuvee_tokens_total", "h100", "m", "output"] == 80


def test_latencies_are_of_requests_that_have_them(metrics):
    """A shed request has no TTFT and does not improve its mean."""
    count(metrics, GOOD, SHED)
    found = scrape(metrics)

    assert found["cuvee_ttft_seconds_count", "h100", "m"] == 1
    assert found["cuvee_ttft_seconds_sum", "h100", "m"] == 0.3
    assert found["cuvee_tpot_seconds_bucket", "0.02", "h100", "m"] == 1
    assert found["cuvee_tpot_seconds_bucket", "0.015", "h100", "m"] == 0
    assert ("cuvee_ttft_seconds_count", "", "m") not in found


def test_living_state_is_read_on_the_scrape(metrics, fleet):
    """Gauges show what is held and who is up at that moment."""
    backend = fleet.backends[0]
    backend.healthy = False
    with Lease(backend, slot=0.25, prefill_s=0.0, bucket=0, plan_id="p", decision="planned"):
        held = scrape(metrics)
    after = scrape(metrics)
    names = backend.name, backend.pool

    assert [held["cuvee_in_flight", *sorted(names)], held["cuvee_load", *sorted(names)]] == [
        1,
        0.25,
    ]
    assert [after["cuvee_in_flight", *sorted(names)], after["cuvee_load", *sorted(names)]] == [0, 0]
    assert after["cuvee_backend_up", *sorted(names)] == 0
    assert sum(value for (name, *_), value in after.items() if name == "cuvee_backend_up") == 8


def test_the_plan_in_force_is_shown(metrics, plan):
    """Desired backends, load and cost, once there is a plan."""
    before = scrape(metrics)
    metrics.planned(plan)
    found = scrape(metrics)

    assert ("cuvee_plan_usd_per_hour",) not in before
    assert before["cuvee_plans_total",] == 0
    assert found["cuvee_plans_total",] == 1
    assert found["cuvee_plan_usd_per_hour",] == plan.usd_per_hour
    for pool, count, load in zip(plan.pools, plan.backends, plan.load, strict=True):
        assert found["cuvee_desired_backends", pool] == count
        assert found["cuvee_planned_load", pool] == load


def test_keys_are_never_shown(metrics):
    """Credentials are no label."""
    count(metrics, GOOD)

    assert b"secret" not in metrics.text()

"""What a scrape shows."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gateway.routing.backend import Lease
from gateway.routing.endpoints import CHAT
from gateway.routing.observation import Observation, Outcome
from gateway.telemetry.cluster_metrics import ClusterFigures
from gateway.telemetry.definitions import METRICS
from gateway.telemetry.engine_reading import EngineFigures, EngineReading
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import ProcessUsage, WorkerGauges
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import SingleType
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(  # four of each class
    classes=(
        SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.05)),
        SloClass(model="m", slo=Slo(ttft_s=30.0, tpot_s=0.5), name="batch"),
    ),
    grid=Grid(input_edges=(1, 64, 256), output_edges=(1, 32, 128)),
)
NOW_S = 1.8e9
CLUSTER = ClusterFigures(
    gateway="g-1", zone=None, up=True, error="", failures=0, leads=True, leader="g-1", token=7,
    gateways={"g-2": 0.05}, plan="p", plan_from="g-1", problem="",
)  # fmt: skip
FIELDS: dict[str, Any] = {
    "model": "m", "caller": "c4", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0, "ttft_s": 0.3,
    "tpot_s": 0.02, "input_tokens": 110, "output_tokens": 40, "pool": "h100", "backend": "h100-0",
    "plan_id": "p", "decision": "planned",
}  # fmt: skip


def ended(**fields):
    """A request that ended well, but for some fields."""
    return Observation(**(FIELDS | fields))


GOOD = ended()
SHED = ended(
    outcome=Outcome.SHED, status=429, ttft_s=None, tpot_s=None, input_tokens=None,
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
    stats = Stats(BUCKETS)
    for observation in observations:
        stats.observed(observation)
    metrics.add(stats.drain())


@pytest.fixture
def metrics(fleet):
    return Metrics(fleet, build={"version": "1", "python": "3", "data_path": "compiled"})


def test_estimates_and_what_was_learned_are_shown(metrics):
    """How near the estimates of prompts come, and what they are made of."""
    count(metrics, GOOD, ended(estimated_input=220), ended(exact_input=True))
    before = scrape(metrics)
    metrics.learned([("m", "chat", 3.25)], [("m", "image", 1105.0)])
    found = scrape(metrics)

    assert found["cuvee_estimate_ratio_count", "input", "m"] == 2
    assert found["cuvee_estimate_ratio_sum", "input", "m"] == pytest.approx(100 / 110 + 2)
    assert found["cuvee_estimate_ratio_bucket", "0.95", "input", "m"] == 1
    assert found["cuvee_estimate_ratio_count", "m", "output"] == 3
    assert found["cuvee_estimate_ratio_sum", "m", "output"] == pytest.approx(3 * 50 / 40)
    assert not any(name.startswith("cuvee_bytes_per_token") for name, *_ in before)
    assert found["cuvee_bytes_per_token", "chat", "m"] == 3.25
    assert found["cuvee_payload_tokens", "image", "m"] == 1105


def test_requests_are_counted_by_how_they_ended(metrics):
    """Every observation counts once; retries and decisions are counted beside it."""
    count(metrics, GOOD, ended(retries=2, decision="spill"))
    count(metrics, SHED)
    found = scrape(metrics)

    assert found["cuvee_requests_total", "h100", "m", "ok"] == 2
    assert found["cuvee_requests_total", "", "m", "shed"] == 1
    assert found["cuvee_decisions_total", "h100", "m", "planned"] == 1
    assert found["cuvee_decisions_total", "h100", "m", "spill"] == 1
    assert found["cuvee_retries_total", "m"] == 2
    assert found["cuvee_tokens_total", "h100", "input", "m"] == 220
    assert found["cuvee_tokens_total", "h100", "m", "output"] == 80


def test_prefix_hits_stand_beside_the_prompts(metrics):
    """Their quotient is the share of hits; by caller it is no metric, but among the figures."""
    count(metrics, ended(cached_tokens=66), ended(cached_tokens=66, bucket=4))
    found = scrape(metrics)

    assert found["cuvee_cached_tokens_total", "h100", "m"] == 132
    assert found["cuvee_tokens_total", "h100", "input", "m"] == 220
    assert metrics.hits.figures()[0] == {
        "caller": "c4", "pool": "h100", "prompt_tokens": 220, "cached_tokens": 132, "share": 0.6,
    }  # fmt: skip


def test_attainment_is_by_class(metrics):
    """Late ones and failed ones are no, refused ones are told apart, a client's mistakes do not
    count; both answers are there from the first request on."""
    late = ended(bucket=4, ttft_s=40.0)
    count(metrics, GOOD, SHED, late, ended(outcome=Outcome.REJECTED, status=400))
    found = scrape(metrics)
    slo = {key[1:]: n for key, n in found.items() if key[0] == "cuvee_slo_total"}

    assert slo == {
        ("default", "h100", "m", "yes"): 1,
        ("default", "h100", "m", "no"): 0,
        ("", "default", "m", "yes"): 0,
        ("", "default", "m", "no"): 0,
        ("", "default", "m", "refused"): 1,
        ("batch", "h100", "m", "yes"): 0,
        ("batch", "h100", "m", "no"): 1,
    }


def test_answers_are_counted_by_status(metrics):
    """Of every class of a model, over all pools."""
    count(metrics, GOOD, ended(pool="a100"), SHED, ended(bucket=4, status=503))
    found = scrape(metrics)

    assert {key[1:]: n for key, n in found.items() if key[0] == "cuvee_responses_total"} == {
        ("200", "default", "m"): 2,
        ("429", "default", "m"): 1,
        ("503", "batch", "m"): 1,
    }


def test_latencies_are_of_requests_that_have_them(metrics):
    """A shed request has no TTFT and does not improve its mean."""
    count(metrics, GOOD, SHED)
    found = scrape(metrics)

    assert found["cuvee_ttft_seconds_count", "h100", "m"] == 1
    assert found["cuvee_ttft_seconds_sum", "h100", "m"] == 0.3
    assert found["cuvee_request_seconds_sum", "h100", "m"] == 2.0
    assert found["cuvee_tpot_seconds_bucket", "0.02", "h100", "m"] == 1
    assert found["cuvee_tpot_seconds_bucket", "0.015", "h100", "m"] == 0
    assert ("cuvee_ttft_seconds_count", "", "m") not in found


def test_living_state_is_read_on_the_scrape(metrics, fleet):
    """Gauges show what is held and who is up at that moment."""
    backend = fleet.backends[0]
    backend.healthy = False
    with Lease(
        backend, own=0, slots=(0.25,), prefill_s=0.0, bucket=0, plan_id="p", decision="planned"
    ):
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
    metrics.planned(plan, NOW_S)
    found = scrape(metrics)

    assert ("cuvee_plan_usd_per_hour",) not in before
    assert found["cuvee_plan_timestamp_seconds",] == NOW_S
    assert before["cuvee_plans_total",] == 0
    assert found["cuvee_plans_total",] == 1
    assert found["cuvee_plan_usd_per_hour",] == plan.usd_per_hour
    for pool, count, load in zip(plan.pools, plan.backends, plan.load, strict=True):
        assert found["cuvee_desired_backends", pool] == count
        assert found["cuvee_planned_load", pool] == load


def test_what_runs_stands_beside_the_cheapest_single_type(metrics, plan):
    """One that cannot serve all of the demand is no alternative."""
    metrics.planned(plan, NOW_S)
    before = scrape(metrics)
    singles = (
        SingleType(gpu="L4", usd_per_hour=2.0, backends=(), unserved_share=0.1),
        SingleType(gpu="H100", usd_per_hour=9.0, backends=()),
        SingleType(gpu="A100", usd_per_hour=8.0, backends=()),
    )
    metrics.planned(replace(plan, singles=singles), NOW_S)
    metrics.bill = {"h100": 7.5, "l4": 0.0}, 2.5
    found = scrape(metrics)

    name = "cuvee_single_type_usd_per_hour"
    assert not any(key[0] == name for key in before)
    assert {key: value for key, value in found.items() if key[0] == name} == {(name, "A100"): 8.0}
    assert found["cuvee_running_usd_per_hour", "h100"] == 7.5
    assert found["cuvee_running_usd_per_hour", "l4"] == 0.0
    assert found["cuvee_asleep_usd_per_hour",] == 2.5


def test_callers_are_never_shown(metrics):
    """Who sent a request is no label: there is no bound on how many callers there are."""
    count(metrics, ended(caller="somebody"))

    assert b"somebody" not in metrics.text()


def test_each_worker_shows_what_it_carries(metrics):
    """Gauges of workers carry the worker's number; one that is gone is shown no more."""
    gauges = WorkerGauges(
        queued=3,
        connections=7,
        retry_budget=99.5,
        breakers_open=1,
        backend_connections=5,
        evicted=2,
    )
    metrics.staffed({0: gauges, 1: gauges}, replaced=2)
    both = scrape(metrics)
    metrics.staffed({1: gauges}, replaced=3)
    left = scrape(metrics)

    assert [both["cuvee_queued_requests", n] for n in "01"] == [3, 3]
    assert both["cuvee_client_connections", "0"] == 7
    assert both["cuvee_retry_budget", "1"] == 99.5
    assert both["cuvee_breakers_open", "1"] == 1
    assert both["cuvee_backend_connections", "1"] == 5
    assert both["cuvee_client_connections_evicted_total", "1"] == 2
    assert (both["cuvee_workers",], left["cuvee_workers",]) == (2, 1)
    assert left["cuvee_workers_replaced_total",] == 3
    assert ("cuvee_queued_requests", "0") not in left


def test_what_backends_did_wrong_is_shown_while_they_are_there(metrics, fleet):
    """Failures and rests by kind; what rests now is counted over the workers; the series of a
    backend that left end."""
    name, pool = fleet.backends[0].name, fleet.backends[0].pool
    stats = Stats(BUCKETS)
    stats.failed(name, "error", False)
    stats.failed(name, "error", True)
    stats.failed("gone-0", "cut", False)
    metrics.add(stats.drain())
    metrics.add(stats.drain())
    gauges = WorkerGauges(0, 0, 0.0, 1, resting=(name,))
    metrics.staffed({0: gauges, 1: gauges, 2: WorkerGauges(0, 0, 0.0, 0)}, replaced=0)
    found = scrape(metrics)
    resting = {key[1:]: n for key, n in found.items() if key[0] == "cuvee_backend_resting"}

    assert found["cuvee_backend_failures_total", *sorted((name, "error", pool))] == 2
    assert found["cuvee_backend_ejections_total", *sorted((name, "error", pool))] == 1
    assert resting[tuple(sorted((name, pool)))] == 2
    assert sum(resting.values()) == 2
    assert b"gone-0" not in metrics.text()


def test_what_was_refused_at_the_door_is_counted(metrics):
    """By status and reason; and how late the event loop was."""
    stats = Stats(BUCKETS)
    stats.refused(408, "request_timeout")
    stats.refused(408, "request_timeout")
    stats.lagged(0.015)
    stats.lagged(-0.001)  # a clock of coarse steps
    metrics.add(stats.drain())
    found = scrape(metrics)

    assert found["cuvee_refusals_total", "408", "request_timeout"] == 2
    assert found["cuvee_loop_lag_seconds_sum",] == 0.015
    assert found["cuvee_loop_lag_seconds_bucket", "0.01"] == 1
    assert found["cuvee_loop_lag_seconds_bucket", "0.02"] == 2


def test_looks_at_the_demand_are_counted(metrics):
    """A look without an answer of the solver does not move the time of the last solve."""
    metrics.looked("idle", 1.0)
    before = scrape(metrics)
    for at_s, result in enumerate(("kept", "kept", "replaced", "failed")):
        metrics.looked(result, float(at_s))
    found = scrape(metrics)

    assert ("cuvee_last_solve_timestamp_seconds",) not in before
    assert found["cuvee_last_solve_timestamp_seconds",] == 2.0
    assert {key[1]: n for key, n in found.items() if key[0] == "cuvee_plan_looks_total"} == {
        "idle": 1, "kept": 2, "replaced": 1, "failed": 1,
    }  # fmt: skip


def test_each_process_shows_what_it_uses(metrics):
    """Under the names that Prometheus' client libraries use."""
    used = ProcessUsage(cpu_s=1.5, resident_bytes=1000, open_files=7, started_at_s=NOW_S)
    metrics.measured({"gateway": used, "solver": used}, {"gateway": 3})
    found = scrape(metrics)

    assert found["process_cpu_seconds_total", "gateway"] == 1.5
    assert found["process_resident_memory_bytes", "solver"] == 1000
    assert found["process_open_fds", "solver"] == 7
    assert found["process_start_time_seconds", "gateway"] == NOW_S
    assert found["cuvee_log_lines_dropped_total", "gateway"] == 3
    assert found["cuvee_build_info", "1", "3", "compiled"] == 1


def test_a_configuration_that_cannot_be_used_is_shown(metrics):
    """By 0, beside the time of the last one that could."""
    metrics.configured(True, 100.0)
    good = scrape(metrics)
    metrics.configured(False, 100.0)
    bad = scrape(metrics)

    names = (
        ("cuvee_config_last_reload_successful",),
        ("cuvee_config_last_reload_success_timestamp_seconds",),
    )
    assert [good[name] for name in names] == [1, 100]
    assert [bad[name] for name in names] == [0, 100]


def test_paces_are_shown_where_they_are_known(metrics):
    """Of pools and of backends."""
    before = scrape(metrics)
    metrics.paced({"h100": 1.2}, {("h100-0", "h100"): 1.25})
    found = scrape(metrics)

    assert ("cuvee_pool_pace", "h100") not in before
    assert found["cuvee_pool_pace", "h100"] == 1.2
    assert found["cuvee_backend_pace", "h100", "h100-0"] == 1.25


def test_engines_show_what_they_said(metrics):
    """As far as they did, and how long ago; of one that never answered its failures only."""
    said = EngineReading(
        running=3, waiting=2, kv_used=0.5, kv_tokens=None, hits=None, queries=None, sleeping=False,
        at_s=1.0,
    )  # fmt: skip
    metrics.scraped(
        [
            EngineFigures(backend="a", pool="h100", state=said, foreign=4, age_s=1.5, failures=0),
            EngineFigures(backend="b", pool="h100", state=None, foreign=0, age_s=None, failures=7),
        ]
    )
    found = scrape(metrics)
    of_a = {n.removeprefix("cuvee_"): v for (n, *who), v in found.items() if "a" in who[:1]}
    of_b = {n.removeprefix("cuvee_"): v for (n, *who), v in found.items() if "b" in who[:1]}

    assert of_a == {
        "engine_running": 3, "engine_waiting": 2, "engine_kv_used": 0.5, "engine_sleeping": 0,
        "engine_foreign": 4, "scrape_age_seconds": 1.5, "scrape_failures_total": 0,
    }  # fmt: skip
    assert of_b == {"scrape_failures_total": 7}


def test_what_was_ordered_is_desired(metrics, plan):
    """Of pools that are scaled; before the first order an autoscaler must find nothing to follow,
    because it would end what runs."""
    first, second, third = plan.pools
    metrics.planned(plan, NOW_S)
    metrics.orders = {first: None, second: 7}
    found = scrape(metrics)

    assert ("cuvee_desired_backends", first) not in found
    assert found["cuvee_desired_backends", second] == 7
    assert found["cuvee_desired_backends", third] == plan.backends[2]


def test_every_sample_is_of_a_defined_metric(metrics, plan):
    """Names, types, meanings and labels are those of the definitions, of which the page is made."""
    metrics.planned(plan, NOW_S)
    metrics.looked("kept", NOW_S)
    metrics.staffed({0: WorkerGauges(1, 1, 1.0, 0)}, replaced=0)
    count(metrics, GOOD, ended(retries=1))
    metrics.allied(CLUSTER)
    defined = {metric.name: metric for metric in METRICS}
    families = list(text_string_to_metric_families(metrics.text().decode()))

    assert len(families) == len(METRICS)
    for family in families:
        metric = defined[family.name + ("_total" if family.type == "counter" else "")]
        assert (family.type, family.documentation) == (metric.metric_type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def full(metrics, plan):
    """Everything that can be shown, as far as these tests know it."""
    metrics.planned(plan, NOW_S)
    metrics.staffed({0: WorkerGauges(1, 1, 1.0, 0)}, replaced=0)
    count(metrics, GOOD, SHED, ended(pool="l4", ttft_s=None))
    metrics.allied(CLUSTER)
    metrics.loops.good("probes", NOW_S)
    metrics.bill = {"h100": 1.5}, 0.0


def test_openmetrics_says_the_same_as_the_text_format(metrics, plan):
    """Read by a stricter parser; all metrics of the definitions are among them."""
    full(metrics, plan)
    strict = list(openmetrics_families(metrics.openmetrics().decode()))
    plain = list(text_string_to_metric_families(metrics.text().decode()))

    assert metrics.openmetrics().endswith(b"\n# EOF\n")
    assert len(strict) == len(METRICS)
    assert [
        (f.name, f.type, f.documentation, [(s.name, s.labels, s.value) for s in f.samples])
        for f in strict
    ] == [
        (f.name, f.type, f.documentation, [(s.name, s.labels, s.value) for s in f.samples])
        for f in plain
    ]
    units = {f.name: f.unit for f in strict if f.unit}
    assert units["cuvee_ttft_seconds"] == units["process_cpu_seconds"] == "seconds"
    assert units["process_resident_memory_bytes"] == "bytes"


def test_a_bucket_names_a_request_that_was_so(metrics):
    """The newest one in it, by its id, at the time of its end."""
    stats = Stats(BUCKETS)
    first = ended(request_id=b"first", arrival_s=5.0)
    slow = ended(request_id=b"slow", arrival_s=6.0, ttft_s=9.0, tpot_s=None, duration_s=700.0)
    newest = ended(request_id=b"newest", arrival_s=7.0)
    odd = ended(request_id=b'a"b', arrival_s=8.0)
    shed = ended(request_id=b"shed", outcome=Outcome.SHED, pool=None, ttft_s=None, tpot_s=None)
    for one in (first, slow, newest, odd, shed):
        stats.observed(one)
    delta = stats.drain()
    metrics.add(delta)
    metrics.exemplars.add(delta.seen, NOW_S)
    found = {
        (s.name, s.labels["le"]): (
            *s.exemplar.labels.values(),
            s.exemplar.value,
            float(s.exemplar.timestamp),
        )
        for f in openmetrics_families(metrics.openmetrics().decode())
        for s in f.samples
        if s.exemplar is not None
    }

    assert found == {
        ("cuvee_ttft_seconds_bucket", "0.35"): ("newest", 0.3, NOW_S + 9.0),
        ("cuvee_ttft_seconds_bucket", "10.0"): ("slow", 9.0, NOW_S + 706.0),
        ("cuvee_tpot_seconds_bucket", "0.02"): ("newest", 0.02, NOW_S + 9.0),
        ("cuvee_request_seconds_bucket", "2.0"): ("newest", 2.0, NOW_S + 9.0),
        ("cuvee_request_seconds_bucket", "+Inf"): ("slow", 700.0, NOW_S + 706.0),
    }


def test_the_queue_is_shown_by_class(metrics):
    """How long requests waited for their turn, and why others were refused."""
    late = ended(
        outcome=Outcome.SHED, status=429, reason="late", waited_s=1.5, pool=None, ttft_s=None
    )
    hopeless = ended(outcome=Outcome.SHED, status=429, reason="queue_too_long", pool=None, bucket=4)
    count(metrics, GOOD, ended(waited_s=0.2), late, late, hopeless)
    metrics.staffed({0: WorkerGauges(3, 0, 0.0, 0, queued_tokens=700)}, replaced=0)
    found = scrape(metrics)

    assert found["cuvee_shed_total", "default", "late", "m"] == 2
    assert found["cuvee_shed_total", "batch", "m", "queue_too_long"] == 1
    assert found["cuvee_queue_seconds_count", "default", "m"] == 3
    assert found["cuvee_queue_seconds_sum", "default", "m"] == pytest.approx(3.2)
    assert found["cuvee_queued_tokens", "0"] == 700


def test_best_effort_is_a_class_without_a_promise(metrics):
    """It has its own series, none of attainment, and is no demand that is planned for."""
    stats = Stats(BUCKETS)
    stats.observed(ended(slo_class="best-effort"))
    delta = stats.drain()
    metrics.add(delta)
    found = scrape(metrics)

    assert found["cuvee_responses_total", "200", "best-effort", "m"] == 1
    assert "cuvee_slo_total" not in {key[0] for key in found}
    assert delta.sizes == {}

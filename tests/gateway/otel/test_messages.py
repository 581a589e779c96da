"""What is sent, read with the official messages of OpenTelemetry."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.otel.attributes import (
    attributes,
    before_number,
    fraction,
    number,
    operation,
    resource,
    scope,
    text,
)
from gateway.otel.points import PointMaker
from gateway.otel.spans import SpanMaker, traces
from gateway.otel.wire import message
from gateway.routing.endpoints import CHAT
from gateway.routing.observation import Observation, Outcome
from gateway.routing.trace_context import TraceContext
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.span_recorder import SpanRecorder
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo
from tests.otlp_collector import named

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
metrics_service = pytest.importorskip(
    "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
)
trace_pb2 = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2")

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.05)),),
    grid=Grid(input_edges=(1, 64, 256), output_edges=(1, 32, 128)),
)
SINCE_S = 1.8e9
WHO = resource({"service.name": "cuvee", "service.version": "1"})
SCOPE = scope("1")
FIELDS: dict[str, Any] = {
    "model": "m", "caller": "c4", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": 300, "estimated_input": 100, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "arrival_s": 10.0,
    "duration_s": 2.0, "ttft_s": 0.5, "waited_s": 0.25, "request_id": b"my-own",
    "tpot_s": 0.02, "input_tokens": 110, "output_tokens": 70_000, "cached_tokens": 64,
    "pool": "h100", "backend": "h100-0", "plan_id": "p", "decision": "planned",
}  # fmt: skip


def told(*observations):
    """The statistics of requests that ended."""
    stats = Stats(BUCKETS)
    for one in observations:
        stats.observed(one)
    return stats.drain()


def recorded(*observations):
    """What one worker tells of requests that ended."""
    recorder, delta = SpanRecorder(SpanMaker({"h100": "vllm"}), BUCKETS), StatsDelta()
    for one in observations:
        recorder.add(one, SINCE_S)
    recorder.take(delta)
    return delta


def sent(*observations):
    """The spans of traced requests, as a collector reads them; and who sent them."""
    (found,) = trace_service.ExportTraceServiceRequest.FromString(
        traces(WHO, SCOPE, recorded(*observations).spans)
    ).resource_spans
    (inside,) = found.scope_spans
    return list(inside.spans), named(found.resource.attributes), inside.scope


def traced(parent=b"", sent=((10.3, "h100-0"),), **fields):
    """A request that ended, with a trace."""
    trace = TraceContext(b"t" * 16 if parent else b"", parent)
    for at_s, backend in sent:
        trace.note(at_s, backend)
    return Observation(**(FIELDS | fields), trace=trace)


def at(seconds):
    return round((SINCE_S + seconds) * 1e9)


def test_a_request_is_a_span_of_the_gateway_and_one_of_the_engines_answer():
    """The second is inside the first, which is inside the client's."""
    one = traced(parent=b"p" * 8)
    (own, call), who, by = sent(one)
    trace = one.trace

    assert who == {"service.name": "cuvee", "service.version": "1"}
    assert (by.name, by.version) == ("cuvee", "1")
    assert own.trace_id == call.trace_id == b"t" * 16
    assert (own.parent_span_id, own.span_id) == (b"p" * 8, trace.span_id)
    assert (call.parent_span_id, call.span_id) == (trace.span_id, trace.call_id)
    assert own.name == call.name == "chat m"
    kinds = trace_pb2.Span
    assert (own.kind, call.kind) == (kinds.SPAN_KIND_SERVER, kinds.SPAN_KIND_CLIENT)
    assert (own.start_time_unix_nano, own.end_time_unix_nano) == (at(10.0), at(12.0))
    assert (call.start_time_unix_nano, call.end_time_unix_nano) == (at(10.3), at(12.0))
    assert own.status.code == call.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert [(e.name, e.time_unix_nano, named(e.attributes)) for e in own.events] == [
        ("queue", at(10.05), {}),
        ("dispatch", at(10.3), {"cuvee.backend": "h100-0"}),
        ("first token", at(10.5), {}),
    ]


def test_a_span_has_what_the_conventions_name_and_what_was_decided():
    """And a caller's id, which is a digest of its key; no prompt and no answer."""
    (own, call), *_ = sent(traced())

    assert named(own.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 300,
        "gen_ai.usage.input_tokens": 110,
        "gen_ai.usage.output_tokens": 70_000,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "cuvee.request_id": "my-own",
        "cuvee.outcome": "ok",
        "cuvee.slo_class": "default",
        "cuvee.slo_met": "yes",
        "cuvee.pool": "h100",
        "cuvee.backend": "h100-0",
        "cuvee.decision": "planned",
        "cuvee.plan": "p",
        "cuvee.caller": "c4",
        "cuvee.attempts": 1,
        "cuvee.sequences": 1,
        "cuvee.estimated_input_tokens": 100,
        "cuvee.estimated_output_tokens": 50,
    }
    assert named(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "cuvee.backend": "h100-0",
    }


UNKNOWN: dict[str, Any] = dict.fromkeys(
    ("ttft_s", "tpot_s", "input_tokens", "output_tokens", "cached_tokens", "max_tokens")
)
NOWHERE: dict[str, Any] = dict.fromkeys(("pool", "backend", "plan_id", "decision"))


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "code"),
    [
        (Outcome.FAILED, 502, "upstream_error", 2),
        (Outcome.SHED, 429, "saturated", 0),
        (Outcome.REJECTED, 400, None, 0),
        (Outcome.ABANDONED, 499, None, 0),
    ],
)
def test_errors_are_told_and_only_ours_are_errors_of_the_span(outcome, status, reason, code):
    """A client's mistake, or that there was no room, is no fault of a server's span."""
    (own, _), *_ = sent(traced(outcome=outcome, status=status, reason=reason, **UNKNOWN))
    found = named(own.attributes)

    assert found["error.type"] == (reason or str(status))
    assert found["http.response.status_code"] == status
    assert (own.status.code, own.status.message) == (code, (reason or "") if code else "")
    assert "gen_ai.response.model" not in found
    assert not [name for name in found if name.startswith("gen_ai.usage")]


def test_a_request_that_was_sent_nowhere_has_one_span():
    """And one that was sent again says where; the engine's span is around both."""
    (own,), *_ = sent(traced(sent=(), outcome=Outcome.SHED, status=429, **UNKNOWN, **NOWHERE))
    (_, call), *_ = sent(traced(sent=((10.3, "h100-0"), (10.4, "h100-1")), retries=1))
    (again, _), *_ = sent(traced(sent=((10.3, "h100-0"), (10.4, "h100-1")), retries=1))

    assert not own.parent_span_id
    assert [event.name for event in own.events] == ["queue"]
    assert call.start_time_unix_nano == at(10.3)
    assert named(again.attributes)["cuvee.attempts"] == 2
    assert [named(e.attributes) for e in again.events if e.name == "dispatch"] == [
        {"cuvee.backend": "h100-0"},
        {"cuvee.backend": "h100-1"},
    ]


def test_requests_without_a_trace_are_not_told_and_too_many_are_counted():
    """What is kept until it is taken is bounded."""
    plain = Observation(**FIELDS)
    many = recorded(*(traced() for _ in range(2050)), plain)
    last = traced()
    many.add(recorded(traced(), traced(), last))

    assert (recorded(plain).spans, recorded(plain).traced) == ([], [])
    assert (len(many.spans), many.untold, len(many.traced)) == (2048, 5, 32)
    assert many.traced[-1].trace_id == last.trace.trace_id


@given(
    st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=300)
)  # fmt: skip
def test_any_value_is_read_back(word, integer, real, long):
    """Empty texts are left out; numbers of any length, and texts of any, are themselves."""
    values = {"a": word, "b": integer, "c": real, "d": True, "e": None, "f": long}
    fast = number(before_number(9, "g"), integer) + text(9, "h", long) + fraction(9, "i", real)
    span = trace_pb2.Span.FromString(attributes(9, values) + fast)
    expected = {name: value for name, value in values.items() if value not in (None, "")}

    assert named(span.attributes) == expected | {"g": integer, "h": long, "i": real}
    assert trace_pb2.Span.FromString(message(5, word.encode(errors="replace"))).name == word


def test_metrics_are_those_of_the_conventions_and_add_up():
    """Cumulative, by model, class and pool; usage has no sizes of single requests."""
    delta = told(
        Observation(**FIELDS),
        Observation(**(FIELDS | {"ttft_s": 0.3, "output_tokens": 30})),
        Observation(**(FIELDS | {"outcome": Outcome.SHED, "status": 429} | UNKNOWN | NOWHERE)),
    )
    body = PointMaker({"h100": "vllm"}, SINCE_S).metrics(WHO, SCOPE, delta.by_pool, SINCE_S + 60)
    (found,) = metrics_service.ExportMetricsServiceRequest.FromString(body).resource_metrics
    metrics = {metric.name: metric for metric in found.scope_metrics[0].metrics}
    first = metrics["gen_ai.server.time_to_first_token"]
    (point,) = first.histogram.data_points
    usage = {
        named(p.attributes)["gen_ai.token.type"]: (p.count, p.sum, len(p.bucket_counts))
        for p in metrics["gen_ai.client.token.usage"].histogram.data_points
    }

    assert {name: metric.unit for name, metric in metrics.items()} == {
        "gen_ai.server.request.duration": "s",
        "gen_ai.server.time_to_first_token": "s",
        "gen_ai.server.time_per_output_token": "s",
        "gen_ai.client.token.usage": "{token}",
    }
    assert first.histogram.aggregation_temporality == 2
    assert named(point.attributes) == {
        "gen_ai.operation.name": "inference",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "cuvee.slo_class": "default",
        "cuvee.pool": "h100",
    }
    assert (point.start_time_unix_nano, point.time_unix_nano) == (at(0), at(60))
    assert (point.count, point.sum) == (2, 0.8)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert sum(point.bucket_counts) == 2
    assert usage == {"input": (2, 220.0, 0), "output": (2, 70_030.0, 0)}


def test_operations_have_the_names_of_the_conventions():
    """Where they have one."""
    assert operation("responses") == operation("messages") == "chat"
    assert operation("completions") == "text_completion"
    assert operation("rerank") == "rerank"

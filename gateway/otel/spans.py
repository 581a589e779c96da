"""Spans of traced requests as OTLP has them, with the names of the `gen_ai` conventions. Pure.

Two for each request: that of the gateway, and inside it that of the engine's answer, which the
engine is told as the parent of its own spans.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from gateway.config.upstream import Upstream
from gateway.otel.attributes import (
    attribute,
    attributes,
    before_number,
    fraction,
    number,
    operation,
    text,
)
from gateway.otel.wire import LENGTH, WORD, integer, message, tag, varint
from gateway.routing.endpoints import BY_PATH
from gateway.routing.observation import FAILED, OK, REJECTED, Observation
from gateway.routing.trace_context import TraceContext
from gateway.telemetry.seen_request import LONGEST_ID

NS: Final = 1e9
SERVER: Final = 2  # kinds of spans
CLIENT: Final = 3
FAULT: Final = 2  # of a status
ATTRIBUTES: Final = 9  # fields of a Span
EVENTS: Final = 11
STATUS: Final = 15
START: Final = tag(7, 1)
END: Final = tag(8, 1)
TIMES: Final = Struct("<sQsQ")
TRACE: Final = tag(1, 2) + b"\x10"
SPAN: Final = tag(2, 2) + b"\x08"
PARENT: Final = tag(4, 2) + b"\x08"
AT: Final = tag(1, 1)  # the time of an event
MOST_KEPT: Final = 4096  # what requests have in common, encoded
PATHS: Final = {endpoint.name: path for path, endpoint in BY_PATH.items()}
SPANS_FIELD: Final = 2  # of ScopeSpans
ESTIMATED_INPUT: Final = before_number(ATTRIBUTES, "cuvee.estimated_input_tokens")
ESTIMATED_OUTPUT: Final = before_number(ATTRIBUTES, "cuvee.estimated_output_tokens")
INPUT: Final = before_number(ATTRIBUTES, "gen_ai.usage.input_tokens")
OUTPUT: Final = before_number(ATTRIBUTES, "gen_ai.usage.output_tokens")
CACHED: Final = before_number(ATTRIBUTES, "gen_ai.usage.cache_read.input_tokens")
MOST_OUTPUT: Final = before_number(ATTRIBUTES, "gen_ai.request.max_tokens")


class SpanMaker:
    """Makes spans; keeps the bytes of what many requests share."""

    def __init__(self, providers: Mapping[str, str]) -> None:
        """providers: see `providers_of`."""
        self._providers = dict(providers)
        self._shared: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
        self._events: dict[str, tuple[bytes, bytes]] = {}
        self._queue = _around("queue", "")
        self._first_token = _around("first token", "")

    def __repr__(self) -> str:
        return f"<SpanMaker, {len(self._shared)} kept>"

    def spans(self, ended: Observation, trace: TraceContext, met: str, since_s: float) -> bytes:
        """The spans of one request, as fields of ScopeSpans. met: as of `Observation.met`. since_s:
        Unix time at zero of the gateway's clock."""
        own, call = self._same(ended, met)
        start = int((since_s + ended.arrival_s) * NS + 0.5)
        end = start + int(ended.duration_s * NS + 0.5)
        parts = [TRACE, trace.trace_id, SPAN, trace.span_id]
        if trace.parent_id:
            parts.append(PARENT)
            parts.append(trace.parent_id)
        parts.append(own)
        parts.append(TIMES.pack(START, start, END, end))
        self._add_events(parts, ended, trace, since_s, start)
        _add_sizes(parts, ended)
        found = message(SPANS_FIELD, b"".join(parts))
        if not trace.sent:
            return found
        times = TIMES.pack(START, int((since_s + trace.sent[0][0]) * NS + 0.5), END, end)
        inner = (TRACE, trace.trace_id, SPAN, trace.call_id, PARENT, trace.span_id, call, times)
        return found + message(SPANS_FIELD, b"".join(inner))

    def _add_events(
        self,
        parts: list[bytes],
        ended: Observation,
        trace: TraceContext,
        since_s: float,
        start: int,
    ) -> None:
        """When it began to wait, was sent to a backend, and had its first token."""
        if ended.waited_s is not None:
            began = start
            if trace.sent:
                began = max(start, int((since_s + trace.sent[0][0] - ended.waited_s) * NS + 0.5))
            _add_event(parts, self._queue, began)
        for at_s, backend in trace.sent:
            around = self._events.get(backend)
            if around is None:
                if len(self._events) >= MOST_KEPT:
                    self._events.clear()
                around = self._events[backend] = _around("dispatch", backend)
            _add_event(parts, around, int((since_s + at_s) * NS + 0.5))
        if ended.ttft_s is not None:
            _add_event(parts, self._first_token, start + int(ended.ttft_s * NS + 0.5))

    def _same(self, ended: Observation, met: str) -> tuple[bytes, bytes]:
        """Name, kind, status and what else requests have in common, of both spans."""
        key = (
            ended.model, ended.endpoint.name, ended.stream, ended.slo_class, ended.outcome._value_,
            ended.status, ended.reason, ended.retries, ended.plan_id, ended.pool, ended.backend,
            ended.decision, ended.caller, met, ended.width,
        )  # fmt: skip
        found = self._shared.get(key)
        if found is None:
            if len(self._shared) >= MOST_KEPT:
                self._shared.clear()
            found = self._shared[key] = self._of_gateway(ended, met), self._of_engine(ended)
        return found

    def _of_gateway(self, ended: Observation, met: str) -> bytes:
        wrong = ended.reason or str(ended.status) if ended.status >= 400 else None
        told = {
            "gen_ai.request.model": ended.model,
            "gen_ai.response.model": ended.model if ended.outcome is OK else None,
            "gen_ai.request.stream": ended.stream,
            "http.request.method": "POST",
            "http.route": PATHS.get(ended.endpoint.name),
            "http.response.status_code": ended.status,
            "error.type": wrong,
            "cuvee.outcome": ended.outcome.value,
            "cuvee.slo_class": ended.slo_class,
            "cuvee.slo_met": met,
            "cuvee.pool": ended.pool,
            "cuvee.backend": ended.backend,
            "cuvee.decision": ended.decision,
            "cuvee.plan": ended.plan_id,
            "cuvee.caller": ended.caller,
            "cuvee.attempts": 0 if ended.pool is None else 1 + ended.retries,
            "cuvee.sequences": ended.width,
        }
        failed = ended.status >= 500  # a server's span is no error for its client's mistake
        return self._begin(ended, SERVER, failed) + attributes(ATTRIBUTES, told)

    def _of_engine(self, ended: Observation) -> bytes:
        failed = ended.outcome is FAILED or ended.outcome is REJECTED
        told = {"gen_ai.request.model": ended.model, "cuvee.backend": ended.backend}
        if failed:
            told["error.type"] = ended.reason or str(ended.status)
        return self._begin(ended, CLIENT, failed) + attributes(ATTRIBUTES, told)

    def _begin(self, ended: Observation, kind: int, failed: bool) -> bytes:
        name = operation(ended.endpoint.name)
        begun = message(5, f"{name} {ended.model}".encode(errors="replace")) + integer(6, kind)
        if failed:
            begun += message(STATUS, message(2, (ended.reason or "").encode()) + integer(3, FAULT))
        provider = self._providers.get(ended.pool or "", "cuvee")
        return begun + attributes(
            ATTRIBUTES, {"gen_ai.operation.name": name, "gen_ai.provider.name": provider}
        )


def _add_sizes(parts: list[bytes], ended: Observation) -> None:
    """What each request has of its own."""
    request_id = ended.request_id[:LONGEST_ID].decode("latin-1")
    parts.append(text(ATTRIBUTES, "cuvee.request_id", request_id))
    parts.append(number(ESTIMATED_INPUT, ended.estimated_input))
    parts.append(number(ESTIMATED_OUTPUT, ended.estimated_output))
    if ended.input_tokens is not None:
        parts.append(number(INPUT, ended.input_tokens))
    if ended.output_tokens is not None:
        parts.append(number(OUTPUT, ended.output_tokens))
    if ended.cached_tokens is not None:
        parts.append(number(CACHED, ended.cached_tokens))
    if ended.max_tokens is not None:
        parts.append(number(MOST_OUTPUT, ended.max_tokens))
    if ended.ttft_s is not None and ended.stream:
        name = "gen_ai.response.time_to_first_chunk"
        parts.append(fraction(ATTRIBUTES, name, ended.ttft_s))


def _add_event(parts: list[bytes], around: tuple[bytes, bytes], at_ns: int) -> None:
    parts.append(around[0])
    parts.append(WORD.pack(at_ns))
    parts.append(around[1])


def _around(name: str, backend: str) -> tuple[bytes, bytes]:
    """What stands before and behind the time of an event."""
    told = message(2, name.encode())
    if backend:
        told += attribute(3, "cuvee.backend", backend)
    return tag(EVENTS, LENGTH) + varint(len(AT) + WORD.size + len(told)) + AT, told


def providers_of(upstreams: Mapping[str, Upstream]) -> dict[str, str]:
    """What the conventions call who answers, by pool."""
    return {pool: upstream.engine or "cuvee" for pool, upstream in upstreams.items()}


def traces(resource: bytes, scope: bytes, spans: Sequence[bytes]) -> bytes:
    """A request of the trace service. resource, scope: as `attributes` makes them."""
    inside = message(1, scope) + b"".join(spans)
    return message(1, message(1, resource) + message(2, inside))

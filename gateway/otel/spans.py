"""Spans of traced requests as OTLP has them, with the names of the `gen_ai` conventions. Pure.

Two for each request: that of the gateway, and inside it that of the engine's answer, which the
engine is told as the parent of its own spans.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from gateway.otel.attributes import attribute, attributes, fraction, number, operation, text
from gateway.otel.wire import WORD, integer, message, tag, varint
from gateway.routing.endpoints import BY_PATH
from gateway.telemetry.seen_request import SeenRequest
from gateway.telemetry.traced_request import TracedRequest

NS: Final = 1e9
SERVER: Final = 2  # kinds of spans
CLIENT: Final = 3
FAULT: Final = 2  # of a status
ATTRIBUTES: Final = 9  # fields of a Span
EVENTS: Final = 11
STATUS: Final = 15
START: Final = tag(7, 1)
END: Final = tag(8, 1)
TRACE: Final = tag(1, 2) + b"\x10"
SPAN: Final = tag(2, 2) + b"\x08"
PARENT: Final = tag(4, 2) + b"\x08"
AT: Final = tag(1, 1)  # the time of an event
MOST_KEPT: Final = 4096  # what requests have in common, encoded
PATHS: Final = {endpoint.name: path for path, endpoint in BY_PATH.items()}
SPANS_FIELD: Final = 2  # of ScopeSpans


class SpanMaker:
    """Makes spans; keeps the bytes of what many requests share."""

    def __init__(self, providers: Mapping[str, str]) -> None:
        """providers: what the conventions call who answers, by pool."""
        self._providers = providers
        self._shared: dict[tuple[object, ...], tuple[bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"<SpanMaker, {len(self._shared)} kept>"

    def spans(self, one: TracedRequest, since_s: float) -> bytes:
        """The spans of one request, as fields of ScopeSpans. since_s: Unix time at zero of the
        gateway's clock."""
        seen = one.request
        own, call = self._same(seen)
        start = round((since_s + seen.arrival_s) * NS)
        times = START + WORD.pack(start) + END
        end = WORD.pack(start + round(seen.duration_s * NS))
        head = TRACE + one.trace_id + SPAN + one.span_id
        if one.parent_id:
            head += PARENT + one.parent_id
        events = self._events(one, since_s, start)
        parts = (head, own, times, end, events, _sizes(seen))
        found = message(SPANS_FIELD, b"".join(parts))
        if one.sent:
            first = START + WORD.pack(round((since_s + one.sent[0][0]) * NS)) + END
            inner = TRACE + one.trace_id + SPAN + one.call_id + PARENT + one.span_id
            found += message(SPANS_FIELD, inner + call + first + end)
        return found

    def _events(self, one: TracedRequest, since_s: float, start: int) -> bytes:
        """When it began to wait, was sent to a backend, and had its first token."""
        seen, found = one.request, b""
        if seen.waited_s is not None:
            began = start
            if one.sent:
                began = max(start, round((since_s + one.sent[0][0] - seen.waited_s) * NS))
            found += _event(began, "queue")
        for at_s, backend in one.sent:
            found += _event(round((since_s + at_s) * NS), "dispatch", backend)
        if seen.ttft_s is not None:
            found += _event(start + round(seen.ttft_s * NS), "first token")
        return found

    def _same(self, seen: SeenRequest) -> tuple[bytes, bytes]:
        """Name, kind, status and what else requests have in common, of both spans."""
        key = (
            seen.model, seen.endpoint, seen.stream, seen.slo_class, seen.outcome, seen.status,
            seen.reason, seen.retries, seen.plan_id, seen.backend, seen.decision, seen.caller,
            seen.met, seen.width,
        )  # fmt: skip
        found = self._shared.get(key)
        if found is None:
            if len(self._shared) >= MOST_KEPT:
                self._shared.clear()
            found = self._shared[key] = self._of_gateway(seen), self._of_engine(seen)
        return found

    def _of_gateway(self, seen: SeenRequest) -> bytes:
        wrong = seen.reason or str(seen.status) if seen.status >= 400 else None
        told = {
            "gen_ai.request.model": seen.model,
            "gen_ai.response.model": seen.model if seen.outcome == "ok" else None,
            "gen_ai.request.stream": seen.stream,
            "http.request.method": "POST",
            "http.route": PATHS.get(seen.endpoint),
            "http.response.status_code": seen.status,
            "error.type": wrong,
            "cuvee.outcome": seen.outcome,
            "cuvee.slo_class": seen.slo_class,
            "cuvee.slo_met": seen.met,
            "cuvee.pool": seen.pool,
            "cuvee.backend": seen.backend,
            "cuvee.decision": seen.decision,
            "cuvee.plan": seen.plan_id,
            "cuvee.caller": seen.caller,
            "cuvee.attempts": 0 if seen.pool is None else 1 + seen.retries,
            "cuvee.sequences": seen.width,
        }
        failed = seen.status >= 500  # a server's span is no error for its client's mistake
        return self._begin(seen, SERVER, failed) + attributes(ATTRIBUTES, told)

    def _of_engine(self, seen: SeenRequest) -> bytes:
        failed = seen.outcome in ("failed", "rejected")
        told = {"gen_ai.request.model": seen.model, "cuvee.backend": seen.backend}
        if failed:
            told["error.type"] = seen.reason or str(seen.status)
        return self._begin(seen, CLIENT, failed) + attributes(ATTRIBUTES, told)

    def _begin(self, seen: SeenRequest, kind: int, failed: bool) -> bytes:
        name = operation(seen.endpoint)
        begun = message(5, f"{name} {seen.model}".encode(errors="replace")) + integer(6, kind)
        if failed:
            begun += message(STATUS, message(2, (seen.reason or "").encode()) + integer(3, FAULT))
        provider = self._providers.get(seen.pool or "", "cuvee")
        return begun + attributes(
            ATTRIBUTES, {"gen_ai.operation.name": name, "gen_ai.provider.name": provider}
        )


def _sizes(seen: SeenRequest) -> bytes:
    """What each request has of its own."""
    found = text(ATTRIBUTES, "cuvee.request_id", seen.request_id)
    found += number(ATTRIBUTES, "cuvee.estimated_input_tokens", seen.estimated_input)
    found += number(ATTRIBUTES, "cuvee.estimated_output_tokens", seen.estimated_output)
    if seen.input_tokens is not None:
        found += number(ATTRIBUTES, "gen_ai.usage.input_tokens", seen.input_tokens)
    if seen.output_tokens is not None:
        found += number(ATTRIBUTES, "gen_ai.usage.output_tokens", seen.output_tokens)
    if seen.cached_tokens is not None:
        found += number(ATTRIBUTES, "gen_ai.usage.cache_read.input_tokens", seen.cached_tokens)
    if seen.max_tokens is not None:
        found += number(ATTRIBUTES, "gen_ai.request.max_tokens", seen.max_tokens)
    if seen.ttft_s is not None and seen.stream:
        found += fraction(ATTRIBUTES, "gen_ai.response.time_to_first_chunk", seen.ttft_s)
    return found


def _event(at_ns: int, name: str, backend: str = "") -> bytes:
    begun, ended = _around(name, backend)
    return begun + WORD.pack(at_ns) + ended


@lru_cache(MOST_KEPT)
def _around(name: str, backend: str) -> tuple[bytes, bytes]:
    """What stands before and behind the time of an event."""
    told = message(2, name.encode())
    if backend:
        told += attribute(3, "cuvee.backend", backend)
    return tag(EVENTS, 2) + varint(len(AT) + WORD.size + len(told)) + AT, told


def traces(resource: bytes, scope: bytes, spans: Sequence[bytes]) -> bytes:
    """A request of the trace service. resource, scope: as `attributes` makes them."""
    inside = message(1, scope) + b"".join(spans)
    return message(1, message(1, resource) + message(2, inside))

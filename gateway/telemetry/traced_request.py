"""One traced request as it is told to the process that sends its spans: ids, times and sizes; no
text and no key.

Not in `stats` because mypyc cannot compile a `msgspec.Struct`.
"""

from collections.abc import Iterable, Sequence

import msgspec

from gateway.routing.observation import Observation
from gateway.telemetry.seen_request import Promise, SeenRequest, seen_request


class TracedRequest(msgspec.Struct, frozen=True, array_like=True):
    """The ids and `sent` are as of `TraceContext`, the rest is the request itself."""

    trace_id: bytes
    parent_id: bytes
    span_id: bytes
    call_id: bytes
    sent: list[tuple[float, str]]
    request: SeenRequest


def traced_requests(
    ended: Iterable[Observation], promises: Sequence[Promise], cells: int
) -> list[TracedRequest]:
    """Of those that have a trace. promises, cells: as of `seen_requests`."""
    return [
        TracedRequest(
            trace_id=one.trace.trace_id,
            parent_id=one.trace.parent_id,
            span_id=one.trace.span_id,
            call_id=one.trace.call_id,
            sent=one.trace.sent,
            request=seen_request(one, promises, cells, sampled=True),
        )
        for one in ended
        if one.trace is not None
    ]

"""One traced request as it is told to the process that sends its spans: ids, times and sizes; no
text and no key.

Apart from what makes it (`request_records`) because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec

from gateway.telemetry.seen_request import SeenRequest


class TracedRequest(msgspec.Struct, frozen=True, array_like=True):
    """The ids and `sent` are as of `TraceContext`, the rest is the request itself."""

    trace_id: bytes
    parent_id: bytes
    span_id: bytes
    call_id: bytes
    sent: list[tuple[float, str]]
    request: SeenRequest

"""One traced request as it is told to the process that shows it.

Apart from what makes it (`request_records`) because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec

from gateway.telemetry.seen_request import SeenRequest


class TracedRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request, and the trace that it is a part of."""

    trace_id: bytes
    request: SeenRequest

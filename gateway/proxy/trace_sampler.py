"""Chooses the requests that are traced, and tells engines so (W3C Trace Context).

A request that is not chosen pays a look for a header, a draw and a header line.
"""

import re
from typing import Final

from gateway.config.otel_schema import OtelSection
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.headers import request_lines
from gateway.proxy.http.request import Request
from gateway.routing.trace_context import TraceContext

TRACEPARENT: Final = b"traceparent"
# Versions after 00 may have more behind what is known; ff is none.
FORM: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED: Final = 1  # among the flags
# A linear congruential generator: its upper bits are random enough to choose by. Compiled code
# multiplies numbers below 2³⁰ at once, and larger ones as Python does.
RANGE: Final = 1 << 30
FACTOR: Final = 1664525
SUMMAND: Final = 12345


class TraceSampler:
    """Decides once, at the head of each request. Engines follow: what is not traced here is marked
    so for them."""

    __slots__ = ("_bare", "_begun", "_follows", "_state", "_threshold", "_unsampled")

    def __init__(
        self, share: float, follows: bool, not_sent: frozenset[bytes], chance: int
    ) -> None:
        """share: of the requests without a trace of their own. follows: whether a client's trace
        decides about its request; else the share does. not_sent: names of headers that no backend
        gets. chance: a seed."""
        self._threshold = round(share * RANGE)
        self._follows = follows
        self._bare = not_sent | {TRACEPARENT}
        self._begun = not_sent | {TRACEPARENT, b"tracestate"}
        self._state = chance & (RANGE - 1)
        # One trace for all that are in none: nobody records it.
        self._unsampled = TraceContext().header().replace(b"-01\r\n", b"-00\r\n")

    def __repr__(self) -> str:
        return f"<TraceSampler of {self._threshold / RANGE:.2%}>"

    def begin(self, active: ActiveRequest, request: Request, lines: bytes) -> bytes:
        """Give a request its place in a trace, if it is to have one, and return the header lines
        for its engine. lines: without."""
        told = request.fields.get(TRACEPARENT)
        if told is not None:
            return self._continued(active, request, lines, told)
        if not self._turn():
            return lines + self._unsampled
        active.trace = TraceContext()
        return lines + active.trace.header()

    def _continued(
        self, active: ActiveRequest, request: Request, lines: bytes, told: bytes
    ) -> bytes:
        """The same, of a request whose client has told of a trace."""
        trace_id, parent_id, flags = _parsed(told)
        if not trace_id:  # it cannot be read, so another one begins
            if not self._turn():
                return self._lines(active, request, self._begun) + self._unsampled
            active.trace = TraceContext()
            return self._lines(active, request, self._begun) + active.trace.header()
        sampled = flags & SAMPLED != 0
        if not (sampled if self._follows else self._turn()):
            if not sampled:
                return lines
            quiet = b"traceparent: 00-%b-%b-00\r\n" % (
                trace_id.hex().encode(),
                parent_id.hex().encode(),
            )
            return self._lines(active, request, self._bare) + quiet
        active.trace = TraceContext(trace_id, parent_id)
        return self._lines(active, request, self._bare) + active.trace.header()

    def _lines(self, active: ActiveRequest, request: Request, dropped: frozenset[bytes]) -> bytes:
        return request_lines(request.headers, active.request_id, None, dropped)

    def _turn(self) -> bool:
        self._state = (self._state * FACTOR + SUMMAND) & (RANGE - 1)
        return self._state < self._threshold


def trace_sampler(
    section: OtelSection | None, not_sent: frozenset[bytes], chance: int
) -> TraceSampler | None:
    """As a configuration wants it; `None`: no request can be traced."""
    if section is None or (section.sample == 0.0 and not section.follow_parent):
        return None
    return TraceSampler(section.sample, section.follow_parent, not_sent, chance)


def _parsed(told: bytes) -> tuple[bytes, bytes, int]:
    """Trace, span and flags of a header; an empty trace if it is none."""
    found = FORM.fullmatch(told.strip())
    if found is None or (found[1] == b"00" and found[5] is not None):
        return b"", b"", 0
    trace_id = bytes.fromhex(found[2].decode())
    parent_id = bytes.fromhex(found[3].decode())
    if not any(trace_id) or not any(parent_id):
        return b"", b"", 0
    return trace_id, parent_id, int(found[4], 16)

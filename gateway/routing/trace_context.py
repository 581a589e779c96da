"""The place of one sampled request in a distributed trace. Most requests have none.

Compiled: see setup.py.
"""

from os import urandom
from typing import Final

TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8
MOST_SENT: Final = 16  # attempts that are noted


class TraceContext:
    """Ids as W3C Trace Context has them, in bytes. parent_id: of the client's span; empty without
    one. span_id: of the gateway's span. call_id: of the span around the engine's answer, which the
    engine is told as its parent. sent: when the request was sent to which backends."""

    __slots__ = ("call_id", "parent_id", "sent", "span_id", "trace_id")

    def __init__(self, trace_id: bytes = b"", parent_id: bytes = b"") -> None:
        """trace_id: of the client's trace; empty: a new one begins."""
        chance = urandom(TRACE_BYTES + 2 * SPAN_BYTES)
        self.trace_id = trace_id or chance[:TRACE_BYTES]
        self.parent_id = parent_id
        self.span_id = chance[TRACE_BYTES : TRACE_BYTES + SPAN_BYTES]
        self.call_id = chance[TRACE_BYTES + SPAN_BYTES :]
        self.sent: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"<TraceContext {self.trace_id.hex()}>"

    def header(self) -> bytes:
        """The header line for the engine."""
        return f"traceparent: 00-{self.trace_id.hex()}-{self.call_id.hex()}-01\r\n".encode()

    def note(self, at_s: float, backend: str) -> None:
        """The request is sent to a backend."""
        if len(self.sent) < MOST_SENT:
            self.sent.append((at_s, backend))

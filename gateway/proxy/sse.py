"""Server-sent events: bytes in, whole events out, and what they say. No I/O, no clock.

Bytes pass as they came. Only until the first token, and at the end, is anything decoded; in between
a chunk costs one search for its last boundary and one count. A part of an event is held back until
the rest is there (no client could read it anyway), so that an error event can always follow
cleanly.
"""

import re
from typing import Final

from gateway.proxy.events import event_of
from gateway.proxy.events_schema import Event, Usage

DATA: Final = b"data:"
BOUNDARY: Final = re.compile(rb"\r?\n\r?\n")
LONGEST_EVENT: Final = 1 << 20  # a longer one is passed on in pieces


def events(chunk: bytes) -> list[bytes]:
    """The data of the whole events in a chunk, `[DONE]` included, comments left out; there may be
    white space around it."""
    return [line[len(DATA) :] for line in chunk.split(b"\n") if line[: len(DATA)] == DATA]


class StreamMeter:
    """Follows one stream: when the first and the last token came, how many, and how it ended.

    first_at_s, last_at_s: `None` until then. opening: the first event, if it is an object of ours.
    usage: what the backend reported, if it did.
    """

    __slots__ = (
        "_before", "_count", "_end", "_held", "_hide", "_last", "_silent", "first_at_s",
        "last_at_s", "opening", "usage",
    )  # fmt: skip

    def __init__(self, *, end: bytes = b"[DONE]", hide_usage: bool = False) -> None:
        """end: the data of the stream's last event. hide_usage: whether the event that carries the
        usage is taken out, because the client did not ask for it."""
        self._end = end
        self._hide = hide_usage
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None
        self.opening: Event | None = None
        self.usage: Usage | None = None
        self._count = 0
        self._silent = 0
        self._held = self._before = self._last = b""

    def feed(self, chunk: bytes, now_s: float) -> bytes:
        """Takes a chunk; returns the whole events that can be passed on now."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if not chunk.endswith(b"\n\n"):
            cut = max(chunk.rfind(b"\n\n") + 2, chunk.rfind(b"\r\n\r\n") + 4)
            if cut < 4 and len(chunk) < LONGEST_EVENT:
                self._held = chunk
                return b""
            if cut >= 4:
                chunk, self._held = chunk[:cut], chunk[cut:]
        count = 1  # of most chunks: a line and an empty one
        if chunk[: len(DATA)] != DATA or chunk.find(b"\n") != len(chunk) - 2:
            count = chunk.count(b"\n" + DATA) + chunk.startswith(DATA)
        if count:
            self._before, self._last = self._last, chunk
            self.last_at_s = now_s
            if self.first_at_s is None:
                self._look(chunk, now_s)
            self._count += count
            if self._hide and (b'"choices":[]' in chunk or b'"choices": []' in chunk):
                return _without_usage(chunk)
        return chunk

    def _look(self, chunk: bytes, now_s: float) -> None:
        """Searches for the first token; what came before it was silent."""
        opens = self._count == 0
        for data in events(chunk):
            event = event_of(data)
            if opens:
                self.opening, opens = event, False
            if event is not None and event.token:
                self.first_at_s = now_s
                return
            self._silent += 1

    def finish(self) -> tuple[bool, bytes | None]:
        """After the end: whether it ended as a stream should, and its error if any."""
        whole, error = False, None
        for data in reversed(events(self._before + self._last)):
            if data.strip() == self._end:
                whole = True
                self._silent += 1
                continue
            if whole and self.usage is not None and b'"error"' not in data:
                continue  # there is nothing more to learn from it
            event = event_of(data)
            if event is None:
                continue
            whole = whole or any(c.finish_reason for c in event.choices)
            error = event.failure or error
            if event.usage is not None:
                self.usage = self.usage or event.usage
                self._silent += not event.choices
        return whole, error

    @property
    def output_tokens(self) -> int:
        """Tokens as reported, else as counted: one an event, as engines send them."""
        if self.usage is not None and self.usage.completion_tokens is not None:
            return self.usage.completion_tokens
        return max(0, self._count - self._silent)

    @property
    def tpot_s(self) -> float | None:
        """(last − first) / (tokens − 1); `None` under two tokens."""
        if self.first_at_s is None or self.last_at_s is None or self.output_tokens < 2:
            return None
        return (self.last_at_s - self.first_at_s) / (self.output_tokens - 1)


def _without_usage(chunk: bytes) -> bytes:
    """Whole events without the one that says nothing but the usage."""
    kept, at = [], 0
    for match in BOUNDARY.finditer(chunk):
        piece, at = chunk[at : match.end()], match.end()
        said = [event_of(data) for data in events(piece)]
        if not any(e is not None and e.usage is not None and not e.choices for e in said):
            kept.append(piece)
    return b"".join(kept) + chunk[at:]


def error_event(error: bytes) -> bytes:
    """An error object as the last event of a stream."""
    return b"data: " + error + b"\n\n"

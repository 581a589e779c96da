"""Server-sent events: cuts a stream into whole events, and measures it. No I/O, no clock.

The bytes pass unchanged. Events are decoded only until the first token and at the end; in between a
chunk costs one search for its last boundary and one count. A partial event is held back until its
rest has come (a client could not read it anyway), so that an error event can follow cleanly at any
time.
"""

import re
from typing import Final

from gateway.proxy.events import event_of
from gateway.proxy.events_schema import Usage

DATA: Final = b"data:"
BOUNDARY: Final = re.compile(rb"\r?\n\r?\n")
LONGEST_EVENT: Final = 1 << 20  # bytes held at most; a longer event is passed on in pieces
# Events without output after which a stream counts as begun: they are of a kind not known here.
# Engines send one with the role for each choice.
UNKNOWN: Final = 16
BRACE: Final = 125  # `}`: the last byte of an event that is JSON, before its empty line


def events(chunk: bytes) -> list[bytes]:
    """The data of the events in a chunk of whole events, with `[DONE]` and without comments; white
    space around the data is kept."""
    return [line[len(DATA) :] for line in chunk.split(b"\n") if line[: len(DATA)] == DATA]


class StreamMeter:
    """Follows one stream: its first and last token, the number of tokens, and its end.

    first_at_s, last_at_s: times of the first token and of the last event; `None` before them.
    refused: an error event that came before any output, as JSON. usage: as the backend reported
    it. over: whether the stream's last event has come. torn: whether an event was passed on in
    pieces.
    """

    __slots__ = (
        "_before", "_count", "_earlier", "_end", "_error", "_finished", "_held", "_hide", "_last",
        "_silent", "_stopped", "first_at_s", "last_at_s", "over", "refused", "torn", "usage",
    )  # fmt: skip

    def __init__(self, *, end: bytes = b"[DONE]", hide_usage: bool = False) -> None:
        """end: the data of the stream's last event. hide_usage: whether the event that carries the
        usage is taken out, because the client did not ask for it."""
        self._end = end
        self._hide = hide_usage
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None
        self.refused: bytes | None = None
        self.usage: Usage | None = None
        self.over = self.torn = self._finished = self._stopped = False
        self._error: bytes | None = None
        self._count = 0
        self._silent = 0
        # The last three chunks of events: engines send the finish reason, the usage and the end in
        # one chunk each.
        self._held = self._earlier = self._before = self._last = b""

    @property
    def begun(self) -> bool:
        """Whether it can be said what became of the request: there is output, or an error, or there
        will be nothing else."""
        return (
            self.first_at_s is not None
            or self.over
            or self._stopped
            or self.refused is not None
            or self._silent > UNKNOWN
        )

    @property
    def empty(self) -> bool:
        """Whether it is begun without any output: the engine gave up or had nothing to say."""
        return self.first_at_s is None and self._silent <= UNKNOWN

    def feed(self, chunk: bytes, now_s: float) -> bytes:
        """Take a chunk; return the whole events that can be passed on now."""
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
            else:
                self.torn = True
        count = 1  # most chunks are one event: a data line and an empty line
        if chunk[: len(DATA)] != DATA or chunk.find(b"\n") != len(chunk) - 2:
            count = chunk.count(b"\n" + DATA) + chunk.startswith(DATA)
        if count:
            self._earlier, self._before, self._last = self._before, self._last, chunk
            self.last_at_s = now_s
            if self.first_at_s is None:
                self._find_first_token(chunk, now_s)
            self._count += count
            if chunk[len(chunk) - 3] != BRACE and self._ends(chunk):
                chunk = self._judged(chunk)
            if self._hide and (b'"choices":[]' in chunk or b'"choices": []' in chunk):
                return _without_usage(chunk)
        return chunk

    def _find_first_token(self, chunk: bytes, now_s: float) -> None:
        """Look for the first token; events before it carry no output (`_silent`)."""
        for data in events(chunk):
            event = event_of(data)
            if event is not None:
                if event.failure is not None:
                    self.refused = event.failure
                    return
                if event.stopped:
                    self._stopped = True
                    return
                if event.token:
                    self.first_at_s = now_s
                    return
            self._silent += 1

    def finish(self) -> tuple[bool, bytes | None]:
        """After the last chunk: whether the stream is complete, and its error event if it has one.
        It is complete if the engine said why it ends, and did not give it up: one that stops may
        end its streams as if they were."""
        if not self.over:
            self._read_end()
        return self._finished and not self._stopped, self._error

    def _ends(self, chunk: bytes) -> bool:
        """Whether the stream's last event is at the end of a chunk."""
        return not self.over and chunk.rstrip().endswith(self._end)

    def _judged(self, chunk: bytes) -> bytes:
        """The stream's last chunk; without its last event if the stream is not complete, so that
        an error event can take its place."""
        self._read_end()
        self.over = True
        if (self._finished and not self._stopped) or self._error is not None:
            return chunk
        return chunk[: chunk.rfind(DATA)]

    def _read_end(self) -> None:
        """Read what the last chunks say about the end."""
        for data in reversed(events(self._earlier + self._before + self._last)):
            if data.strip() == self._end:
                self._silent += 1
                continue
            if self._finished and self.usage is not None and b'"error"' not in data:
                continue  # nothing else is needed
            event = event_of(data)
            if event is None:
                continue
            self._finished = self._finished or event.finished
            self._stopped = self._stopped or event.stopped
            self._error = event.failure or self._error
            if event.usage is not None:
                self.usage = self.usage or event.usage
                self._silent += not event.choices

    @property
    def output_tokens(self) -> int:
        """Output tokens as the backend reported them, else as counted: one for each event."""
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
    """A chunk of whole events without the event that carries the usage and no choice."""
    kept, at = [], 0
    for match in BOUNDARY.finditer(chunk):
        piece, at = chunk[at : match.end()], match.end()
        decoded = [event_of(data) for data in events(piece)]
        if not any(e is not None and e.usage is not None and not e.choices for e in decoded):
            kept.append(piece)
    return b"".join(kept) + chunk[at:]


def error_event(error: bytes) -> bytes:
    """An error object as the last event of a stream."""
    return b"data: " + error + b"\n\n"

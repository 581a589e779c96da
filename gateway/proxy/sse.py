"""Server-sent events: cuts a stream into whole events, and measures it. No I/O, no clock.

The bytes pass unchanged. Events are decoded only until the first token, where one says why an
answer ends or has a usage, and at the end; in between a chunk costs a search for its last boundary,
a count, and a search for each of these two. A partial event is held back until its rest has come (a
client could not read it anyway), so that an error event can follow cleanly at any time.
"""

from typing import Final

from gateway.proxy.events import fingerprint_of, merged, reader, with_fingerprint
from gateway.proxy.events_schema import StreamEvent, Usage
from gateway.proxy.framing import DATA, events, in_lines, pieces
from gateway.routing.endpoints import CHAT, Endpoint

DONE: Final = b"[DONE]"
LONGEST_EVENT: Final = 1 << 20  # bytes held at most; a longer event is passed on in pieces
# Events without output after which a stream counts as begun: they are of a kind not known here.
# Engines send one with the role for each choice.
UNKNOWN: Final = 16
BRACE: Final = 125  # `}`: the last byte of an event that is JSON, before its empty line
# Neither can occur inside a JSON string: the quotes would have backslashes there.
FINISH: Final = b'"finish_reason"'
USAGE: Final = b'"usage"'
CHOICES: Final = b'"choices"'
NULL: Final = 110  # `n`: the first byte of null
BETWEEN: Final = (58, 32)  # `:` and a space, between a key and its value


class KnownFingerprint:
    """The `system_fingerprint` of one engine, as its last stream told it; `None`: none did. Every
    stream whose usage is asked for tells it, so that after a restart it is soon right again."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: str | None = None


class StreamMeter:
    """Follows one stream: its first and last token, the number of tokens, and its end.

    first_at_s, last_at_s: times of the first token and of the last event; `None` before them.
    refused: an error event that came before any output, as JSON. usage: as the backend reported it
    last. over: whether the stream's last event has come. torn: whether an event was passed on in
    pieces. answer_id: the id of the answer, where the endpoint's answers can be referred to.
    """

    __slots__ = (
        "_before", "_count", "_earlier", "_error", "_fingerprint", "_finished", "_forced", "_head",
        "_held", "_hide", "_last", "_read", "_several", "_silent", "_stopped", "_tail", "_typed",
        "_waiting", "answer_id", "first_at_s", "last_at_s", "over", "refused", "torn", "usage",
    )  # fmt: skip

    def __init__(
        self,
        *,
        endpoint: Endpoint = CHAT,
        hide_usage: bool = False,
        fingerprint: KnownFingerprint | None = None,
        several: bool = False,
    ) -> None:
        """endpoint: says what its events are. hide_usage: whether the event that carries the usage
        is taken out, because the client did not ask for it. fingerprint: of the engine, which is
        learned here. several: whether the answer has several choices."""
        self._read = reader(endpoint)
        self._typed = endpoint.typed
        self._hide = hide_usage
        self._fingerprint = fingerprint or KnownFingerprint()
        self._several = several
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None
        self.refused: bytes | None = None
        self.usage: Usage | None = None
        self.answer_id: str | None = None
        self.over = self.torn = self._finished = self._stopped = self._forced = False
        self._error: bytes | None = None
        self._count = 0
        self._silent = 0
        # The part of an event that has come; and a whole last event of an answer that waits for the
        # usage behind it.
        self._held = self._waiting = b""
        # How an event that only has output begins, up to its choices, and ends, from their reason.
        self._head = self._tail = b""
        # The last three chunks of events: an engine that fails may say so before the usage and the
        # end, which have a chunk each.
        self._earlier = self._before = self._last = b""

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
            chunk = in_lines(chunk)
            cut = max(chunk.rfind(b"\n\n") + 2, chunk.rfind(b"\n\r\n") + 3)
            if cut < 3 and len(chunk) < LONGEST_EVENT:
                self._held = chunk
                return b""
            if cut >= 3:
                chunk, self._held = chunk[:cut], chunk[cut:]
            else:
                self.torn = True
                if self.first_at_s is None:  # so much is output
                    self.first_at_s = now_s
        return self._take(chunk, now_s)

    def flush(self, now_s: float) -> bytes:
        """After the last chunk of a body that ended as HTTP says: what was held, if it says
        anything. Some servers end their last event without its empty line."""
        rest, self._held = self._held, b""
        ready = b""
        if rest:
            # Bytes that are no event would stand in the way of an error event.
            told = [d for d in events(rest) if d.strip() == DONE or self._read(d) is not None]
            ready = self._take(rest, now_s) if told or self._finished else b""
            if ready and not self._finished and self._error is None:
                ready = ready.rstrip(b"\r\n") + b"\n\n"  # an error event follows
        return self.release() + ready

    def release(self) -> bytes:
        """The last event of an answer, if it waits for what comes behind it. Of several choices all
        but the last come here, too early for what this stream will tell: the engine is known."""
        waiting, self._waiting = self._waiting, b""
        if self._several and waiting and not self._forced:
            return with_fingerprint(waiting, self._fingerprint.value)
        return waiting

    def _take(self, chunk: bytes, now_s: float) -> bytes:
        """Measure a chunk of whole events; return what of it can be passed on now."""
        count = 1  # most chunks are one event: a data line and an empty line
        if chunk[: len(DATA)] != DATA or chunk.find(b"\n") != len(chunk) - 2:
            count = chunk.count(b"\n" + DATA) + chunk.startswith(DATA)
            if count > 1:  # the data of one event may have several lines
                ends = chunk.count(b"\n\n") + chunk.count(b"\n\r\n")
                count = min(count, max(1, ends))
        if count:
            self._earlier, self._before, self._last = self._before, self._last, chunk
            self.last_at_s = now_s
            looked_at = 0
            if self.first_at_s is None:
                looked_at = self._find_first_token(chunk, now_s)
            self._count += count
            if self._typed or not self._plain(chunk, count):
                chunk = self._told(chunk, looked_at)
            elif self._waiting:
                chunk = self.release() + chunk
            if chunk and chunk[len(chunk) - 3] != BRACE and self._ends(chunk):
                chunk = self._judged(chunk)
        elif self._waiting:
            chunk = self.release() + chunk
        return chunk

    def _plain(self, chunk: bytes, count: int) -> bool:
        """Whether a chunk of so many events neither says why an answer ends nor has a usage.

        Events of one stream begin and end alike, so that only what differs is searched.
        """
        head, tail = self._head, self._tail
        if count == 1 and head and chunk.startswith(head) and chunk.endswith(tail):
            middle = chunk[len(head) : len(chunk) - len(tail)]
            if USAGE not in middle and FINISH not in middle:
                return True
        if _says(chunk, USAGE) or _says(chunk, FINISH):
            return False
        start, end = chunk.find(CHOICES), chunk.rfind(FINISH)
        if count == 1 and 0 < start < end:
            self._head, self._tail = chunk[:start], chunk[end:]
        return True

    def _find_first_token(self, chunk: bytes, now_s: float) -> int:
        """Look for the first token; events before it carry no output (`_silent`). Return how many
        events were looked at."""
        looked_at = 0
        for data in events(chunk):
            looked_at += 1
            event = self._read(data)
            if event is not None:
                if event.failure is not None:
                    self.refused = event.failure
                    break
                if event.stopped:
                    self._stopped = True
                    break
                if event.token:
                    self.first_at_s = now_s
                    break
            self._silent += 1
        return looked_at

    def _told(self, chunk: bytes, looked_at: int) -> bytes:
        """Read the events of a chunk in which an answer ends or a usage stands; return what can be
        passed on now.

        An event that the client would not get without the usage that it did not ask for is left
        out. In it vLLM says its `system_fingerprint`, without it in the event before; so the last
        event of an answer waits for what comes behind it. looked_at: events of which it is known
        whether they are output.
        """
        passed: list[bytes] = []
        for piece in pieces(chunk):
            event = self._note(piece)
            looked_at -= DATA in piece
            if event is not None and looked_at < 0:
                self._silent += not event.choices
            if event is None or not self._hide:
                passed += (self.release(), piece)
            elif event.choices:
                # An engine that was told to give its usage in every event gives it without us too.
                self._forced = self._forced or (event.reports and not event.finished)
                passed.append(self.release())
                if event.finished:
                    self._waiting = piece
                else:
                    passed.append(piece)
            elif not event.reports or self._forced:
                passed += (self.release(), piece)
            elif self._waiting:
                self._fingerprint.value = fingerprint_of(piece)
                self._waiting = with_fingerprint(self._waiting, self._fingerprint.value)
        return b"".join(passed)

    def _note(self, piece: bytes) -> StreamEvent | None:
        """Note what an event says; return it, or `None` if it is none."""
        for data in events(piece):
            event = self._read(data)
            if event is not None:
                self._finished = self._finished or event.finished
                self._stopped = self._stopped or event.stopped
                self.over = self.over or event.last
                self.answer_id = event.answer_id or self.answer_id
                usage = event.usage
                if usage is not None:
                    self.usage = usage if self.usage is None else merged(self.usage, usage)
                return event
        return None

    def finish(self) -> tuple[bool, bytes | None]:
        """After the last chunk: whether the stream is complete, and its error event if it has one.
        It is complete if the engine said why it ends, and did not give it up: one that stops may
        end its streams as if they were."""
        self._read_end()
        return self._finished and not self._stopped, self._error

    def _ends(self, chunk: bytes) -> bool:
        """Whether the stream's last event is at the end of a chunk."""
        return not self.over and not self._typed and chunk.rstrip().endswith(DONE)

    def _judged(self, chunk: bytes) -> bytes:
        """The stream's last chunk; without its last event if the stream is not complete, so that
        an error event can take its place."""
        self._read_end()
        self.over = True
        self._silent += 1
        if (self._finished and not self._stopped) or self._error is not None:
            return chunk
        return chunk[: chunk.rfind(DATA)]

    def _read_end(self) -> None:
        """Look for an error in the last chunks."""
        for chunk in (self._earlier, self._before, self._last):
            if b'"error"' in chunk:
                for data in events(chunk):
                    event = self._read(data)
                    if event is not None and event.failure is not None:
                        self._error = event.failure

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


def _says(chunk: bytes, key: bytes) -> bool:
    """Whether a key has a value other than null in a chunk; most engines send null in most."""
    at = chunk.find(key)
    while at >= 0:
        at += len(key)
        while at < len(chunk) and chunk[at] in BETWEEN:
            at += 1
        if at < len(chunk) and chunk[at] != NULL:
            return True
        at = chunk.find(key, at)
    return False

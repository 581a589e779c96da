"""Reads an OpenAI event stream with little work per chunk. Does no I/O; times are arguments.

Events are parsed until the first token is seen, and for the last few reads once the stream has
ended. Those between are only counted: a load generator shares its cores with what it measures.
"""

from collections import deque

import msgspec

DONE = b"[DONE]"
# Finish, usage, error and [DONE] are four events, each in a read of its own at most: twice that.
LAST_READS = 8
MESSAGE_CHARS = 200


class StreamDelta(msgspec.Struct, frozen=True):
    """What a chat chunk adds; anything but an empty text is output."""

    content: str | None = None
    reasoning: str | None = None  # vLLM
    reasoning_content: str | None = None  # DeepSeek's API and older vLLM
    tool_calls: list[msgspec.Raw] | None = None


class StreamChoice(msgspec.Struct, frozen=True):
    """One choice of a chat or completion chunk."""

    delta: StreamDelta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def has_output(self) -> bool:
        """Whether the choice carries text, reasoning or a tool call."""
        delta = self.delta or StreamDelta()
        return bool(
            self.text
            or delta.content
            or delta.reasoning
            or delta.reasoning_content
            or delta.tool_calls
        )


class StreamUsage(msgspec.Struct, frozen=True):
    """Token counts, as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: object = None  # a shape that is not known must not fail the request

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were prefix hits; 0 where the engine does not say."""
        details = self.prompt_tokens_details
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return cached if isinstance(cached, int) else 0


class StreamEvent(msgspec.Struct, frozen=True):
    """The fields of a chunk that measuring needs."""

    choices: list[StreamChoice] = []
    usage: StreamUsage | None = None
    error: object = None

    @property
    def has_output(self) -> bool:
        return any(choice.has_output for choice in self.choices)

    @property
    def finish_reason(self) -> str | None:
        return next((c.finish_reason for c in self.choices if c.finish_reason), None)


class StreamReader:
    """One event stream as read so far: feed it every read, close it once, then look.

    first_s, last_s: times of the reads that held the first and the last token. The role chunk, and
    any other chunk without content before the first token, is not a token. tokens: events from the
    first token to the last. done: [DONE] was seen. error: kind and message of an error event.
    """

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.tokens = 0
        self.done = False
        self.finish_reason: str | None = None
        self.usage: StreamUsage | None = None
        self.error: tuple[str, str] | None = None
        self._rest = b""
        self._reads: deque[tuple[float, bytes]] = deque(maxlen=LAST_READS)

    def feed(self, data: bytes, now_s: float) -> None:
        """Take what was read at `now_s`; a line may be split over reads anywhere."""
        cut = data.rfind(b"\n") + 1  # an event's line is looked at when it is complete
        if not cut:
            self._rest += data
            return
        lines, self._rest = self._rest + data[:cut], data[cut:]
        events = lines.count(b"\ndata:") + lines.startswith(b"data:")
        if not events:
            return  # blank lines and keep-alive comments
        self._reads.append((now_s, lines))
        if self.first_s is None:
            self._find_first(lines, now_s)
        else:
            self.tokens += events

    def close(self) -> None:
        """Parse the last reads: find the last token, and take the events after it off the count.

        A last line without its newline counts as cut off.
        """
        last_found = False
        for now_s, lines in reversed(self._reads):
            for line in reversed(_data(lines)):
                token = self._read_last(line)
                if last_found or self.first_s is None or now_s < self.first_s:
                    continue
                if token:
                    self.last_s, last_found = now_s, True
                else:
                    self.tokens -= 1
        if self.first_s is not None and not last_found:
            self.last_s, self.tokens = self.first_s, max(1, self.tokens)

    def _find_first(self, lines: bytes, now_s: float) -> None:
        """Look for the first token, and count the events behind it in the same read."""
        for line in _data(lines):
            if self.first_s is not None:
                self.tokens += 1
            elif line != DONE and _event(line).has_output:
                self.first_s, self.tokens = now_s, 1

    def _read_last(self, line: bytes) -> bool:
        """Note what one of the last events says; return whether it stands for a token."""
        if line == DONE:
            self.done = True
            return False
        event = _event(line)
        self.usage = self.usage or event.usage
        self.finish_reason = self.finish_reason or event.finish_reason
        if event.error is not None:
            self.error = describe_error(event.error)
        # Inside a stream a chunk without text can be half a UTF-8 character, which vLLM holds back:
        # a token all the same.
        return event.has_output or (bool(event.choices) and event.finish_reason is None)


def describe_error(error: object) -> tuple[str, str]:
    """Kind and message of an OpenAI error object: `503 Service Unavailable`, `Server is busy`."""
    if not isinstance(error, dict):
        return "error", str(error)[:MESSAGE_CHARS]
    # vLLM's code is the status, OpenAI's a word, and some servers write the same in both fields.
    words = dict.fromkeys(str(error[name]) for name in ("code", "type") if error.get(name))
    return " ".join(words) or "error", str(error.get("message", ""))[:MESSAGE_CHARS]


def _data(lines: bytes) -> list[bytes]:
    """The data of each event; `strip` takes the space after the colon, which is optional in SSE."""
    return [line[5:].strip() for line in lines.split(b"\n") if line.startswith(b"data:")]


def _event(line: bytes) -> StreamEvent:
    """Decode one event; broken JSON becomes an error event, for the record and not raised."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        return StreamEvent(error={"type": "invalid event", "message": str(error)})


_decoder = msgspec.json.Decoder(StreamEvent)

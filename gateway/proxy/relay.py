"""Passes one stream on from a backend to its client, without a task.

Each piece is passed on inside the call that brought it. Until `open`, pieces are held: as long as
nothing has reached the client, another backend can still answer.
"""

from collections.abc import Callable

from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.reply import HELD_BYTES, Reply
from gateway.proxy.renaming import Renaming
from gateway.proxy.sse import StreamMeter


class Relay:
    """Feeds a meter and then a client.

    meter: follows the stream. last_s: when the backend last sent something.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_on_first_token",
        "_open",
        "_ready",
        "_renaming",
        "_reply",
        "last_s",
        "meter",
    )

    def __init__(
        self,
        reply: Reply,
        client: ClientConnection,
        clock: Callable[[], float],
        meter: StreamMeter,
        on_first_token: Callable[[float], None],
        renaming: Renaming | None = None,
    ) -> None:
        """on_first_token: called once, with the time of the first token. renaming: of the model in
        the events."""
        self._renaming = renaming
        self.meter = meter
        self.last_s = clock()
        self._on_first_token: Callable[[float], None] | None = on_first_token
        self._reply = reply
        self._client = client
        self._clock = clock
        self._open = False
        self._ready = b""
        reply.stream_to(self.feed)

    @property
    def stalled(self) -> bool:
        """Whether the stream waits for its client instead of its backend."""
        return self._client.stalled

    def feed(self, piece: bytes, chunks: bytes | None = None) -> None:
        """Take a piece of the body. chunks: the same piece as whole HTTP chunks, if it came so."""
        self.last_s = now_s = self._clock()
        ready = self.meter.feed(piece, now_s)
        if self._renaming is not None:
            ready = self._renaming.events(ready)
        if self._on_first_token is not None and self.meter.first_at_s is not None:
            on_first_token, self._on_first_token = self._on_first_token, None
            on_first_token(self.meter.first_at_s)
        if self._open:
            if chunks is not None and ready is piece:
                self._client.forward(chunks, piece)
            elif ready:
                self._client.write(ready)
        else:
            self._ready += ready
            if self.meter.begun:
                self._reply.notify()
            elif len(self._ready) > HELD_BYTES:
                self._reply.pause()  # comments without end: the timeout will end it

    def close(self) -> None:
        """Pass on what is held at the end of a body that ended as HTTP says."""
        rest = self._renamed(self.meter.flush(self._clock()))
        if self._on_first_token is not None and self.meter.first_at_s is not None:
            on_first_token, self._on_first_token = self._on_first_token, None
            on_first_token(self.meter.first_at_s)
        if self._open:
            self._client.write(rest)
        else:
            self._ready += rest

    def release(self) -> bytes:
        """What waits for more of a stream that has broken: a whole event, which the client gets
        before it hears of that."""
        return self._renamed(self.meter.release())

    def _renamed(self, events: bytes) -> bytes:
        return events if self._renaming is None else self._renaming.events(events)

    def open(self) -> bytes:
        """Return what was held; from now on pieces go to the client at once."""
        ready, self._ready, self._open = self._ready, b"", True
        return ready

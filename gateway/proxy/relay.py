"""One stream on its way from a backend to its client, without a task.

Pieces pass inside the call that brought them. Until `open` they are held: what has not reached the
client can still be sent by another backend.
"""

from collections.abc import Callable

from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.reply import HELD_BYTES, Reply
from gateway.proxy.sse import StreamMeter


class Relay:
    """Feeds a meter and then a client. last_s: when the backend was last heard of."""

    __slots__ = ("_client", "_clock", "_first", "_open", "_ready", "_reply", "last_s", "meter")

    def __init__(
        self,
        reply: Reply,
        client: ClientConnection,
        clock: Callable[[], float],
        meter: StreamMeter,
        first: Callable[[float], None],
    ) -> None:
        """first: told when the first token came, once."""
        self.meter = meter
        self.last_s = clock()
        self._first: Callable[[float], None] | None = first
        self._reply = reply
        self._client = client
        self._clock = clock
        self._open = False
        self._ready = b""
        reply.flow(self.feed)

    @property
    def stalled(self) -> bool:
        """Whether the stream waits for its client and not for its backend."""
        return self._client.stalled

    def feed(self, piece: bytes, framed: bytes | None = None) -> None:
        """Called with every piece of the body. framed: the same as whole HTTP chunks."""
        self.last_s = now_s = self._clock()
        ready = self.meter.feed(piece, now_s)
        if self._first is not None and self.meter.first_at_s is not None:
            first, self._first = self._first, None
            first(self.meter.first_at_s)
        if self._open:
            if framed is not None and ready is piece:
                self._client.forward(framed, piece)
            elif ready:
                self._client.write(ready)
        else:
            self._ready += ready
            if self.meter.last_at_s is not None:
                self._reply.notify()
            elif len(self._ready) > HELD_BYTES:
                self._reply.pause()  # comments without end, and no event: until time is up

    def open(self) -> bytes:
        """What was held; everything after it goes to the client by itself."""
        ready, self._ready, self._open = self._ready, b"", True
        return ready

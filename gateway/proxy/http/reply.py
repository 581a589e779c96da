"""A backend's answer as it arrives. Of its connection it knows only what that can be told."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import UpstreamError
from gateway.proxy.http.fiber import Promise
from gateway.proxy.http.headers import Headers

HELD_BYTES: Final = 1 << 20  # of a reply that nobody takes yet: then the backend has to wait
WHOLE_BYTES = 1 << 28  # of a reply that is no stream: more is no answer to anything


# Takes a piece of a body, and the same as whole chunks if it came as such.
Sink = Callable[[bytes, bytes | None], None]


class ReplyConnection(Protocol):
    """The connection that a reply comes on."""

    def pause(self, still: bool) -> None: ...

    def abort(self) -> None: ...

    def fail(self, message: str) -> None: ...


class Reply:
    """A backend's answer as it arrives; closed on every path.

    status: 0 until the head is here. stream: whether it is a stream of events. began: whether any
    byte came. passing: the header lines that go on, where they are made already.
    """

    __slots__ = (
        "_change", "_connection", "_held", "_parts", "began", "complete", "error", "headers",
        "passing", "sink", "status", "stream",
    )  # fmt: skip

    def __init__(self, connection: "ReplyConnection") -> None:
        self._connection: ReplyConnection | None = connection
        self._change: Promise[None] | None = None
        self._parts: list[bytes] = []
        self._held = 0
        self.sink: Sink | None = None
        self.status = 0
        self.headers: Headers = []
        self.passing: bytes | None = None
        self.stream = self.began = self.complete = False
        self.error: UpstreamError | None = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else "broken" if self.error else "open"
        return f"<Reply {self.status or 'without a head'} {state}>"

    def change(self) -> Promise[None]:
        """To be awaited: something new, the head, the end, or what `notify` was called for."""
        promise = self._change = Promise()
        return promise

    def notify(self) -> None:
        """Lets whoever waits for a change look."""
        promise, self._change = self._change, None
        if promise is not None:
            promise.resolve(None)

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError if it is cut."""
        while not self.complete:
            if self.error is not None:
                raise self.error
            await self.change()
        return self.body

    @property
    def body(self) -> bytes:
        """What has come of a body that is no stream."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def flow(self, sink: "Sink") -> None:
        """From now on every piece of the body goes to `sink` as it comes; first what is here."""
        self.sink, parts, self._parts, self._held = sink, self._parts, [], 0
        if parts:
            sink(b"".join(parts), None)
        self.resume()

    def pause(self) -> None:
        """Takes no more from the backend for now."""
        if self._connection is not None:
            self._connection.pause(True)

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.pause(False)

    def close(self) -> None:
        """Ends the exchange; the connection too, if the reply is not complete: engines then abort.

        Again is harmless.
        """
        connection, self._connection, self.sink = self._connection, None, None
        if connection is not None:
            connection.abort()

    def received(self, piece: bytes, framed: bytes | None = None) -> None:
        """Called by the connection: a piece of the body. framed: the same as whole chunks."""
        if self.sink is not None:
            self.sink(piece, framed)
            return
        self._parts.append(piece)
        self._held += len(piece)
        if self._held > HELD_BYTES and self.stream:
            self.pause()
        elif self._held > WHOLE_BYTES and self._connection is not None:
            self._connection.fail("The backend's reply does not end.")

    def ended(self) -> None:
        """Called by the connection: the reply is whole, and the connection may be another's now."""
        self.complete, self._connection = True, None

    def broke(self, error: UpstreamError) -> None:
        """Called by the connection: there will be no more."""
        if not self.complete and self.error is None:
            self.error, self._connection = error, None
            self.notify()

"""A backend's reply as it arrives. Knows its connection only as what can be paused and closed."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import GatewayError, Overloaded, ReplyTooLarge
from gateway.proxy.http.body_budget import SMALL, BodyBudget
from gateway.proxy.http.fiber import Promise
from gateway.proxy.http.headers import Headers

# A stream that nobody reads yet is held up to this size; then its backend is paused.
HELD_BYTES: Final = 1 << 20
# Limit of a reply that is no stream: it is collected before it is passed on, and a longer one is
# no completion.
WHOLE_BYTES = 1 << 28


# Takes a piece of a body; and the same piece as whole HTTP chunks, if it came so.
Sink = Callable[[bytes, bytes | None], None]


class ReplyConnection(Protocol):
    """The connection that a reply comes on."""

    def set_reading(self, wanted: bool) -> None:
        """Read from the backend or not."""

    def abort(self) -> None:
        """Close at once."""

    def fail(self, error: GatewayError) -> None:
        """Close at once, and give the reply this error."""


class Reply:
    """A backend's reply as it arrives; its reader must close it on every path.

    status: 0 until the head has come. headers: never changed. end_to_end: the header lines to
    forward, if they are known already. stream: whether the body is an event stream. started:
    whether any byte has come. complete: whether all of the reply has come. error: why no more will
    come. sink: takes the pieces of the body; while there is none, they are collected.
    """

    __slots__ = (
        "_budget", "_change", "_connection", "_counted_bytes", "_held_bytes", "_pieces",
        "complete", "end_to_end", "error", "headers", "sink", "started", "status", "stream",
    )  # fmt: skip

    def __init__(self, connection: "ReplyConnection", budget: BodyBudget) -> None:
        """budget: for what is collected of a reply that is no stream."""
        self._connection: ReplyConnection | None = connection
        self._change: Promise[None] | None = None
        self._pieces: list[bytes] = []
        self._held_bytes = self._counted_bytes = 0
        self._budget = budget
        self.sink: Sink | None = None
        self.status = 0
        self.headers: Headers = []
        self.end_to_end: bytes | None = None
        self.stream = self.started = self.complete = False
        self.error: GatewayError | None = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else "broken" if self.error else "open"
        return f"<Reply {self.status or 'without a head'} {state}>"

    # Called by the reader of the reply.

    def next_change(self) -> Promise[None]:
        """A promise that resolves when the head or the end has come, when the reply fails, or when
        `notify` is called. Only the last promise resolves."""
        promise = self._change = Promise()
        return promise

    def notify(self) -> None:
        """Resolve the promise of the next change."""
        promise, self._change = self._change, None
        if promise is not None:
            promise.resolve(None)

    async def read(self) -> bytes:
        """The complete body. Raises UpstreamError if the reply fails."""
        while not self.complete:
            if self.error is not None:
                raise self.error
            await self.next_change()
        return self.body

    @property
    def body(self) -> bytes:
        """The pieces of the body that were collected."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]  # a large one must not stay in memory twice
        return self._pieces[0]

    def stream_to(self, sink: "Sink") -> None:
        """Hand the collected pieces of the body to `sink`, and from now on every piece as it
        comes."""
        self.sink, pieces, self._pieces, self._held_bytes = sink, self._pieces, [], 0
        if pieces:
            sink(b"".join(pieces), None)
        self.resume()

    def put_back(self, pieces: bytes) -> None:
        """Collect again what a sink has taken, and what comes from now on."""
        self.sink, self._pieces, self._held_bytes = None, [pieces], len(pieces)

    def pause(self) -> None:
        """Read no more from the backend for now."""
        if self._connection is not None:
            self._connection.set_reading(False)

    def resume(self) -> None:
        """Read from the backend again."""
        if self._connection is not None:
            self._connection.set_reading(True)

    def close(self) -> None:
        """Want no more of the reply. If it is not complete, its connection is closed, and the
        engine aborts the request. May be called again."""
        connection, self._connection, self.sink = self._connection, None, None
        self._drop()
        if connection is not None:
            connection.abort()

    # Called by the connection.

    def feed_body(self, piece: bytes, chunks: bytes | None = None) -> None:
        """Take a piece of the body. chunks: the same piece as whole HTTP chunks, if it came so."""
        if self.sink is not None:
            self.sink(piece, chunks)
            return
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > SMALL:
            self._bound()

    def _bound(self) -> None:
        """Pause a stream that nobody reads yet; end a reply that takes too much memory."""
        connection = self._connection
        if self.stream:
            if self._held_bytes > HELD_BYTES:
                self.pause()
            return
        self._budget.used += self._held_bytes - self._counted_bytes
        self._counted_bytes = self._held_bytes
        if connection is None:
            return
        if self._held_bytes > WHOLE_BYTES:
            connection.fail(ReplyTooLarge("The backend's reply does not end."))
        elif self._budget.exceeded:
            connection.fail(Overloaded())

    def _drop(self) -> None:
        """Forget what was collected, and give it back to the budget."""
        self._budget.used -= self._counted_bytes
        self._pieces, self._counted_bytes = [], 0

    def finish(self) -> None:
        """Mark the reply as complete. Its connection may carry another exchange from now on."""
        self.complete, self._connection = True, None

    def fail(self, error: GatewayError) -> None:
        """Note that no more will come, and wake the reader."""
        if not self.complete and self.error is None:
            self.error, self._connection = error, None
            self.notify()

"""What is still to come of a request's body while the request is served already. No I/O.

A recording is not held whole: what its engine needs to know stands before it, and the rest is
passed on as it comes. While nobody takes it, a little is held, and then the client is paused.
"""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.errors import GatewayError, Overloaded
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.fiber import Promise

HELD_BYTES: Final = 1 << 18  # while nobody takes it; then the client is paused


class UploadSource(Protocol):
    """The client, which is paused while its backend does not read."""

    def set_reading(self, wanted: bool) -> None:
        """Read from the client or not."""


class Upload:
    """The rest of one body: all that follows the beginning that the request has.

    rest_bytes: of it. left: bytes that have not come yet. moved: whether any of it was passed on,
    so that the request cannot be repeated. stopped: whether the backend does not read at present.
    on_error: called with what ends the upload; the handler's.
    """

    __slots__ = (
        "_asked", "_budget", "_held_bytes", "_pieces", "_sink", "_source", "_wants_all", "_whole",
        "left", "moved", "on_error", "rest_bytes", "stopped",
    )  # fmt: skip

    def __init__(self, rest_bytes: int, budget: BodyBudget) -> None:
        self.rest_bytes = self.left = rest_bytes
        self.moved = self.stopped = False
        self.on_error: Callable[[GatewayError], None] | None = None
        self._asked = False
        self._budget = budget
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._sink: Callable[[bytes], None] | None = None
        self._source: UploadSource | None = None
        self._wants_all = False
        self._whole: Promise[None] | None = None

    def __repr__(self) -> str:
        return f"<Upload of {self.rest_bytes} bytes, {self.left} to come>"

    # Called by the client's connection.

    def begin(self, source: UploadSource) -> None:
        """The request is served from now on."""
        self._source = source
        self._balance()

    def take(self, data: bytes) -> bytes:
        """Take what has come; return what follows the body."""
        left = self.left
        if len(data) <= left:
            self._take(data)
            return b""
        self._take(data[:left])
        return data[left:]

    def _take(self, piece: bytes) -> None:
        self.left -= len(piece)
        if self._sink is not None:
            self.moved = True
            self._sink(piece)
            return
        self._pieces.append(piece)
        self._hold(len(piece))
        if self._wants_all and self._budget.exceeded:
            self.fail(Overloaded())
        elif not self.left:
            self._balance()
            if self._whole is not None:
                self._whole.resolve(None)
        else:
            self._balance()

    def fail(self, error: GatewayError) -> None:
        """The rest will not come."""
        if self.on_error is not None:
            self.on_error(error)

    def end(self) -> None:
        """The request is over: forget what nobody took, and pass nothing on."""
        self.on_error = self._sink = self._source = None
        self._pieces = []
        self._hold(-self._held_bytes)

    # Called by the request's handler.

    async def whole(self) -> bytes:
        """All of the rest, when it has come."""
        self._wants_all = True
        self._balance()
        if self.left:
            self._whole = Promise()
            await self._whole
        pieces, self._pieces = self._pieces, []
        self._held_bytes = 0  # the request has them now, and gives them back at its end
        return b"".join(pieces)

    def pass_to(self, sink: Callable[[bytes], None]) -> None:
        """Pass on what has come, and from now on every piece as it comes."""
        self._sink, self.stopped = sink, False
        pieces, self._pieces = self._pieces, []
        self._hold(-self._held_bytes)
        for piece in pieces:
            self.moved = True
            sink(piece)
        self._balance()

    def stop(self) -> None:
        """Pass nothing on for now: the attempt is over."""
        self._sink, self.stopped = None, False
        self._balance()

    def set_reading(self, wanted: bool) -> None:
        """The backend takes more, or does not."""
        self.stopped = not wanted
        self._balance()

    @property
    def excuses(self) -> bool:
        """Whether a backend that has not answered in time had not got all of the request when it
        was looked at last; not if it does not read."""
        if self.stopped:
            return False
        asked, self._asked = self._asked, not self.left
        return not asked

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._budget.used += size

    def _balance(self) -> None:
        """Pause the client or let it go on."""
        if self._source is not None:
            full = self._sink is None and self._held_bytes > HELD_BYTES and not self._wants_all
            self._source.set_reading(not (full or self.stopped))

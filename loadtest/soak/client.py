"""One connection of a client: sends what a visit says, and books how each request ended."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from loadtest.soak.answer import read_answer
from loadtest.soak.ledger import ClientEnd, Ending
from loadtest.soak.traffic import Question, Visit, message

PATIENCE_S = 40.0  # for all answers of a visit
SLOW_PAUSE_S = 0.02  # between two reads of a slow reader,
SLOW_BYTES = 8_192  # whose receive buffer is so small

Book = Callable[[int, ClientEnd], None]


class SoakConnection(asyncio.Protocol):
    """One connection. open: whether another visit can use it."""

    def __init__(self, book: Book) -> None:
        """book: called once with the number of every request that was asked for, and its end."""
        self._book = book
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: deque[Question] = deque()
        self._done: asyncio.Future[None] | None = None
        self._started_s = 0.0
        self._slow = False
        self._id = b""
        self._body: list[bytes] = []
        self.open = False

    def __repr__(self) -> str:
        return f"<SoakConnection, {len(self._waiting)} requests>"

    async def visit(self, visit: Visit) -> None:
        """Send the requests of a visit, and wait until the last one has ended."""
        loop = asyncio.get_running_loop()
        self._waiting.extend(visit.asks)
        self._started_s, self._slow = loop.time(), visit.slow
        self._done = loop.create_future()
        if not self.open or self._transport is None:
            self.end_all(Ending.LOST, "the connection was closed before")
            return
        data = b"".join(map(message, visit.asks))
        self._transport.write(data[: max(1, int(len(data) * visit.sent))])
        leaves = visit.leave_s is not None
        wait_s = visit.leave_s if visit.leave_s is not None else PATIENCE_S
        timer = loop.call_later(wait_s, self._give_up, leaves)
        await self._done
        timer.cancel()
        if leaves or not visit.keep:
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def end_all(self, ending: Ending, detail: str = "") -> None:
        """All requests that wait for an answer end so."""
        while self._waiting:
            self._end(self._waiting.popleft(), ending, 0, detail)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def connection_lost(self, error: Exception | None) -> None:
        self.open, self._transport = False, None
        self.end_all(Ending.LOST, f"the gateway closed the connection: {error or 'cleanly'}")

    def data_received(self, data: bytes) -> None:
        if self._slow and self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_PAUSE_S, self._read_on)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.end_all(Ending.MIXED, f"no HTTP from the gateway: {error}")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status, request_id, body = self._parser.get_status_code(), self._id, b"".join(self._body)
        self._id = b""
        self._body.clear()
        self.open = self.open and self._parser.should_keep_alive()
        if not self._waiting:  # httptools wraps what a callback raises
            raise ValueError("an answer that nobody asked for")
        ask = self._waiting.popleft()
        self._end(ask, *_judged(ask, status, request_id, body))

    def _end(self, ask: Question, ending: Ending, status: int, detail: str) -> None:
        now_s = asyncio.get_running_loop().time()
        end = ClientEnd(ending, status, self._started_s, now_s, bool(ask.mistake), detail)
        self._book(ask.number, end)
        if not self._waiting and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _give_up(self, leaves: bool) -> None:
        """The time of a visit is over."""
        if self._waiting:
            ending = Ending.LEFT if leaves else Ending.LOST
            self.end_all(ending, "" if leaves else f"no answer in {PATIENCE_S:g} s")
        self.close()

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()


async def connect(port: int, book: Book, *, slow: bool = False) -> SoakConnection:
    """A connection to the gateway. slow: with a small receive buffer. Raises OSError."""
    loop = asyncio.get_running_loop()
    connection = SoakConnection(book)
    if not slow:
        await loop.create_connection(lambda: connection, "127.0.0.1", port)
        return connection
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
    plain.setblocking(False)
    try:
        await loop.sock_connect(plain, ("127.0.0.1", port))
    except OSError:
        plain.close()
        raise
    await loop.create_connection(lambda: connection, sock=plain)
    return connection


def _judged(ask: Question, status: int, request_id: bytes, body: bytes) -> tuple[Ending, int, str]:
    ending, detail = read_answer(ask, status, request_id, body)
    return ending, status, detail

"""A load generator that costs little: raw connections that send one request, again and again.

Closed loop: each connection sends its next request when the last is answered. Counts what completes
between two instants of the monotonic clock, which processes on one machine share. Every reply is
checked. Runs as its own process, `python -m loadtest.pressure`: job on stdin, READY on stdout once
connected, window on stdin, outcome on stdout.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import cast

import msgspec
import uvloop

# Latencies handed back at most. The outcome must fit into one pipe buffer (64 KiB): what a process
# writes to a pipe after uvloop has run was seen to be cut off there.
SAMPLES = 501
TAIL = 32  # bytes kept to find what two reads share
CONNECTING_S = 5.0
READY = b"ready\n"


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """What to send. body_bytes: of a right reply. events: of a right stream, ending in [DONE]."""

    port: int
    request: bytes
    connections: int
    body_bytes: int | None = None
    events: int | None = None


class Window(msgspec.Struct, kw_only=True, frozen=True):
    """What is counted, on `time.monotonic`; sending begins at once and stops at the end."""

    begin_s: float
    end_s: float


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """What completed between begin and end. errors: by kind, at any time.

    first_s, total_s: latencies to the first byte of the body (the first event of a stream) and to
    the end of the reply: evenly spaced order statistics, ascending.
    """

    requests: int
    events: int
    first_s: list[float]
    total_s: list[float]
    errors: dict[str, int]


class Reply:
    """One HTTP reply as it arrives: feed it until it is `done`. `text` counts `data:` events."""

    def __init__(self) -> None:
        self.status = 0
        self.body_bytes = 0
        self.events = 0
        self.done = False
        self._tail = b""
        self._rest = b""
        self._length: int | None = None
        self._headed = False

    @property
    def ended(self) -> bool:
        """Whether a stream said [DONE]."""
        return b"data: [DONE]" in self._tail

    def feed(self, data: bytes) -> None:
        """Takes what was read. Raises ValueError if it is no HTTP/1.1 reply."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        if not self._headed:
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self._rest = head
                return
            self._start(head)
        if self._length is None:
            self._unframe(data)
        else:
            self._take(data)
            self.done = self.body_bytes >= self._length

    def _start(self, head: bytes) -> None:
        self.status, self._headed = int(head[9:12]), True
        lower = head.lower() + b"\r\n"
        at = lower.find(b"\r\ncontent-length:")
        if at >= 0:
            self._length = int(lower[at + 17 : lower.index(b"\r\n", at + 2)])
        elif b"\r\ntransfer-encoding: chunked" not in lower:
            raise ValueError("a reply without a length")

    def _unframe(self, data: bytes) -> None:
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            end = line + 2 + size
            if len(data) < end + 2:
                break
            if not size:
                self.done = True
                return
            self._take(data[line + 2 : end])
            at = end + 2
        self._rest = data[at:]

    def _take(self, payload: bytes) -> None:
        self.body_bytes += len(payload)
        # Four bytes of what came before: enough to see a `data:` that was cut, too few to see
        # one twice.
        self.events += (self._tail[-4:] + payload).count(b"data:")
        self._tail = (self._tail + payload)[-TAIL:]


class Tally:
    """What all connections of a job have counted. window: of the counting, known once connected."""

    def __init__(self) -> None:
        self.window = Window(begin_s=float("inf"), end_s=float("inf"))
        self.requests = self.events = 0
        self.first_s: list[float] = []
        self.total_s: list[float] = []
        self.errors: Counter[str] = Counter()


class Connection(asyncio.Protocol):
    """One client connection, sending as soon as it may and until it is closed."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self._job, self._tally = job, tally
        self._transport: asyncio.Transport | None = None
        self._reply = Reply()
        self._sent_s = 0.0
        self._first_s: float | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._tally.errors["connection lost"] += 1
        self._transport = None

    def close(self) -> None:
        self._closing = True
        if self._transport:
            self._transport.abort()

    def send(self) -> None:
        """Begins one exchange."""
        if self._transport:
            self._reply, self._first_s = Reply(), None
            self._sent_s = time.monotonic()
            self._transport.write(self._job.request)

    def data_received(self, data: bytes) -> None:
        reply, tally, now_s = self._reply, self._tally, time.monotonic()
        events = reply.events
        try:
            reply.feed(data)
        except ValueError:
            tally.errors["not HTTP"] += 1
            self.close()
            return
        within = tally.window.begin_s <= now_s < tally.window.end_s
        if within:
            tally.events += reply.events - events
        if self._first_s is None and reply.body_bytes:
            self._first_s = now_s - self._sent_s
            if within:
                tally.first_s.append(self._first_s)
        if reply.done:
            self._check(reply)
            if within:
                tally.requests += 1
                tally.total_s.append(now_s - self._sent_s)
            self.send()

    def _check(self, reply: Reply) -> None:
        job, errors = self._job, self._tally.errors
        if reply.status != 200:
            errors[f"status {reply.status}"] += 1
        elif job.body_bytes is not None and reply.body_bytes != job.body_bytes:
            errors["body length"] += 1
        elif job.events is not None and reply.events != job.events:
            errors["number of events"] += 1
        elif job.events is not None and not reply.ended:
            errors["no [DONE]"] += 1


async def press(job: Job, ready: Callable[[], Window]) -> Outcome:
    """Runs a job to its end. Connections that cannot be made are errors, not exceptions.

    ready: is asked for the window when everybody is connected; it may block.
    """
    loop, tally = asyncio.get_running_loop(), Tally()
    connections = await _connect(job, tally)
    tally.window = ready()
    # Streams started together would send every chunk together: spread them over the warm-up.
    spread_s = max(0.0, tally.window.begin_s - time.monotonic()) / 2
    for index, connection in enumerate(connections):
        loop.call_later(spread_s * index / len(connections), connection.send)
    await asyncio.sleep(max(0.0, tally.window.end_s - time.monotonic()))
    for connection in connections:
        connection.close()
    return Outcome(
        requests=tally.requests,
        events=tally.events,
        first_s=thin(tally.first_s),
        total_s=thin(tally.total_s),
        errors=dict(tally.errors),
    )


async def _connect(job: Job, tally: Tally) -> list[Connection]:
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(CONNECTING_S):
            for _ in range(job.connections):
                made = await loop.create_connection(
                    lambda: Connection(job, tally), "127.0.0.1", job.port
                )
                connections.append(made[1])
    except (OSError, TimeoutError):
        tally.errors["not connected"] += job.connections - len(connections)
    return connections


def main() -> None:
    """One job, as the module says."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)

    def ready() -> Window:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        return msgspec.json.decode(sys.stdin.buffer.readline(), type=Window)

    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(press(job, ready))))


def thin(values: list[float]) -> list[float]:
    """At most SAMPLES evenly spaced order statistics, the least and the largest among them."""
    ordered, last = sorted(values), len(values) - 1
    if len(ordered) <= SAMPLES:
        return ordered
    return [ordered[round(place * last / (SAMPLES - 1))] for place in range(SAMPLES)]


if __name__ == "__main__":
    main()

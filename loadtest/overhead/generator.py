"""A load generator that costs little: raw connections that send one request, again and again.

Closed loop: each connection sends its next request when the last is answered. Open loop: requests
fall due by a Poisson process, whatever has been answered, and latency counts from the due time.
Counts what completes between two instants of the monotonic clock, which processes on one machine
share. Every reply is checked. A process of its own, `python -m loadtest.overhead.generator`: job on
stdin, READY on stdout once connected, window on stdin, outcome on stdout.
"""

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import cast

import msgspec
import uvloop

from loadtest.overhead.reply import ReplyReader
from loadtest.overhead.timer import Timer

# Latencies handed back at most. The outcome must fit into one pipe buffer (64 KiB): what a process
# writes to a pipe after uvloop has run was seen to be cut off there.
SAMPLES = 501
CONNECTING_S = 30.0
AT_ONCE = 64  # connections under way at a time: a listening queue may be short
READY = b"ready\n"


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """What to send. rate: requests/s of an open loop, `None` closes it. seed: of its arrivals.

    text: in every right reply. body_bytes: its length, if nobody rebuilds it. least_events: of a
    right stream, which ends in [DONE], `None` for unary replies. events: exactly.
    """

    port: int
    request: bytes
    connections: int
    rate: float | None = None
    seed: int = 0
    text: bytes = b""
    body_bytes: int | None = None
    least_events: int | None = None
    events: int | None = None

    @property
    def streamed(self) -> bool:
        return self.least_events is not None


class Window(msgspec.Struct, kw_only=True, frozen=True):
    """What is counted, on `time.monotonic`; sending begins at once and stops at the end.

    begun_s: when the last connection has begun; a stream that says nothing after it is an error.
    """

    begin_s: float
    end_s: float
    begun_s: float = 0.0


class LoadOutcome(msgspec.Struct, kw_only=True, frozen=True):
    """What completed between begin and end. errors: by kind, at any time.

    first_s, total_s: latencies to the first byte of the body (the first event of a stream) and to
    the end of the reply: evenly spaced order statistics, ascending.
    """

    requests: int
    events: int
    first_s: list[float]
    total_s: list[float]
    errors: dict[str, int]


class LoadTally:
    """What all connections of a job have counted. window: of the counting, known once connected."""

    def __init__(self) -> None:
        self.window = Window(begin_s=float("inf"), end_s=float("inf"))
        self.requests = self.events = 0
        self.first_s: list[float] = []
        self.total_s: list[float] = []
        self.errors: Counter[str] = Counter()


class LoadConnection(asyncio.Protocol):
    """One client connection. free: told whenever a reply is complete."""

    def __init__(
        self, job: Job, tally: LoadTally, free: Callable[["LoadConnection"], None]
    ) -> None:
        self._job, self._tally, self._free = job, tally, free
        self._transport: asyncio.Transport | None = None
        self._reply = ReplyReader(keep=not job.streamed)
        self._due_s = 0.0
        self._first_s: float | None = None
        self._closing = False
        self.heard_s: float | None = None  # when the last byte came

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

    def send(self, due_s: float) -> None:
        """Begins one exchange, whose latency counts from `due_s`."""
        if self._transport:
            self._reply, self._first_s = ReplyReader(keep=not self._job.streamed), None
            self._due_s = due_s
            self._transport.write(self._job.request)

    def data_received(self, data: bytes) -> None:
        reply, tally, now_s = self._reply, self._tally, time.monotonic()
        self.heard_s, events = now_s, reply.events
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
            self._first_s = now_s - self._due_s
            if within:
                tally.first_s.append(self._first_s)
        if reply.done:
            self._check(reply)
            if within:
                tally.requests += 1
                tally.total_s.append(now_s - self._due_s)
            self._free(self)

    def _check(self, reply: ReplyReader) -> None:
        job, errors = self._job, self._tally.errors
        if reply.status != 200:
            errors[f"status {reply.status}"] += 1
        elif job.body_bytes is not None and reply.body_bytes != job.body_bytes:
            errors["body length"] += 1
        elif job.least_events is None:
            errors.update(["body"] if job.text not in reply.body else [])
        elif reply.events < job.least_events or reply.events != (job.events or reply.events):
            errors["number of events"] += 1
        elif not reply.ended:
            errors["no [DONE]"] += 1


class Arrivals:
    """The open loop: sends what is due on a free connection, or as soon as one is free."""

    def __init__(self, rate: float, seed: int) -> None:
        self._rate, self._random = rate, Random(seed)
        self._idle: list[LoadConnection] = []
        self._late: deque[float] = deque()  # due times
        self._due_s = 0.0

    def free(self, connection: LoadConnection) -> None:
        if self._late:
            connection.send(self._late.popleft())
        else:
            self._idle.append(connection)

    async def run(self, connections: list[LoadConnection], end_s: float) -> None:
        """From now to the end."""
        self._idle = list(connections)
        self._due_s = time.monotonic()
        with Timer(lambda: self._turn(timer)) as timer:
            self._turn(timer)
            await asyncio.sleep(max(0.0, end_s - time.monotonic()))

    def _turn(self, timer: Timer) -> None:
        now_s = time.monotonic()
        while self._due_s <= now_s:
            if self._idle:
                self._idle.pop().send(self._due_s)
            else:
                self._late.append(self._due_s)
            self._due_s += self._random.expovariate(self._rate)
        timer.set(self._due_s)


async def press(job: Job, ready: Callable[[], Window]) -> LoadOutcome:
    """Runs a job to its end. Connections that cannot be made are errors, not exceptions.

    ready: is asked for the window when everybody is connected; it may block.
    """
    tally = LoadTally()
    arrivals = Arrivals(job.rate, job.seed) if job.rate else None
    connections = await _connect(job, tally, arrivals.free if arrivals else _again)
    tally.window = ready()
    if arrivals:
        await arrivals.run(connections, tally.window.end_s)
    else:
        _spread(connections, max(0.0, tally.window.begun_s - time.monotonic()))
        await asyncio.sleep(max(0.0, tally.window.end_s - time.monotonic()))
    if job.streamed:
        silent = sum((c.heard_s or 0.0) < tally.window.begun_s for c in connections)
        tally.errors.update({"silent stream": silent} if silent else {})
    for connection in connections:
        connection.close()
    return LoadOutcome(
        requests=tally.requests,
        events=tally.events,
        first_s=thin(tally.first_s),
        total_s=thin(tally.total_s),
        errors=dict(tally.errors),
    )


def _again(connection: LoadConnection) -> None:
    connection.send(time.monotonic())


def _spread(connections: list[LoadConnection], over_s: float) -> None:
    """Streams started together would send every chunk together."""
    loop = asyncio.get_running_loop()
    for index, connection in enumerate(connections):
        loop.call_later(over_s * index / len(connections), _again, connection)


async def _connect(
    job: Job, tally: LoadTally, free: Callable[[LoadConnection], None]
) -> list[LoadConnection]:
    loop = asyncio.get_running_loop()
    connections: list[LoadConnection] = []
    missing = job.connections

    async def connect() -> None:
        nonlocal missing
        while missing > 0:
            missing -= 1
            _, made = await loop.create_connection(
                lambda: LoadConnection(job, tally, free), "127.0.0.1", job.port
            )
            connections.append(made)

    with suppress(TimeoutError):
        async with asyncio.timeout(CONNECTING_S):
            await asyncio.gather(
                *(connect() for _ in range(min(AT_ONCE, job.connections))), return_exceptions=True
            )
    if len(connections) < job.connections:
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

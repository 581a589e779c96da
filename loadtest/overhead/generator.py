"""A load generator that costs little: raw connections that send one canned request repeatedly.

Closed loop: each connection sends its next request when the last one is answered. Open loop:
requests fall due by a Poisson process, whatever has been answered, and latency counts from the due
time, so that a stalled proxy cannot hide its stall by slowing the load (coordinated omission).
Counts what completes between two instants of the monotonic clock, which all processes of a machine
share. Every reply is checked: a proxy that answers fast and wrong must not look cheap.

A process of its own, `python -m loadtest.overhead.generator`: job on stdin, READY on stdout once
connected, window on stdin, result on stdout. Knows nothing of proxies or scenarios.
"""

import asyncio
import ssl
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

# Latencies handed back at most, of each kind. The result must fit into one pipe buffer (64 KiB):
# what a process writes to a pipe after uvloop has run was seen to be cut off there. Two lists of
# 501 numbers of some 20 digits take 20 KiB.
SAMPLES = 501
CONNECT_S = 30.0
CONNECTING = 64  # connections under way at a time: the server's listening queue may be short
READY = b"ready\n"


class ExpectedReply(msgspec.Struct, kw_only=True, frozen=True):
    """What makes a reply right.

    text: is in the body of a unary reply. body_bytes: exact length of a unary body, `None` where a
    proxy rebuilds it. min_events: of a stream, which ends in [DONE]; `None`: replies are unary.
    events: exact number of events of a stream, `None` where a proxy rebuilds it.
    """

    text: bytes = b""
    body_bytes: int | None = None
    min_events: int | None = None
    events: int | None = None

    @property
    def streamed(self) -> bool:
        return self.min_events is not None


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """What to send. rate: requests/s of an open loop, `None` closes it. seed: of its arrivals. tls:
    whether the port speaks it; its certificate is not looked at."""

    port: int
    request: bytes
    connections: int
    rate: float | None = None
    seed: int = 0
    tls: bool = False
    expected: ExpectedReply = ExpectedReply()


class Window(msgspec.Struct, kw_only=True, frozen=True):
    """When to count, on `time.monotonic`. Sending begins at once and stops at the end.

    ramp_end_s: when the last connection has sent its first request; a stream from which nothing
    comes after that is an error.
    """

    start_s: float
    end_s: float
    ramp_end_s: float = 0.0


class LoadResult(msgspec.Struct, kw_only=True, frozen=True):
    """What completed within the window.

    first_s, total_s: latencies to the first byte of the body (a stream's first event) and to the
    end of the reply: evenly spaced order statistics, ascending. errors: by kind, at any time.
    """

    requests: int
    events: int
    first_s: list[float]
    total_s: list[float]
    errors: dict[str, int]


class LoadCounters:
    """What all connections of a job have counted. window: set when all are connected."""

    def __init__(self) -> None:
        self.window = Window(start_s=float("inf"), end_s=float("inf"))
        self.requests = self.events = 0
        self.first_s: list[float] = []
        self.total_s: list[float] = []
        self.errors: Counter[str] = Counter()


class LoadConnection(asyncio.Protocol):
    """One client connection. on_idle: called when a reply is complete."""

    def __init__(
        self, job: Job, counters: LoadCounters, on_idle: Callable[["LoadConnection"], None]
    ) -> None:
        self._job, self._counters, self._on_idle = job, counters, on_idle
        self._transport: asyncio.Transport | None = None
        self._reply = ReplyReader(keep_body=not job.expected.streamed)
        self._due_s = 0.0
        self._first_s: float | None = None
        self._closing = False
        self.last_read_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._counters.errors["connection lost"] += 1
        self._transport = None

    def close(self) -> None:
        """Abort the connection; it does not count as lost."""
        self._closing = True
        if self._transport:
            self._transport.abort()

    def send(self, due_s: float) -> None:
        """Begin one exchange, whose latency counts from `due_s`."""
        if self._transport:
            self._reply = ReplyReader(keep_body=not self._job.expected.streamed)
            self._first_s, self._due_s = None, due_s
            self._transport.write(self._job.request)

    def data_received(self, data: bytes) -> None:
        """Read on in the reply; count it, check it and report the connection idle when it ends."""
        reply, counters, now_s = self._reply, self._counters, time.monotonic()
        self.last_read_s, events_before = now_s, reply.events
        try:
            reply.feed(data)
        except ValueError:
            counters.errors["not HTTP"] += 1
            self.close()
            return
        # By the end of an exchange, whenever it began: under a steady load as many are cut off at
        # one end of the window as come in at the other.
        counted = counters.window.start_s <= now_s < counters.window.end_s
        if counted:
            counters.events += reply.events - events_before
        if self._first_s is None and reply.body_bytes:
            self._first_s = now_s - self._due_s
            if counted:
                counters.first_s.append(self._first_s)
        if reply.done:
            self._check(reply)
            if counted:
                counters.requests += 1
                counters.total_s.append(now_s - self._due_s)
            self._on_idle(self)

    def _check(self, reply: ReplyReader) -> None:
        expected, errors = self._job.expected, self._counters.errors
        if reply.status != 200:
            errors[f"status {reply.status}"] += 1
        elif expected.body_bytes is not None and reply.body_bytes != expected.body_bytes:
            errors["body length"] += 1
        elif expected.min_events is None:
            errors.update(["body"] if expected.text not in reply.body else [])
        elif reply.events < expected.min_events or reply.events != (
            expected.events or reply.events
        ):
            errors["number of events"] += 1
        elif not reply.saw_done:
            errors["no [DONE]"] += 1


class OpenLoop:
    """Sends each request when it falls due, on an idle connection or the first that becomes idle.

    rate: requests/s of the Poisson process.
    """

    def __init__(self, rate: float, seed: int) -> None:
        self._rate, self._random = rate, Random(seed)
        self._idle: list[LoadConnection] = []
        self._overdue: deque[float] = deque()  # due times of requests that wait for a connection
        self._due_s = 0.0

    def on_idle(self, connection: LoadConnection) -> None:
        """A connection can send again."""
        if self._overdue:
            connection.send(self._overdue.popleft())
        else:
            self._idle.append(connection)

    async def run(self, connections: list[LoadConnection], end_s: float) -> None:
        """Send from now until `end_s`."""
        self._idle = list(connections)
        self._due_s = time.monotonic()
        with Timer(lambda: self._send_due(timer)) as timer:
            self._send_due(timer)
            await asyncio.sleep(max(0.0, end_s - time.monotonic()))

    def _send_due(self, timer: Timer) -> None:
        now_s = time.monotonic()
        while self._due_s <= now_s:
            if self._idle:
                self._idle.pop().send(self._due_s)
            else:
                self._overdue.append(self._due_s)
            self._due_s += self._random.expovariate(self._rate)
        timer.set(self._due_s)


async def run_load(job: Job, ready: Callable[[], Window]) -> LoadResult:
    """Run a job to its end. Connections that cannot be made are errors, not exceptions.

    ready: returns the window; called when all connections are made. It may block.
    """
    counters = LoadCounters()
    open_loop = OpenLoop(job.rate, job.seed) if job.rate else None
    connections = await _connect(job, counters, open_loop.on_idle if open_loop else _send_now)
    counters.window = ready()
    if open_loop:
        await open_loop.run(connections, counters.window.end_s)
    else:
        _ramp_up(connections, max(0.0, counters.window.ramp_end_s - time.monotonic()))
        await asyncio.sleep(max(0.0, counters.window.end_s - time.monotonic()))
    if job.expected.streamed:
        silent = sum((c.last_read_s or 0.0) < counters.window.ramp_end_s for c in connections)
        counters.errors.update({"silent stream": silent} if silent else {})
    for connection in connections:
        connection.close()
    return LoadResult(
        requests=counters.requests,
        events=counters.events,
        first_s=thin(counters.first_s),
        total_s=thin(counters.total_s),
        errors=dict(counters.errors),
    )


def _send_now(connection: LoadConnection) -> None:
    """Close the loop: send the next request on the same connection at once.

    A proxy that leaves Nagle's algorithm on towards its clients pays the client's delayed ACK on a
    re-used connection only (SGLang's router: 44 ms, docs/performance.md). On a new one it would not
    show.
    """
    connection.send(time.monotonic())


def _ramp_up(connections: list[LoadConnection], over_s: float) -> None:
    """Spread the first requests evenly: streams started together send every chunk together."""
    loop = asyncio.get_running_loop()
    for index, connection in enumerate(connections):
        loop.call_later(over_s * index / len(connections), _send_now, connection)


async def _connect(
    job: Job, counters: LoadCounters, on_idle: Callable[[LoadConnection], None]
) -> list[LoadConnection]:
    """Make the job's connections, `CONNECTING` at a time, within `CONNECT_S`."""
    loop = asyncio.get_running_loop()
    connections: list[LoadConnection] = []
    missing = job.connections
    tls = trusting() if job.tls else None

    async def connect() -> None:
        nonlocal missing
        while missing > 0:
            missing -= 1
            _, connection = await loop.create_connection(
                lambda: LoadConnection(job, counters, on_idle), "127.0.0.1", job.port, ssl=tls
            )
            connections.append(connection)

    with suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(
                *(connect() for _ in range(min(CONNECTING, job.connections))),
                return_exceptions=True,
            )
    if len(connections) < job.connections:
        counters.errors["not connected"] += job.connections - len(connections)
    return connections


def trusting() -> ssl.SSLContext:
    """TLS with whoever answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def main() -> None:
    """One job, as the module's docstring says."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)

    def ready() -> Window:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        return msgspec.json.decode(sys.stdin.buffer.readline(), type=Window)

    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run_load(job, ready))))


def thin(values: list[float]) -> list[float]:
    """At most SAMPLES evenly spaced order statistics, the least and the largest among them."""
    ordered, last = sorted(values), len(values) - 1
    if len(ordered) <= SAMPLES:
        return ordered
    return [ordered[round(rank * last / (SAMPLES - 1))] for rank in range(SAMPLES)]


if __name__ == "__main__":
    main()

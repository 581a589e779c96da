"""The traffic of the overhead benchmark: its scenarios, and the request that each sends. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from loadtest.overhead import mock
from loadtest.replay import prompt

KIB = 1024
KEY = "sk-overhead"  # that every request shows
OPEN_CONNECTIONS = 64  # of an open loop: enough that none waits for another below saturation
CHUNKS_PER_S = 20_000  # of all streams together, unless an interval is asked for
MIN_INTERVAL_S = 0.02
STARTS_PER_S = 500  # streams begin at twice this rate in the first half of the warm-up
PROXY_FILES = 2  # sockets per stream: one to the client, one to the backend
SPARE_FILES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of traffic: a closed loop, an open loop (rate or load), or paced streams.

    rate: requests/s. load: the rate as a share of what the set-up did in its busiest closed loop.
    interval_s: between the chunks of a stream. chunks: per stream.
    """

    name: str
    connections: int
    body_bytes: int
    rate: float | None = None
    load: float | None = None
    interval_s: float | None = None
    chunks: int = 0

    @property
    def streamed(self) -> bool:
        return self.interval_s is not None

    @property
    def closed(self) -> bool:
        return not (self.streamed or self.rate or self.load)

    @property
    def saturating(self) -> bool:
        """Whether a core is to be at its limit. One connection waits more than it works."""
        return self.closed and self.connections > 1

    @property
    def unit(self) -> str:
        return "chunk" if self.streamed else "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadOptions:
    """What to compare, how long and how hard.

    peers: names, `None` for all that are installed. parts: of `front_door`, each of which a further
    gateway has turned on. loads: shares of each set-up's best rate.
    interval_s: between two chunks of a stream; `None`: by the number of streams, so that all
    streams together send `CHUNKS_PER_S` at most.
    """

    peers: tuple[str, ...] | None = None
    parts: tuple[str, ...] = ()
    rounds: int = 3
    warmup_s: float = 1.0
    window_s: float = 2.0
    workers: int = 1
    body_kib: tuple[int, ...] = (1,)
    connections: tuple[int, ...] = (1, 64)
    rates: tuple[float, ...] = (2000.0,)
    loads: tuple[float, ...] = (0.5,)
    streams: tuple[int, ...] = (100,)
    chunks: int = 100
    interval_s: float | None = None

    def scenarios(self) -> tuple[Scenario, ...]:
        """Streams, closed loops of each size and width, then open loops of the first size.

        Streams come first, while a proxy's memory holds nothing else: allocators keep what larger
        traffic made them take. Open loops come last, because some are a share of what a closed loop
        did.
        """
        return (*map(self._streams, self.streams), *self._closed_loops(), *self._open_loops())

    def warmup_of(self, scenario: Scenario) -> float:
        """Seconds of warm-up: longer where many streams have to begin, one after another."""
        ramp_s = scenario.connections / STARTS_PER_S if scenario.streamed else 0.0
        return max(self.warmup_s, ramp_s)

    def _closed_loops(self) -> Iterator[Scenario]:
        for size in self.body_kib:
            for connections in self.connections:
                name = f"{size} KiB × {connections}"
                yield Scenario(name=name, connections=connections, body_bytes=size * KIB)

    def _open_loops(self) -> Iterator[Scenario]:
        size = self.body_kib[0]
        fixed = {"connections": OPEN_CONNECTIONS, "body_bytes": size * KIB}
        for rate in self.rates:
            yield Scenario(name=f"{size} KiB at {rate:g}/s", rate=rate, **fixed)
        for load in self.loads if self.connections else ():
            yield Scenario(name=f"{size} KiB at {load:.0%} load", load=load, **fixed)

    def _streams(self, streams: int) -> Scenario:
        interval_s = self.interval_s or max(MIN_INTERVAL_S, streams / CHUNKS_PER_S)
        return Scenario(
            name=f"{streams} streams × {1e3 * interval_s:g} ms",
            connections=streams,
            body_bytes=self.body_kib[0] * KIB,
            interval_s=interval_s,
            chunks=self.chunks,
        )


def fits(scenario: Scenario, files: int) -> bool:
    """Whether a proxy that may open so many files can carry the scenario."""
    return PROXY_FILES * scenario.connections + SPARE_FILES <= files


def request(scenario: Scenario) -> bytes:
    """The HTTP request of a scenario: a chat body of exactly its size.

    The mock reads `max_tokens` as the chunks of a stream and `seed` as the milliseconds between
    them: fields that every proxy passes on.
    """
    fields: dict[str, object] = {"model": mock.MODEL, "temperature": 0.7}
    if scenario.interval_s is None:
        fields |= {"max_tokens": 256}
    else:
        spec = {"max_tokens": scenario.chunks, "seed": round(1e3 * scenario.interval_s)}
        fields |= spec | {"stream": True, "stream_options": {"include_usage": True}}
    head = msgspec.json.encode(fields)[:-1] + b',"messages":[{"role":"user","content":"'
    tail = b'"}]}'
    text = prompt.build_corpus(scenario.body_bytes).prompt(scenario.body_bytes, 0)
    body = head + text[: scenario.body_bytes - len(head) - len(tail)] + tail
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (KEY.encode(), len(body), body)
    )


def split_evenly(connections: int, processes: int) -> tuple[int, ...]:
    """Split connections over processes as evenly as possible; no process has none."""
    least, rest = divmod(connections, processes)
    sizes = (least + (number < rest) for number in range(processes))
    return tuple(size for size in sizes if size)

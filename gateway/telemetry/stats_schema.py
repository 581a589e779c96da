"""The statistics of the data plane as values: sums since the last drain, and gauges.

Sums of several workers are merged by addition. They are not in `stats` because mypyc cannot compile
a `msgspec.Struct`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from gateway.telemetry.seen_request import SeenRequest
from gateway.telemetry.traced_request import TracedRequest
from planner.traffic.gateway_trace import ServedRequest
from planner.traffic.size_histogram import CellSum, merge_sums

Bounds = tuple[float, ...]  # of a fixed length, compiled code would unpack all at each use

# Seconds; denser where SLOs usually lie.
TTFT_S: Bounds = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
TPOT_S: Bounds = (
    0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.25, 0.5
)  # fmt: skip
REQUEST_S: Bounds = (
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0
)  # fmt: skip
# Estimated over actual tokens of a prompt.
RATIO: Bounds = (0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)
LAG_S: Bounds = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)  # lateness of timers

MOST_SEEN = 512  # requests, of workers whose sums nobody has taken yet
MOST_SPANS = 2048  # traced requests, of one worker and of all whose sums nobody has taken yet
MOST_TRACED = 32  # of them, the last ones, which are examples of their latencies
Hits = tuple[int, int]  # prompt tokens, and how many of them were prefix hits
# Requests, input tokens, output tokens, and seconds of a backend: of the time that a request was in
# one, its share of the sequences there.
Use = tuple[int, int, int, float]
# Pool and backend; seconds from the placement of a request to its last token; requests in flight
# there meanwhile; its input tokens, how many of them were prefix hits, and its output tokens.
Stay = tuple[str, str, float, float, int, int, int]

Key = TypeVar("Key")
UNUSED: Use = (0, 0, 0, 0.0)


def add_counts(counts: dict[Key, int], others: Mapping[Key, int]) -> None:
    """Add numbers by key to those that there are."""
    for key, count in others.items():
        counts[key] = counts.get(key, 0) + count


def add_uses(one: Use, other: Use) -> Use:
    """The sum of both."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


class Histogram(msgspec.Struct):
    """A histogram of durations, or of ratios. counts: one for each bound, and one for values above
    the last bound. seconds: the sum of all values."""

    counts: list[int]
    seconds: float = 0.0

    @classmethod
    def none(cls, bounds: Sequence[float]) -> "Histogram":
        """No value yet."""
        return cls(counts=[0] * (len(bounds) + 1))

    def add(self, other: "Histogram") -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


class PoolStats(msgspec.Struct):
    """The requests of one SLO class of a model in one pool; pool `""`: those never routed.

    ends: numbers of requests by outcome, status, whether the promise was kept (as `Observation.met`
    says) and the router's decision, empty if there was none: one step for each request. ttft, tpot,
    duration, waited: seconds; the third of whole answers, the last of those that had to wait for
    their turn. sheds: numbers of refused requests by reason. input_tokens, output_tokens: as the
    engines reported. input_estimate, output_estimate: estimated over actual tokens, of prompts and
    of single answers. retries: attempts beyond the first of each request. cached_tokens: of the
    input, that engines had computed for earlier requests.
    """

    ends: dict[tuple[str, int, str, str], int]
    ttft: Histogram
    tpot: Histogram
    duration: Histogram
    waited: Histogram
    sheds: dict[str, int]
    input_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0
    cached_tokens: int = 0
    input_estimate: Histogram = msgspec.field(default_factory=lambda: Histogram.none(RATIO))
    output_estimate: Histogram = msgspec.field(default_factory=lambda: Histogram.none(RATIO))

    @classmethod
    def none(cls) -> "PoolStats":
        """No request yet."""
        ttft, tpot, duration, waited = map(Histogram.none, (TTFT_S, TPOT_S, REQUEST_S, REQUEST_S))
        return cls(ends={}, ttft=ttft, tpot=tpot, duration=duration, waited=waited, sheds={})

    def add(self, other: "PoolStats") -> None:
        """Merge by addition."""
        add_counts(self.ends, other.ends)
        add_counts(self.sheds, other.sheds)
        self.waited.add(other.waited)
        self.ttft.add(other.ttft)
        self.tpot.add(other.tpot)
        self.duration.add(other.duration)
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.retries += other.retries
        self.cached_tokens += other.cached_tokens
        self.input_estimate.add(other.input_estimate)
        self.output_estimate.add(other.output_estimate)


class StatsDelta(msgspec.Struct):
    """The sums since the last drain.

    arrivals: number of requests by bucket. sizes: number of requests and their tokens, by bucket
    and by fine cell of the actual size. by_pool: by model, SLO class and pool.
    refusals: requests without a bucket that were answered with an error, by status and reason.
    failures: requests that a backend failed, by its name and the kind of failure. ejections: those
    after which it got no more requests for a while. lag: of the event loop, seconds. hits: by
    caller and pool, since an engine first reported one. uses: by caller, model and pool, of what
    was routed. stays: of a sample of the requests that
    ended well at the first backend that they were sent to. served: all that ended, where a trace is
    written; unrecorded: how many were too many for it. seen: a few of the last requests and of the
    slowest ones. spans: of each traced request, as they are to be sent; untold: how many were too
    many for it. traced: the last of them.
    """

    arrivals: dict[int, int] = {}
    sizes: dict[tuple[int, int], CellSum] = {}
    by_pool: dict[tuple[str, str, str], PoolStats] = {}
    refusals: dict[tuple[int, str], int] = {}
    failures: dict[tuple[str, str], int] = {}
    ejections: dict[tuple[str, str], int] = {}
    lag: Histogram = msgspec.field(default_factory=lambda: Histogram.none(LAG_S))
    hits: dict[tuple[str, str], Hits] = {}
    uses: dict[tuple[str, str, str], Use] = {}
    stays: list[Stay] = []
    served: list[ServedRequest] = []
    unrecorded: int = 0
    seen: list[SeenRequest] = []
    spans: list[bytes] = []
    untold: int = 0
    traced: list[TracedRequest] = []

    def forget_buckets(self) -> None:
        """Drop what is counted by bucket: the numbers of the buckets have changed since."""
        self.arrivals, self.sizes, self.seen = {}, {}, []

    def add(self, other: "StatsDelta") -> None:
        """Merge by addition."""
        add_counts(self.arrivals, other.arrivals)
        self.sizes = merge_sums(self.sizes, other.sizes)
        for name, pool_stats in other.by_pool.items():
            self.by_pool.setdefault(name, PoolStats.none()).add(pool_stats)
        add_counts(self.refusals, other.refusals)
        add_counts(self.failures, other.failures)
        add_counts(self.ejections, other.ejections)
        self.lag.add(other.lag)
        for key, (inputs, cached) in other.hits.items():
            before = self.hits.get(key, (0, 0))
            self.hits[key] = (before[0] + inputs, before[1] + cached)
        for used, use in other.uses.items():
            self.uses[used] = add_uses(self.uses.get(used, UNUSED), use)
        self.stays.extend(other.stays)
        self.served.extend(other.served)
        self.unrecorded += other.unrecorded
        self.seen = (self.seen + other.seen)[-MOST_SEEN:]
        room = max(0, MOST_SPANS - len(self.spans))
        self.spans += other.spans[:room]
        self.untold += other.untold + len(other.spans[room:])
        self.traced = (self.traced + other.traced)[-MOST_TRACED:]


class ProcessUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one process uses. cpu_s: CPU time in all, seconds. started_at_s: Unix time."""

    cpu_s: float
    resident_bytes: int
    open_files: int
    started_at_s: float


class WorkerGauges(msgspec.Struct, frozen=True):
    """The state of one worker at this moment.

    queued: requests that wait for their turn, and queued_tokens: theirs. connections: open
    connections of clients. retry_budget: retries that the worker may still make now. breakers_open:
    backends that answer probes but get no requests, because requests failed there. resting: names
    of those whose breaker is open or half-open. backend_connections: open connections to backends.
    evicted: connections of clients closed to make room, since the worker's start. log_dropped:
    lines of its log that were dropped since then.
    """

    queued: int
    connections: int
    retry_budget: float
    breakers_open: int
    resting: tuple[str, ...] = ()
    backend_connections: int = 0
    evicted: int = 0
    log_dropped: int = 0
    queued_tokens: int = 0

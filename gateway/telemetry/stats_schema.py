"""The statistics of the data plane as values: sums since the last drain, and gauges.

Sums of several workers are merged by addition. They are not in `stats` because mypyc cannot compile
a `msgspec.Struct`.
"""

import msgspec

from planner.traffic.size_histogram import CellSum, merge_sums

# Bounds of the histograms, seconds: denser where SLOs usually lie.
TTFT_S = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
TPOT_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.25, 0.5)


class Histogram(msgspec.Struct):
    """A histogram of durations. counts: one for each bound, and one for values above the last
    bound. seconds: the sum of all values."""

    counts: list[int]
    seconds: float = 0.0

    def add(self, other: "Histogram") -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


class PoolStats(msgspec.Struct):
    """The requests of one model in one pool; pool `""`: requests that were never routed.

    outcomes, decisions: numbers of requests by name. ttft, tpot: seconds. input_tokens,
    output_tokens: as the engines reported. retries: attempts beyond the first of each request.
    """

    outcomes: dict[str, int]
    decisions: dict[str, int]
    ttft: Histogram
    tpot: Histogram
    input_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0

    @classmethod
    def none(cls) -> "PoolStats":
        """No request yet."""
        ttft, tpot = (Histogram(counts=[0] * (len(bounds) + 1)) for bounds in (TTFT_S, TPOT_S))
        return cls(outcomes={}, decisions={}, ttft=ttft, tpot=tpot)

    def add(self, other: "PoolStats") -> None:
        """Merge by addition."""
        for mine, theirs in (
            (self.outcomes, other.outcomes),
            (self.decisions, other.decisions),
        ):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        self.ttft.add(other.ttft)
        self.tpot.add(other.tpot)
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.retries += other.retries


class StatsDelta(msgspec.Struct):
    """The sums since the last drain.

    arrivals: number of requests by bucket. sizes: number of requests, their input and output
    tokens, by bucket and by fine cell of the actual size. by_pool: by model and pool.
    """

    arrivals: dict[int, int] = {}
    sizes: dict[tuple[int, int], CellSum] = {}
    by_pool: dict[tuple[str, str], PoolStats] = {}

    def forget_buckets(self) -> None:
        """Drop what is counted by bucket: the numbers of the buckets have changed since."""
        self.arrivals, self.sizes = {}, {}

    def add(self, other: "StatsDelta") -> None:
        """Merge by addition."""
        for bucket, count in other.arrivals.items():
            self.arrivals[bucket] = self.arrivals.get(bucket, 0) + count
        self.sizes = merge_sums(self.sizes, other.sizes)
        for name, pool_stats in other.by_pool.items():
            self.by_pool.setdefault(name, PoolStats.none()).add(pool_stats)


class WorkerGauges(msgspec.Struct, frozen=True):
    """The state of one worker at this moment.

    queued: requests that wait for a backend. connections: open connections of clients.
    retry_budget: retries that the worker may still make now. breakers_open: backends that answer
    probes but get no requests, because requests failed there.
    """

    queued: int
    connections: int
    retry_budget: float
    breakers_open: int

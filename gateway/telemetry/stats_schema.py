"""What happened on the data plane, as sums. Values: merged by addition, sent between processes."""

import msgspec

from planner.traffic.size_histogram import CellSum, merge_sums

TTFT_S = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
TPOT_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.25, 0.5)


class Histogram(msgspec.Struct):
    """A histogram of seconds. counts: one per bound, and one for what is above the last."""

    counts: list[int]
    seconds: float = 0.0

    def add(self, other: "Histogram") -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


class PoolStats(msgspec.Struct):
    """The requests of one model in one pool (`""`: in none). outcomes, decisions: by name."""

    outcomes: dict[str, int]
    decisions: dict[str, int]
    ttft: Histogram
    tpot: Histogram
    input_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0

    @classmethod
    def none(cls) -> "PoolStats":
        ttft, tpot = (Histogram(counts=[0] * (len(bounds) + 1)) for bounds in (TTFT_S, TPOT_S))
        return cls(outcomes={}, decisions={}, ttft=ttft, tpot=tpot)

    def add(self, other: "PoolStats") -> None:
        """Merges by addition."""
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
    """What a tally has summed up.

    arrivals: requests by bucket. sizes: requests and their tokens by bucket and fine cell of the
    actual size. flows: by model and pool.
    """

    arrivals: dict[int, int] = {}
    sizes: dict[tuple[int, int], CellSum] = {}
    by_pool: dict[tuple[str, str], PoolStats] = {}

    def add(self, other: "StatsDelta") -> None:
        """Merges by addition."""
        for bucket, count in other.arrivals.items():
            self.arrivals[bucket] = self.arrivals.get(bucket, 0) + count
        self.sizes = merge_sums(self.sizes, other.sizes)
        for name, pool_stats in other.by_pool.items():
            self.by_pool.setdefault(name, PoolStats.none()).add(pool_stats)

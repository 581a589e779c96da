"""The demand as observed: arrivals by bucket, and the actual sizes in each bucket. No I/O, no
clock.

Arrivals are counted in ticks and averaged over a window. The actual sizes of finished requests fade
with a half-life instead, so that a bucket with few requests keeps its sizes. Each request adds to a
few sums. That nothing came is told from that it could not be observed: because workers do not
report, or no backend is ready so that balancers send nothing.
"""

from array import array
from collections import deque
from collections.abc import Mapping
from math import ceil

import numpy as np

from gateway.telemetry.stats_schema import StatsDelta
from planner.model.buckets import Buckets
from planner.model.demand import Demand
from planner.sizes import FloatArray
from planner.traffic.size_histogram import (
    NOTHING,
    CellSum,
    add_cells,
    demand_from_sums,
    fine_cell,
)

TICK_S = 5.0  # arrivals are counted in ticks of this length
COUNT_TICKS = 2  # dispersion is that of counts in 10 s, about the time a request stays in an engine
PRIOR_WINDOWS = (
    10.0  # windows after which the measured dispersion weighs as much as the assumed one
)
# Older sizes fade because newer ones get a growing weight; above RESCALE all are divided by it,
# long before a sum loses digits.
RESCALE = 1e12
# The loop that takes what was counted comes several times a second: where it has not come for so
# long, the machine stood still.
UNHEARD_S = 10.0
MOST_HALVINGS = 100.0  # in one step: nothing older counts then, and the weight stays finite


class ObservedDemand:
    """The demand of one gateway; outlives every plan. Times are seconds on one monotonic clock."""

    def __init__(
        self, buckets: Buckets, *, window_s: float, memory_s: float, dispersion: float, now_s: float
    ) -> None:
        """window_s: seconds over which rates are averaged. memory_s: half-life of the actual sizes.
        dispersion: assumed until enough windows were counted."""
        self._buckets = buckets
        self._ticks = max(2, round(window_s / TICK_S))
        self._halvings = TICK_S / memory_s
        self._dispersion = dispersion
        self._start_s = now_s
        self._blind_s = self._heard_s = now_s  # when something was not observed last; and when was
        self._tick = 0
        self._weight = 1.0
        self._counts = deque([self._none()])
        self._sums: dict[tuple[int, int], CellSum] = {}

    def __repr__(self) -> str:
        return f"<ObservedDemand {self.requests} requests, {len(self._sums)} cells>"

    def carried(
        self, buckets: Buckets, *, window_s: float, memory_s: float, dispersion: float, now_s: float
    ) -> "ObservedDemand":
        """What was observed, under another configuration: what a class keeps whose model, name and
        grid stay. Everything else begins anew."""
        same_grid = buckets.grid == self._buckets.grid
        other = ObservedDemand(
            buckets,
            window_s=window_s,
            memory_s=memory_s,
            dispersion=dispersion,
            now_s=self._start_s if same_grid else now_s,
        )
        if not same_grid:
            return other
        numbers = self._numbers_in(buckets)
        other._tick, other._weight = self._tick, self._weight
        other._blind_s = max(self._blind_s, now_s - self._ticks * TICK_S)
        other._heard_s = self._heard_s
        other._counts.clear()
        for counts in tuple(self._counts)[-other._ticks :]:
            other._counts.append(other._none())
            for old, new in numbers.items():
                other._counts[-1][new] = counts[old]
        other._sums = {
            (numbers[b], fine): sums for (b, fine), sums in self._sums.items() if b in numbers
        }
        return other

    def _numbers_in(self, buckets: Buckets) -> dict[int, int]:
        """The numbers that buckets of the same grid have there, by the numbers that they have
        here."""
        cells = buckets.grid.cells
        there = {(c.model, c.name): index for index, c in enumerate(buckets.classes)}
        return {
            here * cells + n: there[c.model, c.name] * cells + n
            for here, c in enumerate(self._buckets.classes)
            if (c.model, c.name) in there
            for n in range(cells)
        }

    @property
    def nothing(self) -> bool:
        """Whether no size is known."""
        return not self._sums

    @property
    def requests(self) -> int:
        """Arrivals in the window."""
        return sum(map(sum, self._counts))

    def arrive(self, bucket: int, now_s: float, count: int = 1) -> None:
        """Count requests of a bucket at their arrival, whatever becomes of them."""
        self._roll(now_s)
        self._counts[-1][bucket] += count

    def complete(
        self, bucket: int, input_tokens: int, output_tokens: int, cached_tokens: int = 0
    ) -> None:
        """Add the actual size of a finished request to its bucket. cached_tokens: of the input,
        that were prefix hits."""
        key = bucket, fine_cell(input_tokens, output_tokens)
        self._sized(key, (1.0, input_tokens, output_tokens, cached_tokens), self._weight)

    def add(self, delta: StatsDelta, now_s: float, *, seen: float = 1.0) -> None:
        """Add what was reported. seen: the share of the workers that report and may get requests.

        Where nothing could be seen, time stands still: rates and sizes stay what they were.
        """
        since_s, self._heard_s = now_s - self._heard_s, now_s
        if since_s > UNHEARD_S:
            seen = 0.0
        if seen < 1.0:
            self._blind_s = now_s
        if not seen and not delta.arrivals:
            self._start_s += since_s
        self._roll(now_s)
        for bucket, count in delta.arrivals.items():
            self.arrive(bucket, now_s, count)
        for key, entry in delta.sizes.items():
            self._sized(key, entry, self._weight)

    def _sized(self, key: tuple[int, int], entry: CellSum, weight: float) -> None:
        self._sums[key] = add_cells(self._sums.get(key, NOTHING), entry, weight)

    def remember(self, demand: Demand, seconds: float) -> None:
        """Add the sizes of earlier traffic of this many seconds, as if it had just been
        observed."""
        counts = demand.rate[demand.bucket] * demand.share * seconds
        sizes = demand.input_tokens, demand.output_tokens, demand.input_tokens * demand.cached_share
        for bucket, inputs, outputs, cached, count in zip(
            demand.bucket, *sizes, counts, strict=True
        ):
            key = int(bucket), fine_cell(int(inputs), int(outputs))
            entry = (1.0, float(inputs), float(outputs), float(cached))
            self._sized(key, entry, float(count) * self._weight)

    @property
    def sizes(self) -> dict[tuple[int, int], CellSum]:
        """All that is remembered of actual sizes, as if it had just been observed."""
        return {key: add_cells(NOTHING, sums, 1 / self._weight) for key, sums in self._sums.items()}

    def recall(self, sizes: Mapping[tuple[int, int], CellSum]) -> None:
        """Add sizes that another gateway remembers."""
        for key, entry in sizes.items():
            if key[0] < self._buckets.count:
                self._sized(key, entry, self._weight)

    def watched_s(self, now_s: float) -> float:
        """For how long all arrivals have been observed until now, seconds."""
        if now_s - self._heard_s > UNHEARD_S:
            return 0.0
        return max(0.0, now_s - self._blind_s)

    def recent(self, now_s: float, seconds: float) -> FloatArray:
        """(B,) requests/s of the last seconds, as many of them as the window has."""
        self._roll(now_s)
        ticks = min(len(self._counts), max(2, ceil(seconds / TICK_S)))
        counts = np.array(list(self._counts)[-ticks:], dtype=float)
        since_s = now_s - (self._start_s + (self._tick - ticks + 1) * TICK_S)
        rate: FloatArray = counts.sum(axis=0) / max(since_s, TICK_S)
        return rate

    def at(self, rate: FloatArray, now_s: float) -> Demand:
        """The demand at other rates, (B,) requests/s, with the sizes that are remembered."""
        self._roll(now_s)
        counts = np.array(self._counts, dtype=float)
        return demand_from_sums(self._buckets, rate, self._sums, self._dispersions(counts))

    def snapshot(self, now_s: float) -> Demand:
        """The demand at this moment."""
        self._roll(now_s)
        counts = np.array(self._counts, dtype=float)
        oldest_s = self._start_s + (self._tick - len(self._counts) + 1) * TICK_S
        elapsed_s = max(now_s - oldest_s, TICK_S)
        return demand_from_sums(
            self._buckets, counts.sum(axis=0) / elapsed_s, self._sums, self._dispersions(counts)
        )

    def faded(self, now_s: float, least: float) -> Demand | None:
        """The demand of traffic that faded: the mix of sizes that is remembered, at the rate of the
        window. `None` if the window was not observed from its beginning to its end, or if fewer
        than `least` requests are remembered, by their age.

        One request more than came is counted, so that nothing is never taken for a rate of zero:
        what comes next needs a backend of its model.
        """
        window_s = self._ticks * TICK_S
        if now_s - self._blind_s < window_s or now_s - self._heard_s > UNHEARD_S:
            return None
        self._roll(now_s)
        remembered = np.zeros(self._buckets.count)
        for (bucket, _), (count, *_) in self._sums.items():
            remembered[bucket] += count / self._weight
        total = float(remembered.sum())
        if total < least:
            return None
        counts = np.array(self._counts, dtype=float)
        rate = remembered / total * (counts.sum() + 1) / window_s
        return demand_from_sums(self._buckets, rate, self._sums, self._dispersions(counts))

    def _dispersions(self, counts: np.ndarray) -> tuple[float, ...]:
        """(C,) variance / mean of the counts in whole windows, shrunk towards the assumed
        dispersion."""
        whole = counts[:-1]  # without the last tick, which is not over
        windows = len(whole) // COUNT_TICKS
        if windows < 2:
            return (self._dispersion,) * len(self._buckets.classes)
        paired = whole[len(whole) - windows * COUNT_TICKS :]
        shape = windows, COUNT_TICKS, len(self._buckets.classes), self._buckets.grid.cells
        per_class = paired.reshape(shape).sum(axis=(1, 3))
        mean = per_class.mean(axis=0)
        measured = np.where(mean > 0, per_class.var(axis=0, ddof=1) / np.maximum(mean, 1e-9), 0.0)
        share = np.where(mean > 0, windows / (windows + PRIOR_WINDOWS), 0.0)
        blended = share * measured + (1 - share) * self._dispersion
        return tuple(float(max(1.0, value)) for value in blended)

    def _none(self) -> "array[int]":
        """(B,) zeros, as an array, which NumPy reads at once."""
        return array("q", bytes(8 * self._buckets.count))

    def _roll(self, now_s: float) -> None:
        """Start the tick that `now_s` lies in, and drop the ticks that left the window."""
        tick = int((now_s - self._start_s) // TICK_S)
        gone = tick - self._tick
        if gone <= 0:
            return
        for _ in range(min(gone, self._ticks)):
            self._counts.append(self._none())
            if len(self._counts) > self._ticks:
                self._counts.popleft()
        self._tick = tick
        self._weight *= 2 ** min(gone * self._halvings, MOST_HALVINGS)
        if self._weight > RESCALE:
            self._sums = {
                key: add_cells(NOTHING, sums, 1 / self._weight)
                for key, sums in self._sums.items()
                if sums[0] / self._weight > 1e-6
            }
            self._weight = 1.0

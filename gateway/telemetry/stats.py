"""Counts what happens in one process: requests, tokens, latencies and sizes, as sums.

A request costs a few dictionary steps. Metrics and demand are made from the sums beside the data
path, in the process that plans.
"""

from math import inf
from typing import Any, Final

from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.telemetry.stats_schema import (
    LAG_S,
    REQUEST_S,
    TPOT_S,
    TTFT_S,
    Histogram,
    PoolStats,
    StatsDelta,
)
from planner.cells import cell
from planner.model.buckets import BEST_EFFORT, Buckets
from planner.traffic.size_histogram import FINE

OK: Final = Outcome.OK
SHED: Final = Outcome.SHED
UNPROMISED: Final = BEST_EFFORT
# Of a request whose model left the configuration under it: name, TTFT and TPOT.
UNKNOWN_CLASS: Final = ("", inf, inf)
FINE_EDGES: Final = FINE.input_edges  # on both axes


class Stats:
    """The sums of one process since the last drain."""

    def __init__(self, buckets: Buckets) -> None:
        self._delta = StatsDelta()
        self.configure(buckets)

    def configure(self, buckets: Buckets) -> None:
        """Count by these buckets from now on; `drain` first."""
        self._cells = buckets.grid.cells
        # Name, TTFT and TPOT of each SLO class.
        self._promises = [(c.name, c.slo.ttft_s, c.slo.tpot_s) for c in buckets.classes]

    def __repr__(self) -> str:
        return f"<Stats of {sum(self._delta.arrivals.values())} arrivals>"

    def drain(self) -> StatsDelta:
        """Return the sums since the last drain, and start again from zero."""
        delta, self._delta = self._delta, StatsDelta()
        return delta

    def arrived(self, bucket: int) -> None:
        """Count a request at its arrival, whatever becomes of it."""
        arrivals = self._delta.arrivals
        arrivals[bucket] = arrivals.get(bucket, 0) + 1

    def refused(self, status: int, reason: str) -> None:
        """Count a request without a bucket that was answered with an error. reason: the error's
        code, or its type if it has no code."""
        _count(self._delta.refusals, (status, reason))

    def failed(self, backend: str, kind: str, rests: bool) -> None:
        """Count a request that a backend failed. rests: whether it gets no more requests for a
        while because of this one."""
        _count(self._delta.failures, (backend, kind))
        if rests:
            _count(self._delta.ejections, (backend, kind))

    def lagged(self, seconds: float) -> None:
        """Count how late a timer was: for so long the event loop did something else."""
        _observe_seconds(self._delta.lag, LAG_S, max(0.0, seconds))

    def observed(self, o: Observation) -> None:
        """Count a request at its end."""
        slo_class, ttft_target_s, tpot_target_s = UNKNOWN_CLASS
        if o.bucket != NO_BUCKET:
            slo_class, ttft_target_s, tpot_target_s = self._promises[o.bucket // self._cells]
        promised = o.slo_class != UNPROMISED
        if not promised:
            slo_class = UNPROMISED
        by_pool, key = self._delta.by_pool, (o.model, slo_class, o.pool or "")
        pool_stats = by_pool.get(key)
        if pool_stats is None:
            pool_stats = by_pool[key] = PoolStats.none()
        outcome, decision, ttft_s, tpot_s = o.outcome, o.decision, o.ttft_s, o.tpot_s
        inputs, outputs, retries = o.input_tokens, o.output_tokens, o.retries
        met = o.met(ttft_target_s, tpot_target_s) if promised else ""
        # The text of the outcome: the hash of a member of an enum is computed by Python code.
        ends, end = pool_stats.ends, (outcome._value_, o.status, met, decision or "")
        ends[end] = ends.get(end, 0) + 1
        if o.waited_s is not None:
            _observe_seconds(pool_stats.waited, REQUEST_S, o.waited_s)
        if outcome is SHED:
            _count(pool_stats.sheds, o.reason or "")
        if retries:
            pool_stats.retries += retries
        if inputs is not None:
            pool_stats.input_tokens += inputs
        if outputs is not None:
            pool_stats.output_tokens += outputs
        if ttft_s is not None:
            _observe_seconds(pool_stats.ttft, TTFT_S, ttft_s)
        if tpot_s is not None:
            _observe_seconds(pool_stats.tpot, TPOT_S, tpot_s)
        if outcome is OK:
            _observe_seconds(pool_stats.duration, REQUEST_S, o.duration_s)
        if outcome is OK and promised and o.bucket != NO_BUCKET:
            self._sized(o.bucket, inputs or o.estimated_input, outputs or 1)

    def _sized(self, bucket: int, inputs: int, outputs: int) -> None:
        sizes, key = self._delta.sizes, (bucket, cell(FINE_EDGES, FINE_EDGES, inputs, outputs))
        sums = sizes.get(key)
        if sums is None:
            sizes[key] = (1.0, float(inputs), float(outputs))
        else:
            count, sum_in, sum_out = sums
            sizes[key] = (count + 1.0, sum_in + inputs, sum_out + outputs)


def _count(counts: dict[Any, int], key: Any) -> None:
    counts[key] = counts.get(key, 0) + 1


def _observe_seconds(histogram: Histogram, bounds: tuple[float, ...], seconds: float) -> None:
    low, high = 0, len(bounds)
    # As `bisect_left`; compiled, this loop costs a third of a call of it.
    while low < high:
        middle = (low + high) >> 1
        if bounds[middle] < seconds:
            low = middle + 1
        else:
            high = middle
    histogram.counts[low] += 1
    histogram.seconds += seconds

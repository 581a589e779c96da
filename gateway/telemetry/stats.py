"""Counts what happens in one process: requests, tokens, latencies and sizes, as sums.

A request costs a few dictionary steps. Metrics and demand are made from the sums beside the data
path, in the process that plans.
"""

from bisect import bisect_left
from typing import Final

from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.telemetry.stats_schema import TPOT_S, TTFT_S, Histogram, PoolStats, StatsDelta
from planner.cells import cell
from planner.traffic.size_histogram import FINE

OK: Final = Outcome.OK
FINE_EDGES: Final = FINE.input_edges  # on both axes


class Stats:
    """The sums of one process since the last drain."""

    def __init__(self) -> None:
        self._delta = StatsDelta()

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

    def observed(self, o: Observation) -> None:
        """Count a request at its end."""
        by_pool, key = self._delta.by_pool, (o.model, o.pool or "")
        pool_stats = by_pool.get(key)
        if pool_stats is None:
            pool_stats = by_pool[key] = PoolStats.none()
        outcome, decision, ttft_s, tpot_s = o.outcome, o.decision, o.ttft_s, o.tpot_s
        inputs, outputs, retries = o.input_tokens, o.output_tokens, o.retries
        _count(pool_stats.outcomes, outcome)
        if decision is not None:
            _count(pool_stats.decisions, decision)
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
        if outcome is OK and o.bucket != NO_BUCKET:
            self._sized(o.bucket, inputs or o.estimated_input, outputs or 1)

    def _sized(self, bucket: int, inputs: int, outputs: int) -> None:
        sizes, key = self._delta.sizes, (bucket, cell(FINE_EDGES, FINE_EDGES, inputs, outputs))
        sums = sizes.get(key)
        if sums is None:
            sizes[key] = (1.0, float(inputs), float(outputs))
        else:
            count, sum_in, sum_out = sums
            sizes[key] = (count + 1.0, sum_in + inputs, sum_out + outputs)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _observe_seconds(histogram: Histogram, bounds: tuple[float, ...], seconds: float) -> None:
    histogram.counts[bisect_left(bounds, seconds)] += 1
    histogram.seconds += seconds

"""Counts what happens in one process: requests, tokens, latencies and sizes, as sums.

A request costs a few dictionary steps. Metrics and demand are made from the sums beside the data
path, in the process that plans.
"""

from math import inf
from typing import Any, Final

from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.telemetry.request_records import promises_of, seen_requests
from gateway.telemetry.sampler import RequestSampler
from gateway.telemetry.stats_schema import (
    LAG_S,
    RATIO,
    REQUEST_S,
    TPOT_S,
    TTFT_S,
    Histogram,
    Hits,
    PoolStats,
    StatsDelta,
    Stay,
    Use,
)
from planner.cells import cell
from planner.model.buckets import BEST_EFFORT, Buckets
from planner.traffic.size_histogram import FINE, CellSum

OK: Final = Outcome.OK
SHED: Final = Outcome.SHED
REJECTED: Final = Outcome.REJECTED
UNPROMISED: Final = BEST_EFFORT
# Of a request whose model left the configuration under it: name, TTFT and TPOT.
UNKNOWN_CLASS: Final = ("", inf, inf)
FINE_EDGES: Final = FINE.input_edges  # on both axes
MOST_STAYS: Final = 64  # between two drains: more would not make a pace more certain


class SecondsSum:
    """A histogram that grows: numbers of durations, or ratios, by their bounds, and the sum of all.

    Not the `Histogram` that it becomes: compiled code pays 110 instructions for each attribute of
    such a class, and a request has up to six.
    """

    __slots__ = ("_bounds", "_counts", "_seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bounds = self._bounds
        low, high = 0, len(bounds)
        # As `bisect_left`; compiled, this loop costs a third of a call of it.
        while low < high:
            middle = (low + high) >> 1
            if bounds[middle] < seconds:
                low = middle + 1
            else:
                high = middle
        self._counts[low] += 1
        self._seconds += seconds

    def value(self) -> Histogram:
        return Histogram(counts=self._counts, seconds=self._seconds)


class SizeSums:
    """The `CellSum` of one bucket and fine cell while it grows."""

    __slots__ = ("cached", "count", "inputs", "outputs")

    def __init__(self) -> None:
        self.count = self.inputs = self.outputs = self.cached = 0.0

    def value(self) -> CellSum:
        return self.count, self.inputs, self.outputs, self.cached


class UseSums:
    """The `Use` of one caller while it grows."""

    __slots__ = ("backend_s", "inputs", "outputs", "requests")

    def __init__(self) -> None:
        self.requests = self.inputs = self.outputs = 0
        self.backend_s = 0.0

    def value(self) -> Use:
        return self.requests, self.inputs, self.outputs, self.backend_s


class PoolSums:
    """The `PoolStats` of one SLO class in one pool while they grow, for the same reason."""

    __slots__ = (
        "cached_tokens", "duration", "ends", "input_estimate", "input_tokens", "output_estimate",
        "output_tokens", "retries", "sheds", "tpot", "ttft", "waited",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int, str, str], int] = {}
        self.sheds: dict[str, int] = {}
        self.ttft, self.tpot = SecondsSum(TTFT_S), SecondsSum(TPOT_S)
        self.duration, self.waited = SecondsSum(REQUEST_S), SecondsSum(REQUEST_S)
        self.input_estimate, self.output_estimate = SecondsSum(RATIO), SecondsSum(RATIO)
        self.input_tokens = self.output_tokens = self.cached_tokens = self.retries = 0

    def value(self) -> PoolStats:
        return PoolStats(
            ends=self.ends,
            ttft=self.ttft.value(),
            tpot=self.tpot.value(),
            duration=self.duration.value(),
            waited=self.waited.value(),
            sheds=self.sheds,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            retries=self.retries,
            cached_tokens=self.cached_tokens,
            input_estimate=self.input_estimate.value(),
            output_estimate=self.output_estimate.value(),
        )


class Stats:
    """The sums of one process since the last drain."""

    def __init__(self, buckets: Buckets) -> None:
        # Whether an engine has ever said how much of a prompt was a hit. vLLM says it of hits only:
        # from then on, what a reply does not say is none. Engines that never do cost nothing.
        self._reported = False
        self._sampler = RequestSampler()
        self._restart()
        self.configure(buckets)

    def configure(self, buckets: Buckets) -> None:
        """Count by these buckets from now on; `drain` first."""
        self._sampler.take()  # what ended since then is numbered by the old ones
        self._cells = buckets.grid.cells
        self._promises = promises_of(buckets)

    def __repr__(self) -> str:
        return f"<Stats of {sum(self._arrivals.values())} arrivals>"

    def drain(self) -> StatsDelta:
        """Return the sums since the last drain, and start again from zero."""
        last, slowest = self._sampler.take()
        delta = StatsDelta(
            arrivals=self._arrivals,
            sizes={key: sums.value() for key, sums in self._sizes.items()},
            by_pool={key: sums.value() for key, sums in self._by_pool.items()},
            refusals=self._refusals,
            failures=self._failures,
            ejections=self._ejections,
            lag=self._lag.value(),
            hits=self._hits,
            uses={key: sums.value() for key, sums in self._uses.items()},
            stays=self._stays,
            seen=seen_requests(last, slowest, self._promises, self._cells),
        )
        self._restart()
        return delta

    def _restart(self) -> None:
        self._arrivals: dict[int, int] = {}
        self._sizes: dict[tuple[int, int], SizeSums] = {}
        self._by_pool: dict[tuple[str, str, str], PoolSums] = {}
        self._refusals: dict[tuple[int, str], int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._ejections: dict[tuple[str, str], int] = {}
        self._lag = SecondsSum(LAG_S)
        self._hits: dict[tuple[str, str], Hits] = {}
        self._uses: dict[tuple[str, str, str], UseSums] = {}
        self._stays: list[Stay] = []

    def arrived(self, bucket: int) -> None:
        """Count a request at its arrival, whatever becomes of it."""
        arrivals = self._arrivals
        arrivals[bucket] = arrivals.get(bucket, 0) + 1

    def refused(self, status: int, reason: str) -> None:
        """Count a request without a bucket that was answered with an error. reason: the error's
        code, or its type if it has no code."""
        _count(self._refusals, (status, reason))

    def failed(self, backend: str, kind: str, rests: bool) -> None:
        """Count a request that a backend failed. rests: whether it gets no more requests for a
        while because of this one."""
        _count(self._failures, (backend, kind))
        if rests:
            _count(self._ejections, (backend, kind))

    def lagged(self, seconds: float) -> None:
        """Count how late a timer was: for so long the event loop did something else."""
        self._lag.add(max(0.0, seconds))

    def observed(self, o: Observation) -> None:
        """Count a request at its end."""
        slo_class, ttft_target_s, tpot_target_s = UNKNOWN_CLASS
        if o.bucket != NO_BUCKET:
            slo_class, ttft_target_s, tpot_target_s = self._promises[o.bucket // self._cells]
        promised = o.slo_class != UNPROMISED
        if not promised:
            slo_class = UNPROMISED
        self._sampler.add(o, ttft_target_s, tpot_target_s)
        by_pool, key = self._by_pool, (o.model, slo_class, o.pool or "")
        sums = by_pool.get(key)
        if sums is None:
            sums = by_pool[key] = PoolSums()
        outcome, decision, ttft_s, tpot_s = o.outcome, o.decision, o.ttft_s, o.tpot_s
        inputs, outputs, retries = o.input_tokens, o.output_tokens, o.retries
        met = o.met(ttft_target_s, tpot_target_s) if promised else ""
        # The text of the outcome: the hash of a member of an enum is computed by Python code.
        ends, end = sums.ends, (outcome._value_, o.status, met, decision or "")
        ends[end] = ends.get(end, 0) + 1
        if o.waited_s is not None:
            sums.waited.add(o.waited_s)
        if outcome is SHED:
            _count(sums.sheds, o.reason or "")
        if retries:
            sums.retries += retries
        if inputs is not None:
            sums.input_tokens += inputs
        if outputs is not None:
            sums.output_tokens += outputs
        if o.pool is not None:
            self._used(o, o.pool, inputs or 0, outputs or 0)
        cached = 0
        if o.cached_tokens is not None and inputs is not None:
            cached = min(o.cached_tokens, inputs)
            sums.cached_tokens += cached
            self._reported = True
        if self._reported and inputs is not None:
            self._hit((o.caller, o.pool or ""), inputs, cached)
        if ttft_s is not None:
            sums.ttft.add(ttft_s)
        if tpot_s is not None:
            sums.tpot.add(tpot_s)
        if outcome is OK:
            sums.duration.add(o.duration_s)
            if inputs and not o.exact_input:
                sums.input_estimate.add(o.estimated_input * o.prompts / inputs)
            if outputs and o.endpoint.generates:
                sums.output_estimate.add(o.estimated_output * o.answers / outputs)
        if promised and o.bucket != NO_BUCKET:
            if o.width > 1:
                self._widened(o, cached)
            elif outcome is OK:
                self._sized(o.bucket, inputs or o.estimated_input, outputs or 1, cached)
        if len(self._stays) < MOST_STAYS:
            self._stayed(o, cached)

    def _widened(self, o: Observation, cached: int) -> None:
        """Count a request of several sequences as so many requests of one: to the engine it is
        nothing else. All but one of the choices of a prompt find it computed, as prefix hits do.

        What an engine refused as wrong counts once: it may have asked for any number.
        """
        width, prompts = o.width, o.prompts
        if o.outcome is not REJECTED:
            self._arrivals[o.bucket] = self._arrivals.get(o.bucket, 0) + width - 1
        if o.outcome is OK:
            inputs = o.estimated_input if o.input_tokens is None else o.input_tokens // prompts
            shared = cached // prompts + inputs * (width - prompts) // width
            hits = min(inputs, shared)
            self._sized(o.bucket, max(1, inputs), o.answer_tokens or 1, hits, width)

    def _stayed(self, o: Observation, cached: int) -> None:
        stay_s, inputs, in_flight = o.stay_s, o.input_tokens, o.in_flight
        if stay_s is None or inputs is None or in_flight is None:
            return
        stay = (
            o.pool or "",
            o.backend or "",
            stay_s,
            in_flight,
            inputs,
            cached,
            o.output_tokens or 1,
        )
        self._stays.append(stay)

    def _used(self, o: Observation, pool: str, inputs: int, outputs: int) -> None:
        """Count what a caller had of a pool."""
        uses, key = self._uses, (o.caller, o.model, pool)
        sums = uses.get(key)
        if sums is None:
            sums = uses[key] = UseSums()
        sums.requests += 1
        sums.inputs += inputs
        sums.outputs += outputs
        if o.beside > 0.0:
            stay_s = o.duration_s - (o.waited_s or 0.0)
            sums.backend_s += stay_s * min(1.0, o.width / o.beside)

    def _hit(self, key: tuple[str, str], inputs: int, cached: int) -> None:
        before = self._hits.get(key)
        if before is not None:
            inputs, cached = before[0] + inputs, before[1] + cached
        self._hits[key] = (inputs, cached)

    def _sized(self, bucket: int, inputs: int, outputs: int, cached: int, times: int = 1) -> None:
        key = (bucket, cell(FINE_EDGES, FINE_EDGES, inputs, outputs))
        sums = self._sizes.get(key)
        if sums is None:
            sums = self._sizes[key] = SizeSums()
        sums.count += times
        sums.inputs += inputs * times
        sums.outputs += outputs * times
        sums.cached += cached * times


def _count(counts: dict[Any, int], key: Any) -> None:
    counts[key] = counts.get(key, 0) + 1

"""The traffic on which plans are tested: samples by seed, with the router's estimates.

Owns the ways to make such traffic: from traces or from observed demand, of one SLO class or of
several. Knows no plan and no simulator; chance is a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal, Protocol

import numpy as np

from gateway.rehearsal.history import TraceSource, callers
from gateway.routing.estimator import Estimator
from planner.model.demand import Demand
from planner.sizes import FloatArray, IntArray
from planner.traffic import arrivals
from planner.traffic.trace import Trace, merge_traces

Process = Literal["own", "poisson", "gamma", "daily"]
# The traffic of each class is drawn longer than the sample by so many standard deviations of its
# number of requests: it is then cut, and must not end before the sample does.
SPARE = 5.0
# The history of a trace is cut into so many parts, and successive seeds begin in different ones: so
# the seeds of one certificate see all of it, its worst hour too.
STRATA = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrafficSample:
    """Some minutes of traffic: N requests with the router's estimates.

    estimated: (N, 3) input, output and P90 of the output, tokens. slo_class: (N,) index of the SLO
    class of each request.
    """

    trace: Trace
    estimated: FloatArray
    slo_class: IntArray

    def until(self, end_s: float) -> "TrafficSample":
        """The requests that arrive before end_s."""
        trace = self.trace.slice(0.0, end_s)
        n = len(trace)
        return TrafficSample(
            trace=trace, estimated=self.estimated[:n], slo_class=self.slo_class[:n]
        )


class Traffic(Protocol):
    """A source of samples."""

    def draw(self, seed: int) -> TrafficSample:
        """Draw one sample; the same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A rate that swings around its mean by `1 − swing·cos`, once a period, lowest at the start."""

    swing: float
    period_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTraffic:
    """The sizes of a trace at another rate, with arrivals of one of four processes.

    process: `own` keeps the bursts of the trace (shifted copies of it, superposed or thinned; the
    parts of the trace that successive seeds begin in are all different);
    `gamma` draws gaps whose counts have the measured dispersion; `poisson` has dispersion 1;
    `daily` is `gamma` at a rate that follows `day`. estimator: with what the router has learned by
    the time the plan is put in force. class_index: of the SLO class.
    """

    trace: Trace
    rate: float
    process: Process
    dispersion: float
    requests: int
    estimator: Estimator
    model: str
    class_index: int = 0
    day: Day | None = None

    def draw(self, seed: int) -> TrafficSample:
        trace = self._trace(np.random.default_rng(seed), seed)
        rows = []
        inputs = trace.input_tokens.astype(int).tolist()
        for caller, size in zip(callers(trace), inputs, strict=True):
            estimate = self.estimator.estimate_size(size, model=self.model, caller=caller)
            rows.append((size, estimate.output_tokens, estimate.output_p90))
        estimated = np.array(rows, dtype=float).reshape(-1, 3)
        slo_class = np.full(len(trace), self.class_index)
        return TrafficSample(trace=trace, estimated=estimated, slo_class=slo_class)

    def _trace(self, rng: np.random.Generator, seed: int) -> Trace:
        if self.process == "own":
            length_s = self.requests / self.rate
            stratum = seed % STRATA, STRATA
            return arrivals.window(self.trace, self.rate, length_s, rng, stratum=stratum)
        return arrivals.resample(self.trace, self._times(rng), rng)

    def _times(self, rng: np.random.Generator) -> FloatArray:
        cv = _cv(1.0 if self.process == "poisson" else self.dispersion)
        if self.day is None:
            return arrivals.gamma(self.rate, cv, self.requests, rng)
        rates = arrivals.daily(self.rate, self.day.swing)
        return arrivals.modulated(rates, self.day.period_s, self.requests, rng, cv=cv)


class ObservedTraffic:
    """Observed demand of one SLO class: sizes and prefix hits from its fine cells,
    Gamma-distributed gaps."""

    def __init__(self, demand: Demand, class_index: int, requests: int) -> None:
        """class_index: of the SLO class. requests: of one sample."""
        grid = demand.buckets.grid
        weight = _weight(demand, class_index)
        self._demand, self._requests, self._class_index = demand, requests, class_index
        self._rate = float(weight.sum())
        self._chance = weight / self._rate if self._rate else weight
        self._cv = _cv(demand.dispersion[class_index])
        middle = [grid.centre(b % grid.cells)[1] for b in range(demand.buckets.count)]
        self._estimated = np.array(middle, dtype=float)[demand.bucket]
        self._p90 = np.maximum(self._estimated, _p90(demand))

    def draw(self, seed: int) -> TrafficSample:
        rng = np.random.default_rng(seed)
        demand = self._demand
        row = rng.choice(len(self._chance), size=self._requests, p=self._chance)
        trace = Trace(
            arrival_s=arrivals.gamma(self._rate, self._cv, self._requests, rng),
            input_tokens=np.round(demand.input_tokens[row]),
            output_tokens=np.round(demand.output_tokens[row]),
            key=("",) * self._requests,
            cached_tokens=np.floor(np.round(demand.input_tokens[row]) * demand.cached_share[row]),
        )
        estimated = (demand.input_tokens[row], self._estimated[row], self._p90[row])
        return TrafficSample(
            trace=trace,
            estimated=np.stack(estimated, axis=1),
            slo_class=np.full(self._requests, self._class_index),
        )


class MergedTraffic:
    """The traffic of several SLO classes at once; each has its own arrivals."""

    def __init__(self, parts: Sequence[Traffic], length_s: float) -> None:
        """parts: one for each class, longer than length_s, to which all are cut."""
        self._parts = tuple(parts)
        self._length_s = length_s

    def draw(self, seed: int) -> TrafficSample:
        count = len(self._parts)
        drawn = [part.draw(seed * count + k) for k, part in enumerate(self._parts)]
        trace, order = merge_traces([part.trace for part in drawn])
        estimated = np.concatenate([part.estimated for part in drawn])[order]
        slo_class = np.concatenate([part.slo_class for part in drawn])[order]
        whole = TrafficSample(trace=trace, estimated=estimated, slo_class=slo_class)
        return whole.until(self._length_s)


def replayed(
    sources: Sequence[TraceSource],
    demand: Demand,
    *,
    process: Process,
    requests: int,
    estimator: Estimator,
    swing: float = 0.0,
    period_s: float | None = None,
) -> Traffic:
    """Traffic of traces, at the rates and dispersions of the demand.

    requests: of one sample, all classes together. swing: of the daily curve, whose period is
    period_s; by default a sample is one period.
    """
    length_s = requests / demand.total_rate
    indexes = [source.class_index(demand.buckets) for source in sources]
    counts = _counts(demand, indexes, requests)
    parts = [
        ReplayedTraffic(
            trace=source.trace,
            rate=_rate(demand, index),
            process=process,
            dispersion=demand.dispersion[index],
            requests=count,
            estimator=estimator,
            model=source.model,
            class_index=index,
            day=Day(swing=swing, period_s=period_s or length_s) if process == "daily" else None,
        )
        for source, index, count in zip(sources, indexes, counts, strict=True)
    ]
    return parts[0] if len(parts) == 1 else MergedTraffic(parts, length_s)


def observed(demand: Demand, requests: int) -> Traffic | None:
    """Traffic of a demand, of all its classes whose sizes are known; `None` if there is no such
    class.

    requests: of one sample, all classes together.
    """
    indexes = [c for c in range(len(demand.buckets.classes)) if _weight(demand, c).any()]
    if not indexes:
        return None
    counts = _counts(demand, indexes, requests)
    parts = [ObservedTraffic(demand, c, count) for c, count in zip(indexes, counts, strict=True)]
    rate = sum(_rate(demand, c) for c in indexes)
    return parts[0] if len(parts) == 1 else MergedTraffic(parts, requests / rate)


def _counts(demand: Demand, indexes: Sequence[int], requests: int) -> list[int]:
    """The number of requests to draw for each class; with several classes some are to spare."""
    if len(indexes) == 1:
        return [requests]
    rates = np.array([_rate(demand, index) for index in indexes])
    counts = requests * rates / rates.sum()
    spare = SPARE * np.sqrt(counts * np.array([demand.dispersion[index] for index in indexes]))
    return [ceil(count) for count in counts + spare + SPARE]


def _rate(demand: Demand, class_index: int) -> float:
    """The rate of one class, requests/s."""
    cells = demand.buckets.grid.cells
    return float(demand.rate[class_index * cells : (class_index + 1) * cells].sum())


def _weight(demand: Demand, class_index: int) -> FloatArray:
    """(F,) rate of each fine cell, requests/s; 0 in the cells of other classes."""
    mine = demand.bucket // demand.buckets.grid.cells == class_index
    return np.where(mine, demand.rate[demand.bucket] * demand.share, 0.0)


def _p90(demand: Demand) -> FloatArray:
    """(F,) for each fine cell the P90 of the actual output in its bucket, tokens."""
    p90 = np.zeros(demand.buckets.count)
    for bucket in np.unique(demand.bucket).tolist():
        rows = np.flatnonzero(demand.bucket == bucket)
        rows = rows[np.argsort(demand.output_tokens[rows])]
        reached = int(np.searchsorted(np.cumsum(demand.share[rows]), 0.9))
        p90[bucket] = demand.output_tokens[rows[min(reached, len(rows) - 1)]]
    return np.asarray(p90[demand.bucket])


def _cv(dispersion: float) -> float:
    """The coefficient of variation of gaps whose counts have this dispersion.

    Over long windows the counts of a renewal process have dispersion cv² (Cox, Renewal Theory,
    1962).
    """
    return sqrt(dispersion)

"""What a plan is tested on: stretches of traffic by seed, and what the router believes of them.

Owns the ways to make such traffic, from traces or from observed demand, of one SLO class or of
several at once. Knows no plan and no simulator; chance is a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal, Protocol

import numpy as np

from gateway.rehearsal.history import ROUTE, TraceSource, sender
from gateway.routing.lengths import OutputLengths
from planner.model.demand import Demand
from planner.sizes import FloatArray, IntArray
from planner.traffic import arrivals
from planner.traffic.trace import Trace, merge_traces

Process = Literal["own", "poisson", "gamma", "daily"]
SPARE = 5.0  # standard deviations of the count by which a class's traffic outlasts the stretch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrafficSample:
    """Some minutes of traffic: N requests, what the router takes them for, and whose they are.

    believed: (N, 3) input, output and P90 of the output. slo_class: (N,) number in the space.
    """

    trace: Trace
    believed: FloatArray
    slo_class: IntArray


class Traffic(Protocol):
    """What a plan is tested on."""

    def draw(self, seed: int) -> TrafficSample:
        """One stretch. The same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A rate that swings around its mean: `1 + swing·cos`, least at the start, once a period."""

    swing: float
    period_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedTraffic:
    """A trace's sizes at a rate, with arrivals of one of four kinds.

    process: `own` keeps the trace's bursts (shifted copies of it, superposed or thinned), `gamma`
    draws gaps whose counts have the measured dispersion, `poisson` is burst-free, `daily` is
    `gamma` at a rate that follows `day`. lengths: what the router has learned when the plan comes
    into force. number: of the SLO class in its space.
    """

    trace: Trace
    rate: float
    process: Process
    dispersion: float
    requests: int
    lengths: OutputLengths
    model: str
    number: int = 0
    day: Day | None = None

    def draw(self, seed: int) -> TrafficSample:
        trace = self._trace(np.random.default_rng(seed))
        rows = []
        for key, inputs in zip(trace.key, trace.input_tokens.astype(int).tolist(), strict=True):
            said = self.lengths.predict(self.model, sender(key), ROUTE, inputs, None)
            rows.append((inputs, said.median, said.p90))
        believed = np.array(rows, dtype=float).reshape(-1, 3)
        return TrafficSample(
            trace=trace, believed=believed, slo_class=np.full(len(trace), self.number)
        )

    def _trace(self, rng: np.random.Generator) -> Trace:
        if self.process == "own":
            whole = arrivals.at_rate(self.trace, self.rate, rng)
            long_s = self.requests / self.rate
            start_s = float(rng.random()) * max(0.0, whole.duration_s - long_s)
            return whole.slice(start_s, start_s + long_s)
        return arrivals.resample(self.trace, self._times(rng), rng)

    def _times(self, rng: np.random.Generator) -> FloatArray:
        cv = _cv(1.0 if self.process == "poisson" else self.dispersion)
        if self.day is None:
            return arrivals.gamma(self.rate, cv, self.requests, rng)
        rates = arrivals.daily(self.rate, self.day.swing)
        return arrivals.modulated(rates, self.day.period_s, self.requests, rng, cv=cv)


class ObservedTraffic:
    """Demand of one SLO class as the gateway observed it: sizes from its fine cells, Gamma gaps."""

    def __init__(self, demand: Demand, number: int, requests: int) -> None:
        """number: of the class in the demand's space."""
        grid = demand.buckets.grid
        weight = _weight(demand, number)
        self._demand, self._requests, self._number = demand, requests, number
        self._rate = float(weight.sum())
        self._chance = weight / self._rate if self._rate else weight
        self._cv = _cv(demand.dispersion[number])
        middle = [grid.centre(b % grid.cells)[1] for b in range(demand.buckets.count)]
        self._believed = np.array(middle, dtype=float)[demand.bucket]
        self._p90 = np.maximum(self._believed, _p90(demand))

    def draw(self, seed: int) -> TrafficSample:
        rng = np.random.default_rng(seed)
        demand = self._demand
        row = rng.choice(len(self._chance), size=self._requests, p=self._chance)
        trace = Trace(
            arrival_s=arrivals.gamma(self._rate, self._cv, self._requests, rng),
            input_tokens=np.round(demand.input_tokens[row]),
            output_tokens=np.round(demand.output_tokens[row]),
            key=("",) * self._requests,
        )
        believed = (demand.input_tokens[row], self._believed[row], self._p90[row])
        return TrafficSample(
            trace=trace,
            believed=np.stack(believed, axis=1),
            slo_class=np.full(self._requests, self._number),
        )


class MergedTraffic:
    """The traffic of several SLO classes at once, each with arrivals of its own."""

    def __init__(self, parts: Sequence[Traffic], long_s: float) -> None:
        """parts: each of more than long_s seconds, which is how long they are played."""
        self._parts = tuple(parts)
        self._long_s = long_s

    def draw(self, seed: int) -> TrafficSample:
        count = len(self._parts)
        drawn = [part.draw(seed * count + k) for k, part in enumerate(self._parts)]
        trace, order = merge_traces([part.trace for part in drawn])
        believed = np.concatenate([part.believed for part in drawn])[order]
        slo_class = np.concatenate([part.slo_class for part in drawn])[order]
        trace = trace.slice(0.0, self._long_s)
        n = len(trace)
        return TrafficSample(trace=trace, believed=believed[:n], slo_class=slo_class[:n])


def replayed(
    sources: Sequence[TraceSource],
    demand: Demand,
    *,
    process: Process,
    requests: int,
    lengths: OutputLengths,
    swing: float = 0.0,
) -> Traffic:
    """The traces at the rates and with the dispersions of their demand: so many requests in all.

    swing: of the daily curve, one period of which is the stretch.
    """
    long_s = requests / demand.total_rate
    numbers = [source.number(demand.buckets) for source in sources]
    counts = _counts(demand, numbers, requests)
    parts = [
        ReplayedTraffic(
            trace=source.trace,
            rate=_rate(demand, number),
            process=process,
            dispersion=demand.dispersion[number],
            requests=count,
            lengths=lengths,
            model=source.model,
            number=number,
            day=Day(swing=swing, period_s=long_s) if process == "daily" else None,
        )
        for source, number, count in zip(sources, numbers, counts, strict=True)
    ]
    return parts[0] if len(parts) == 1 else MergedTraffic(parts, long_s)


def observed(demand: Demand, requests: int) -> Traffic | None:
    """All classes of a demand with known sizes, so many requests in all; `None`: there are none."""
    numbers = [c for c in range(len(demand.buckets.classes)) if _weight(demand, c).any()]
    if not numbers:
        return None
    counts = _counts(demand, numbers, requests)
    parts = [ObservedTraffic(demand, c, count) for c, count in zip(numbers, counts, strict=True)]
    rate = sum(_rate(demand, c) for c in numbers)
    return parts[0] if len(parts) == 1 else MergedTraffic(parts, requests / rate)


def _counts(demand: Demand, numbers: Sequence[int], requests: int) -> list[int]:
    """How many requests each class must draw: more than come in the stretch if it is cut."""
    if len(numbers) == 1:
        return [requests]
    rates = np.array([_rate(demand, number) for number in numbers])
    counts = requests * rates / rates.sum()
    spare = SPARE * np.sqrt(counts * np.array([demand.dispersion[number] for number in numbers]))
    return [ceil(count) for count in counts + spare + SPARE]


def _rate(demand: Demand, number: int) -> float:
    cells = demand.buckets.grid.cells
    return float(demand.rate[number * cells : (number + 1) * cells].sum())


def _weight(demand: Demand, number: int) -> FloatArray:
    """(F,) requests/s of each fine cell of one class."""
    mine = demand.bucket // demand.buckets.grid.cells == number
    return np.where(mine, demand.rate[demand.bucket] * demand.share, 0.0)


def _p90(demand: Demand) -> FloatArray:
    """(F,) per row the P90 of actual output in its bucket."""
    found = np.zeros(demand.buckets.count)
    for bucket in np.unique(demand.bucket).tolist():
        rows = np.flatnonzero(demand.bucket == bucket)
        rows = rows[np.argsort(demand.output_tokens[rows])]
        reached = int(np.searchsorted(np.cumsum(demand.share[rows]), 0.9))
        found[bucket] = demand.output_tokens[rows[min(reached, len(rows) - 1)]]
    return np.asarray(found[demand.bucket])


def _cv(dispersion: float) -> float:
    """Counts of a renewal process have, over long windows, the dispersion cv² of its gaps."""
    return sqrt(dispersion)

"""What a plan is tested on: stretches of traffic by seed, and what the router believes of them.

Owns the ways to make such traffic, from a trace or from observed demand. Knows no plan and no
simulator; chance is a seed.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal, Protocol

import numpy as np

from gateway.history import ROUTE, sender
from gateway.routing.lengths import Lengths
from planner import arrivals
from planner.model import Demand
from planner.sizes import FloatArray
from planner.workload import Trace

Process = Literal["own", "poisson", "gamma"]


class Traffic(Protocol):
    """What a plan is tested on."""

    def draw(self, seed: int) -> tuple[Trace, FloatArray]:
        """One stretch of traffic, and (N, 3) what the router believes of it: input, output and P90
        of the output. The same for the same seed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A trace's sizes at a rate, with arrivals of one of three kinds.

    process: `own` keeps the trace's bursts (shifted copies of it, superposed or thinned), `gamma`
    draws gaps whose counts have the measured dispersion, `poisson` is burst-free. lengths: what
    the router has learned when the plan comes into force.
    """

    trace: Trace
    rate: float
    process: Process
    dispersion: float
    requests: int
    lengths: Lengths
    model: str

    def draw(self, seed: int) -> tuple[Trace, FloatArray]:
        trace = self._trace(np.random.default_rng(seed))
        rows = []
        for key, inputs in zip(trace.key, trace.input_tokens.astype(int).tolist(), strict=True):
            said = self.lengths.predict(self.model, sender(key), ROUTE, inputs, None)
            rows.append((inputs, said.median, said.p90))
        return trace, np.array(rows, dtype=float).reshape(-1, 3)

    def _trace(self, rng: np.random.Generator) -> Trace:
        if self.process == "own":
            whole = arrivals.at_rate(self.trace, self.rate, rng)
            long_s = self.requests / self.rate
            start_s = float(rng.random()) * max(0.0, whole.duration_s - long_s)
            return whole.slice(start_s, start_s + long_s)
        times_s = arrivals.gamma(
            self.rate, _cv(1.0 if self.process == "poisson" else self.dispersion),
            self.requests, rng,
        )  # fmt: skip
        return arrivals.resample(self.trace, times_s, rng)


class Observed:
    """Demand as the gateway observed it: sizes drawn from its fine cells, Gamma gaps."""

    def __init__(self, demand: Demand, model: str, requests: int) -> None:
        """Only the buckets of one model are played."""
        space = demand.space
        mine = [c for c, kind in enumerate(space.classes) if kind.model == model]
        kept = np.isin(demand.bucket // space.grid.cells, mine)
        weight = np.where(kept, demand.rate[demand.bucket] * demand.share, 0.0)
        self._demand, self._requests = demand, requests
        self._rate = float(weight.sum())
        self._chance = weight / self._rate if self._rate else weight
        self._cv = _cv(demand.dispersion[mine[0]])
        middle = [space.grid.centre(b % space.grid.cells)[1] for b in range(space.buckets)]
        self._believed = np.array(middle, dtype=float)[demand.bucket]
        self._p90 = np.maximum(self._believed, _p90(demand))

    def draw(self, seed: int) -> tuple[Trace, FloatArray]:
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
        return trace, np.stack(believed, axis=1)


def _p90(demand: Demand) -> FloatArray:
    """(F,) per row the P90 of actual output in its bucket."""
    found = np.zeros(demand.space.buckets)
    for bucket in np.unique(demand.bucket).tolist():
        rows = np.flatnonzero(demand.bucket == bucket)
        rows = rows[np.argsort(demand.output_tokens[rows])]
        reached = int(np.searchsorted(np.cumsum(demand.share[rows]), 0.9))
        found[bucket] = demand.output_tokens[rows[min(reached, len(rows) - 1)]]
    return np.asarray(found[demand.bucket])


def _cv(dispersion: float) -> float:
    """Counts of a renewal process have, over long windows, the dispersion cv² of its gaps."""
    return sqrt(dispersion)

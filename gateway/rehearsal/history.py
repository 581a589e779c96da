"""The demand of a trace, as the gateway would have observed it.

A request belongs to the bucket of its estimated size, and its load is that of its actual size, as
in live demand. Knows no backend and no plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.access.callers import caller_id
from gateway.config.load import Loaded
from gateway.routing.estimator import Estimator
from planner.errors import InvalidValue
from planner.model.buckets import DEFAULT, Buckets
from planner.model.demand import Demand
from planner.sizes import IntArray
from planner.traffic.size_histogram import combine_demands, demand_from_samples
from planner.traffic.trace import Trace, dispersion

WINDOW_S = 10.0  # dispersion is that of counts in this window, about the time a request takes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceSource:
    """A trace whose requests are all for one model, in one of its SLO classes."""

    trace: Trace
    model: str
    slo_class: str = DEFAULT

    def class_index(self, buckets: Buckets) -> int:
        """The index of the SLO class. Raises InvalidValue if there is no such class."""
        names = [(slo_class.model, slo_class.name) for slo_class in buckets.classes]
        if (self.model, self.slo_class) not in names:
            raise InvalidValue(f"no model `{self.model}` with an SLO class `{self.slo_class}`")
        return names.index((self.model, self.slo_class))


def demand_of(
    trace: Trace, loaded: Loaded, *, estimator: Estimator, model: str | None = None
) -> Demand:
    """The demand of a trace of one model's requests (default: the first configured model).

    estimator: learns all sizes of the trace first, so that the buckets are those of a router that
    has served this traffic; it keeps what it learned.
    """
    model = model or next(iter(loaded.config.models))
    return demand_together((TraceSource(trace=trace, model=model),), loaded, estimator=estimator)


def demand_together(
    sources: Sequence[TraceSource], loaded: Loaded, *, estimator: Estimator
) -> Demand:
    """The demand of several traces at the same time, one for each SLO class.

    Raises InvalidValue if two have the same class.
    """
    for source in sources:
        _learn(source, estimator)
    return combine_demands([_demand(source, loaded, estimator) for source in sources])


def estimated_buckets(source: TraceSource, buckets: Buckets, estimator: Estimator) -> IntArray:
    """(N,) the bucket in which the router would put each request of a trace."""
    grid, trace = buckets.grid, source.trace
    first = source.class_index(buckets) * grid.cells
    sizes = trace.input_tokens.astype(int).tolist()
    cells = []
    for caller, inputs in zip(callers(trace), sizes, strict=True):
        estimate = estimator.estimate_size(inputs, model=source.model, caller=caller)
        cells.append(first + grid.cell(inputs, estimate.output_tokens))
    return np.array(cells, dtype=np.int64)


def callers(trace: Trace) -> list[str]:
    """(N,) the caller id of each request, as the gateway would identify it: `cuvee replay` sends
    the key in the trace as the API key."""
    known = {key: caller_id(f"Bearer {key}".encode() if key else b"") for key in set(trace.key)}
    return [known[key] for key in trace.key]


def _learn(source: TraceSource, estimator: Estimator) -> None:
    trace = source.trace
    for caller, inputs, outputs in zip(
        callers(trace), trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True
    ):
        tokens = max(1, int(outputs))
        estimator.learn_size(int(inputs), tokens, model=source.model, caller=caller)


def _demand(source: TraceSource, loaded: Loaded, estimator: Estimator) -> Demand:
    trace, class_index = source.trace, source.class_index(loaded.buckets)
    duration_s = trace.duration_s or 1.0
    measured = dispersion(trace.arrival_s, WINDOW_S, duration_s)
    dispersions = [loaded.config.planner.dispersion] * len(loaded.buckets.classes)
    if measured is not None:
        dispersions[class_index] = measured
    return demand_from_samples(
        loaded.buckets,
        estimated_buckets(source, loaded.buckets, estimator),
        trace.input_tokens,
        np.maximum(trace.output_tokens, 1.0),
        duration_s=duration_s,
        # A dispersion below 1 (less bursty than Poisson) may be real, but is no safe assumption.
        dispersion=tuple(max(1.0, value) for value in dispersions),
        cached=trace.cached_tokens,
    )

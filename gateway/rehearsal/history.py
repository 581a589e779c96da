"""Traces seen through the gateway's own eyes: the demand that its router would have observed.

The bucket of a request is what the router would have believed of it, its load what it turned out to
be; both are kept, as in the live histogram. Knows no backend and no plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.config.load import Loaded
from gateway.routing.lengths import OutputLengths
from planner.errors import InvalidValue
from planner.model.buckets import DEFAULT, Buckets
from planner.model.demand import Demand
from planner.sizes import IntArray
from planner.traffic.size_histogram import combine_demands, demand_from_samples
from planner.traffic.trace import Trace, dispersion

WINDOW_S = 10.0  # counts for the dispersion: about a request's residence
ROUTE = "chat"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceSource:
    """A trace whose requests all ask for one model, under one SLO class of it."""

    trace: Trace
    model: str
    slo_class: str = DEFAULT

    def number(self, buckets: Buckets) -> int:
        """Its class's number in a space. Raises InvalidValue if there is none."""
        names = [(kind.model, kind.name) for kind in buckets.classes]
        if (self.model, self.slo_class) not in names:
            raise InvalidValue(f"no model `{self.model}` with an SLO class `{self.slo_class}`")
        return names.index((self.model, self.slo_class))


def demand_of(
    trace: Trace, loaded: Loaded, *, lengths: OutputLengths, model: str | None = None
) -> Demand:
    """The demand of a trace of one model's requests (default: the first model configured).

    lengths: learns the trace's answers first, so that buckets are those of a router that knows this
    traffic; it can serve on afterwards.
    """
    model = model or next(iter(loaded.config.models))
    return demand_together((TraceSource(trace=trace, model=model),), loaded, lengths=lengths)


def demand_together(
    sources: Sequence[TraceSource], loaded: Loaded, *, lengths: OutputLengths
) -> Demand:
    """The demand of several traces, one per SLO class, that come at the same time.

    Raises InvalidValue if two have the same class.
    """
    for source in sources:
        _learn(source, lengths)
    return combine_demands([_demand(source, loaded, lengths) for source in sources])


def _learn(source: TraceSource, lengths: OutputLengths) -> None:
    trace = source.trace
    requests = zip(trace.key, trace.input_tokens, trace.output_tokens, strict=True)
    for key, inputs, outputs in requests:
        tokens = max(1, int(outputs))
        lengths.learn(source.model, sender(key), ROUTE, int(inputs), None, tokens)


def _demand(source: TraceSource, loaded: Loaded, lengths: OutputLengths) -> Demand:
    trace, number = source.trace, source.number(loaded.buckets)
    duration_s = trace.duration_s or 1.0
    burst = dispersion(trace.arrival_s, WINDOW_S, duration_s)
    spread = [loaded.config.planner.dispersion] * len(loaded.buckets.classes)
    if burst is not None:
        spread[number] = burst
    return demand_from_samples(
        loaded.buckets,
        believed(trace, loaded, lengths, source.model, source.slo_class),
        trace.input_tokens,
        np.maximum(trace.output_tokens, 1.0),
        duration_s=duration_s,
        dispersion=tuple(max(1.0, value) for value in spread),
    )


def believed(
    trace: Trace, loaded: Loaded, lengths: OutputLengths, model: str, slo_class: str = DEFAULT
) -> IntArray:
    """(N,) the bucket that the router would take each request for."""
    grid = loaded.buckets.grid
    source = TraceSource(trace=trace, model=model, slo_class=slo_class)
    first = source.number(loaded.buckets) * grid.cells
    requests = zip(trace.key, trace.input_tokens.astype(int).tolist(), strict=True)
    cells = [
        first + grid.cell(size, lengths.predict(model, sender(key), ROUTE, size, None).median)
        for key, size in requests
    ]
    return np.array(cells, dtype=np.int64)


def sender(key: str) -> str:
    """A trace's key as the gateway sees it: the Authorization header that replay sends."""
    return f"Bearer {key}" if key else ""

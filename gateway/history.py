"""A trace seen through the gateway's own eyes: the demand that its router would have observed.

The bucket of a request is what the router would have believed of it, its load what it turned out to
be; both are kept, as in the live histogram. Knows no backend and no plan.
"""

import numpy as np

from gateway.config import Loaded
from gateway.routing.lengths import Lengths
from planner.demand import from_samples
from planner.model import Demand
from planner.workload import Trace, dispersion

WINDOW_S = 10.0  # counts for the dispersion: about a request's residence
ROUTE = "chat"


def demand_of(
    trace: Trace, loaded: Loaded, *, lengths: Lengths, model: str | None = None
) -> Demand:
    """The demand of a trace of one model's requests (default: the first model configured).

    lengths: learns the trace's answers first, so that buckets are those of a router that knows this
    traffic; it can serve on afterwards.
    """
    model = model or next(iter(loaded.config.models))
    rows = [
        (f"Bearer {key}" if key else "", int(inputs), int(outputs))
        for key, inputs, outputs in zip(
            trace.key, trace.input_tokens, trace.output_tokens, strict=True
        )
    ]
    for key, inputs, outputs in rows:
        lengths.learn(model, key, ROUTE, inputs, None, max(1, outputs))
    space = loaded.space
    first = [c.model for c in space.classes].index(model) * space.grid.cells
    believed = [
        first + space.grid.cell(i, lengths.predict(model, key, ROUTE, i, None).median)
        for key, i, _ in rows
    ]
    duration_s = trace.duration_s or 1.0
    burst = dispersion(trace.arrival_s, WINDOW_S, duration_s)
    assumed = loaded.config.planner.dispersion
    return from_samples(
        space,
        np.array(believed, dtype=np.int64),
        trace.input_tokens,
        np.maximum(trace.output_tokens, 1.0),
        duration_s=duration_s,
        dispersion=tuple(
            max(1.0, burst if burst is not None and c.model == model else assumed)
            for c in space.classes
        ),
    )

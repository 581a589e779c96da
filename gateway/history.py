"""A trace seen through the gateway's own eyes: the demand that its router would have observed.

The bucket of a request is what the router would have believed of it, its load what it turned out to
be; both are kept, as in the live histogram. Knows no backend and no plan.
"""

import numpy as np

from gateway.config import Loaded
from gateway.routing.lengths import Lengths
from planner.demand import from_samples
from planner.model import Demand
from planner.sizes import IntArray
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
    requests = zip(trace.key, trace.input_tokens, trace.output_tokens, strict=True)
    for key, inputs, outputs in requests:
        lengths.learn(model, sender(key), ROUTE, int(inputs), None, max(1, int(outputs)))
    space = loaded.space
    duration_s = trace.duration_s or 1.0
    burst = dispersion(trace.arrival_s, WINDOW_S, duration_s)
    assumed = loaded.config.planner.dispersion
    return from_samples(
        space,
        believed(trace, loaded, lengths, model),
        trace.input_tokens,
        np.maximum(trace.output_tokens, 1.0),
        duration_s=duration_s,
        dispersion=tuple(
            max(1.0, burst if burst is not None and c.model == model else assumed)
            for c in space.classes
        ),
    )


def believed(trace: Trace, loaded: Loaded, lengths: Lengths, model: str) -> IntArray:
    """(N,) the bucket that the router would take each request for."""
    grid = loaded.space.grid
    first = [kind.model for kind in loaded.space.classes].index(model) * grid.cells
    requests = zip(trace.key, trace.input_tokens.astype(int).tolist(), strict=True)
    cells = [
        first + grid.cell(size, lengths.predict(model, sender(key), ROUTE, size, None).median)
        for key, size in requests
    ]
    return np.array(cells, dtype=np.int64)


def sender(key: str) -> str:
    """A trace's key as the gateway sees it: the Authorization header that replay sends."""
    return f"Bearer {key}" if key else ""

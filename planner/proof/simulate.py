"""Plays a trace onto engines in virtual time: what became of every request.

Owns the arrays in and out; the play itself is `planner.proof.timeline`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from planner.engine.batching import Engine
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.proof.timeline import Dispatch, OnFinished, Timeline
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """The outcome of N requests.

    ttft_s, tpot_s: (N,) seconds, nan where unknown: both for a shed request, TPOT for one with
    fewer than two output tokens. backend: (N,) index of the engine that served the request, -1 if
    it was shed.
    """

    ttft_s: FloatArray
    tpot_s: FloatArray
    backend: IntArray

    def __len__(self) -> int:
        return len(self.backend)

    def met(self, slo: Slo) -> NDArray[np.bool_]:
        """(N,) whether each request met the promise; a shed request did not."""
        # A comparison with nan is false: right for TTFT, the wrong way round for TPOT.
        return (self.ttft_s <= slo.ttft_s) & ~(self.tpot_s > slo.tpot_s)

    def attainment(self, slo: Slo, *, skip: float = 0.1) -> float:
        """The share of requests that met the promise, without the first `skip` of them.

        The first ones meet an empty fleet, which would flatter it. Raises InvalidValue if no
        request is left.
        """
        met = self.met(slo)[ceil(skip * len(self)) :]
        if not len(met):
            raise InvalidValue(f"no requests left of {len(self)} after skipping {skip}")
        return float(met.mean())


def simulate(
    trace: Trace,
    engines: Sequence[Profile],
    dispatch: Dispatch,
    *,
    on_finished: OnFinished | None = None,
) -> SimulationResult:
    """Play a trace onto one fresh engine per profile until the last request has ended.

    dispatch: asked at each arrival and whenever there may be room. A request that it never places
    was shed. A request longer than its engine's context is refused there, and counts as shed. The
    hits in the trace are hits on every engine: who computed the prefix before is not played.
    on_finished: called when a request has ended, after its placement was released.
    At one moment the ends of iterations come first, in the order of the engines, then what is due
    by the clock, then arrivals: room that is made at a moment can be used at that moment.
    Raises InvalidValue if arrivals do not ascend.
    """
    if np.any(np.diff(trace.arrival_s) < 0):
        raise InvalidValue("the arrivals of a trace must ascend")
    # The engine model has no request without a prompt or an answer; traces do.
    inputs = [max(1, int(tokens)) for tokens in trace.input_tokens.tolist()]
    outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
    cached = [int(tokens) for tokens in trace.cached_tokens.tolist()]
    fleet = [Engine(profile) for profile in engines]
    timeline = Timeline(fleet, inputs, outputs, cached, dispatch, on_finished)
    timeline.play(trace.arrival_s.tolist())
    first_s, last_s = np.array(timeline.first_s), np.array(timeline.last_s)
    gaps = np.array(outputs, dtype=float) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot_s = np.where(gaps > 0, (last_s - first_s) / gaps, np.nan)
    return SimulationResult(
        ttft_s=first_s - trace.arrival_s,
        tpot_s=tpot_s,
        backend=np.array(timeline.backend, dtype=np.int64),
    )

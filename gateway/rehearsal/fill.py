"""Samples that begin with a full fleet: those who came earlier and are still there come first.

A request that came t seconds before the start and just keeps its SLO has produced t/TPOT tokens by
then. It is played as one whose prompt holds these tokens, all of them in the engine's cache, and
whose answer lacks them. So the fleet begins as full as its promises allow, and a fleet that cannot
keep up shows it at once. Knows no plan and no simulator.
"""

from dataclasses import dataclass

import numpy as np

from gateway.rehearsal.traffic import TrafficSample
from planner.model.buckets import SloClass
from planner.proof.length import PlayLength, stay_s
from planner.traffic.trace import merge_traces

# All at one moment they would look like a burst of prompts to a router, which does not know that
# they need no prefill.
FILL_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilledSample:
    """A sample whose first requests fill the fleet. Counted are those that arrive from begin_s on
    and before end_s."""

    sample: TrafficSample
    begin_s: float
    end_s: float


def filled(
    sample: TrafficSample, length: PlayLength, classes: tuple[SloClass, ...]
) -> FilledSample:
    """The sample of a play of this length, its history turned into requests that are in flight."""
    trace = sample.trace
    start = int(np.searchsorted(trace.arrival_s, length.history_s))
    age_s = length.history_s - trace.arrival_s[:start]
    outputs = np.maximum(trace.output_tokens[:start], 1.0)
    produced, stays_s = np.zeros(start), np.zeros(start)
    for number in np.unique(sample.slo_class[:start]).tolist():
        rows, slo = sample.slo_class[:start] == number, classes[max(0, number)].slo
        stays_s[rows] = stay_s(outputs[rows], slo)
        produced[rows] = np.floor((age_s[rows] - slo.ttft_s) / slo.tpot_s)
    there = np.flatnonzero(age_s < stays_s)
    produced = np.clip(produced[there], 0.0, outputs[there] - 1)
    before = trace.take(there, np.linspace(0.0, FILL_S, len(there), endpoint=False))
    inputs = before.input_tokens + produced
    before = type(before)(
        arrival_s=before.arrival_s,
        input_tokens=inputs,
        output_tokens=outputs[there] - produced,
        key=before.key,
        cached_tokens=np.where(produced > 0, inputs, before.cached_tokens),
    )
    rest = np.arange(start, len(trace))
    after = trace.take(rest, trace.arrival_s[start:] - length.history_s + FILL_S)
    merged, _ = merge_traces([before, after])  # the fill ends before the rest begins
    estimated = sample.estimated[np.concatenate([there, rest])]
    estimated[: len(there), 0] += produced
    estimated[: len(there), 1:] = np.maximum(estimated[: len(there), 1:] - produced[:, None], 1.0)
    begin_s = FILL_S + length.lead_s
    return FilledSample(
        sample=TrafficSample(
            trace=merged,
            estimated=estimated,
            slo_class=sample.slo_class[np.concatenate([there, rest])],
        ),
        begin_s=begin_s,
        end_s=begin_s + length.counted_s,
    )

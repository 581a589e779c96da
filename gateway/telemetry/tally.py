"""What happened since the last drain, as sums: one dictionary step per request, merged by addition.

Metrics and demand are made from it beside the data path. It travels between processes as a value.
"""

from bisect import bisect_left
from typing import Final

from gateway.routing.observation import Observation, Outcome
from gateway.telemetry.stats import TPOT_S, TTFT_S, Flow, Spread, Sums
from planner.cells import cell
from planner.traffic.demand import FINE

OK: Final = Outcome.OK
FINE_EDGES: Final = FINE.input_edges  # on both axes


class Tally:
    """Living sums of one process."""

    def __init__(self) -> None:
        self._sums = Sums()

    def __repr__(self) -> str:
        return f"<Tally of {sum(self._sums.arrivals.values())} arrivals>"

    def drain(self) -> Sums:
        """Everything since the last drain."""
        sums, self._sums = self._sums, Sums()
        return sums

    def arrived(self, bucket: int) -> None:
        """A request arrived and was taken for this bucket, whatever becomes of it."""
        arrivals = self._sums.arrivals
        arrivals[bucket] = arrivals.get(bucket, 0) + 1

    def observed(self, o: Observation) -> None:
        """A request ended."""
        flows, key = self._sums.flows, (o.model, o.pool or "")
        flow = flows.get(key)
        if flow is None:
            flow = flows[key] = Flow.none()
        outcome, decision, ttft_s, tpot_s = o.outcome, o.decision, o.ttft_s, o.tpot_s
        inputs, outputs, retries = o.input_tokens, o.output_tokens, o.retries
        _count(flow.outcomes, outcome)
        if decision is not None:
            _count(flow.decisions, decision)
        if retries:
            flow.retries += retries
        if inputs is not None:
            flow.input_tokens += inputs
        if outputs is not None:
            flow.output_tokens += outputs
        if ttft_s is not None:
            _spread(flow.ttft, TTFT_S, ttft_s)
        if tpot_s is not None:
            _spread(flow.tpot, TPOT_S, tpot_s)
        if outcome is OK:
            self._sized(o.bucket, inputs or o.estimated_input, outputs or 1)

    def _sized(self, bucket: int, inputs: int, outputs: int) -> None:
        sizes, key = self._sums.sizes, (bucket, cell(FINE_EDGES, FINE_EDGES, inputs, outputs))
        found = sizes.get(key)
        if found is None:
            sizes[key] = (1.0, float(inputs), float(outputs))
        else:
            count, sum_in, sum_out = found
            sizes[key] = (count + 1.0, sum_in + inputs, sum_out + outputs)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _spread(spread: Spread, bounds: tuple[float, ...], seconds: float) -> None:
    spread.counts[bisect_left(bounds, seconds)] += 1
    spread.seconds += seconds

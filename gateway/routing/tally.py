"""What happened since the last drain, as sums: one dictionary step per request, merged by addition.

Metrics and demand are made from it beside the data path. It travels between processes as a value.
"""

from bisect import bisect_left

from gateway.routing.observation import Observation, Outcome
from gateway.routing.sums import TPOT_S, TTFT_S, Flow, Sums
from planner.demand import fine_cell


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
        outcomes, decisions = flow.outcomes, flow.decisions
        outcomes[o.outcome] = outcomes.get(o.outcome, 0) + 1
        if o.decision is not None:
            decisions[o.decision] = decisions.get(o.decision, 0) + 1
        flow.retries += o.retries
        flow.input_tokens += o.input_tokens or 0
        flow.output_tokens += o.output_tokens or 0
        if o.ttft_s is not None:
            flow.ttft.counts[bisect_left(TTFT_S, o.ttft_s)] += 1
            flow.ttft.seconds += o.ttft_s
        if o.tpot_s is not None:
            flow.tpot.counts[bisect_left(TPOT_S, o.tpot_s)] += 1
            flow.tpot.seconds += o.tpot_s
        if o.outcome is Outcome.OK:
            self._sized(o.bucket, o.input_tokens or o.estimated_input, o.output_tokens or 1)

    def _sized(self, bucket: int, inputs: int, outputs: int) -> None:
        sizes, key = self._sums.sizes, (bucket, fine_cell(inputs, outputs))
        count, sum_in, sum_out = sizes.get(key, (0.0, 0.0, 0.0))
        sizes[key] = (count + 1.0, sum_in + inputs, sum_out + outputs)

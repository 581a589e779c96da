"""How long a fleet must be played before the play proves anything.

A request stays for its TTFT and for its output times the pace of its tokens. What a fleet does
about a load shows only after its requests have come and gone several times: shorter plays called
fleets for long answers safe that lost half of their requests an hour later. So a play begins with a
fleet as full as its promises allow (the requests of `history_s` before it that would still be
there), and lasts for several of the longest stays. Must not know plans, engines or routers.
"""

from dataclasses import dataclass, replace

import numpy as np

from planner.model.demand import Demand
from planner.sizes import FloatArray
from planner.slo import Slo

LEAST_S = 300.0  # bursts of real traffic last for minutes, whatever the requests
STAYS = 3.0  # of the counted part, in longest stays
LONG = 0.99  # the quantile that is called the longest stay
REQUESTS = 3000  # counted at least: with fewer one burst decides


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayLength:
    """The parts of a play, in seconds.

    history_s: before the start; requests of it that are still in flight fill the fleet. lead_s: not
    counted, while the fleet comes down from full to its usual load. counted_s: what is judged.
    tail_s: not counted; requests still arrive, so that the last counted ones meet a usual load.
    """

    history_s: float
    lead_s: float
    counted_s: float
    tail_s: float

    @property
    def total_s(self) -> float:
        """From the first request of the history to the last of the tail."""
        return self.history_s + self.lead_s + self.counted_s + self.tail_s

    def longer(self, factor: float) -> "PlayLength":
        """The same play with `factor` times the time to settle and to count."""
        return replace(self, lead_s=self.lead_s * factor, counted_s=self.counted_s * factor)


def play_length(
    demand: Demand, *, requests: int = REQUESTS, least_s: float = LEAST_S
) -> PlayLength:
    """The length of a play of a demand: at its slowest pace within the SLOs, every token takes the
    TPOT target. requests, least_s: lower bounds of the counted part.
    """
    longest_s, mean_s = _stays(demand)
    rate = demand.total_rate
    counted_s = max(least_s, STAYS * longest_s, requests / rate if rate else 0.0)
    # Two mean stays after the last counted arrival nearly all of these requests have ended.
    return PlayLength(history_s=longest_s, lead_s=mean_s, counted_s=counted_s, tail_s=2 * mean_s)


def stay_s(outputs: FloatArray, slo: Slo) -> FloatArray:
    """(N,) seconds for which requests of (N,) output tokens stay if they just keep their SLO."""
    return np.asarray(slo.ttft_s + outputs * slo.tpot_s)


def _stays(demand: Demand) -> tuple[float, float]:
    """The longest stay of any class, and the longest mean stay."""
    buckets, longest_s, mean_s = demand.buckets, 0.0, 0.0
    weight = demand.rate[demand.bucket] * demand.share
    for number, slo_class in enumerate(buckets.classes):
        rows = (demand.bucket // buckets.grid.cells == number) & (weight > 0)
        if not rows.any():
            continue
        stays = stay_s(demand.output_tokens[rows], slo_class.slo)
        order = np.argsort(stays)
        share = np.cumsum(weight[rows][order]) / weight[rows].sum()
        long = min(int(np.searchsorted(share, LONG)), len(order) - 1)
        longest_s = max(longest_s, float(stays[order[long]]))
        mean_s = max(mean_s, float(stays @ weight[rows] / weight[rows].sum()))
    return longest_s, mean_s

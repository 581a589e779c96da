"""The second resource of a pool: prompts queue for prefill, first come, first served.

With a tight TTFT target it is not the mean load that binds but the wait before a prompt's own
prefill. In heavy traffic a queue with y servers and work R has

    P(W > t) ≈ R/y · exp(−2 (y − R) t / ((Ca² + Cs²) E[S]))

(Kingman's exponential tail, Köllerström 1974 for several servers). S is the time that a prompt
keeps the others waiting: its own prefill, and what decodes in the same iterations. Knows nothing of
costs, shares or how they are found.
"""

from dataclasses import dataclass

import numpy as np

from planner.sizes import FloatArray, IntArray

FARTHEST = 2.0  # times the backends that the load needs: beyond, more of them do not help


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefill:
    """What n buckets ask of m pools' prefill.

    rate: (n,) requests/s. seconds, squares: (n, m) E[S] and E[S²]. slack_s: (n, m) of the TTFT
    target, beside the prompt's own prefill. burst: (n,) Ca², misses: (n,) the share that may wait
    longer.
    """

    rate: FloatArray
    seconds: FloatArray
    squares: FloatArray
    slack_s: FloatArray
    burst: FloatArray
    misses: FloatArray

    @classmethod
    def none(cls, buckets: int, pools: int) -> "Prefill":
        """Nothing asked of anyone."""
        each, both = np.zeros(buckets), np.zeros((buckets, pools))
        return cls(rate=each, seconds=both, squares=both, slack_s=both, burst=each, misses=each)

    def subproblem(self, rows: IntArray, columns: IntArray) -> "Prefill":
        """Of these buckets and pools only."""
        place = np.ix_(rows, columns)
        return Prefill(
            rate=self.rate[rows],
            seconds=self.seconds[place],
            squares=self.squares[place],
            slack_s=self.slack_s[place],
            burst=self.burst[rows],
            misses=self.misses[rows],
        )

    def raised(self, weights: FloatArray, backends: FloatArray) -> FloatArray:
        """(m,) counts, raised where too many prompts would wait too long under (n, m) weights."""
        backends = backends.copy()
        for p in np.flatnonzero((weights > 0).any(axis=0)):
            rows = np.flatnonzero(weights[:, p])
            flow = self.rate[rows] * weights[rows, p]
            most = np.ceil(FARTHEST * backends[p] + 1)
            while backends[p] < most and self._late(rows, int(p), flow, float(backends[p])):
                backends[p] += 1
        return backends

    def _late(self, rows: IntArray, p: int, flow: FloatArray, backends: float) -> bool:
        total = flow.sum()
        work, square = flow @ self.seconds[rows, p], flow @ self.squares[rows, p]
        if work <= 0 or work >= backends:
            return bool(work > 0)
        mean = work / total
        spread = (flow @ self.burst[rows]) / total * mean + square / work - mean
        waits = np.exp(-2 * (backends - work) * np.maximum(self.slack_s[rows, p], 0.0) / spread)
        return bool(work / backends * (flow @ waits) > flow @ self.misses[rows])

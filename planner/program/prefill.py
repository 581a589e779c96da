"""The second resource of a pool: prompts queue for prefill, first come, first served.

With a tight TTFT target it is not the mean load that binds but the wait before a prompt's own
prefill. In heavy traffic a queue with y servers and work R has

    P(W > t) ≈ R/y · exp(−2 (y − R) t / ((Ca² + Cs²) E[S]))

(Kingman's exponential tail; Köllerström 1974 for several servers). S is the time for which a prompt
keeps others waiting: its own prefill, and what decodes in the same iterations. This is no row of
the linear program, because the wait depends on the mix of prompt lengths in a pool; it raises the
counts of every fleet that is tried. Must not know costs, shares or how they are found.
"""

from dataclasses import dataclass

import numpy as np

from planner.sizes import FloatArray, IntArray

# Up to so many times the backends that the load needs, and one. Prompts whose own prefill takes the
# whole target have no slack: for them the formula asks for `work / misses` backends, however idle.
FARTHEST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefill:
    """What the prompts of n buckets need of the prefill of m pools.

    rate: (n,) requests/s. seconds, squares: (n, m) E[S] and E[S²]. slack_s: (n, m) what the
    prompt's own prefill leaves of the TTFT target. burst: (n,) Ca², the burstiness of arrivals.
    misses: (n,) the share of prompts that may wait longer than the slack.
    """

    rate: FloatArray
    seconds: FloatArray
    squares: FloatArray
    slack_s: FloatArray
    burst: FloatArray
    misses: FloatArray

    @classmethod
    def none(cls, buckets: int, pools: int) -> "Prefill":
        """Prompts that need no prefill: no count is raised."""
        per_bucket, per_pair = np.zeros(buckets), np.zeros((buckets, pools))
        return cls(
            rate=per_bucket,
            seconds=per_pair,
            squares=per_pair,
            slack_s=per_pair,
            burst=per_bucket,
            misses=per_bucket,
        )

    def subproblem(self, rows: IntArray, columns: IntArray) -> "Prefill":
        """The same for these buckets and pools only."""
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
        """(m,) counts, raised where too many prompts would wait too long under (n, m) shares."""
        backends = backends.copy()
        for p in np.flatnonzero((weights > 0).any(axis=0)):
            rows = np.flatnonzero(weights[:, p])
            flow = self.rate[rows] * weights[rows, p]
            most = np.ceil(FARTHEST * backends[p] + 1)
            while backends[p] < most and self._late(rows, int(p), flow, float(backends[p])):
                backends[p] += 1
        return backends

    def _late(self, rows: IntArray, p: int, flow: FloatArray, backends: float) -> bool:
        """Whether more prompts of a pool wait too long than may; flow: requests/s of each row."""
        total = flow.sum()
        work, square = flow @ self.seconds[rows, p], flow @ self.squares[rows, p]
        if work <= 0 or work >= backends:  # no prompts, or an unstable queue
            return bool(work > 0)
        mean = work / total
        # (Ca² + Cs²) E[S], with Cs² E[S] = E[S²]/E[S] − E[S].
        spread = (flow @ self.burst[rows]) / total * mean + square / work - mean
        waits = np.exp(-2 * (backends - work) * np.maximum(self.slack_s[rows, p], 0.0) / spread)
        return bool(work / backends * (flow @ waits) > flow @ self.misses[rows])

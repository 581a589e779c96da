"""How long backends take to start, by pool: what is configured at first, then what happened. Pure.

A start has phases: ordered → seen (its URL is found) → up (its first good probe) → ready (warm).
Times of starts have long tails and are never negative: their logarithms are taken as normal.
"""

from collections import deque
from collections.abc import Mapping
from math import exp, log, sqrt
from statistics import NormalDist

PHASES = ("seen", "up", "ready")
KEPT = 32  # starts that are remembered; older ones were of other images, disks and clouds
PRIOR = 2.0  # what is configured counts as so many starts
PRIOR_SPREAD = 0.3  # of the logarithm: the slowest of a hundred takes twice as long as the median
LEAST_S = 0.1


class PhaseTimes:
    """The times of one phase, or of whole starts."""

    def __init__(self) -> None:
        self._logs: deque[float] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<PhaseTimes of {len(self._logs)} starts>"

    @property
    def number(self) -> int:
        """Starts that are remembered."""
        return len(self._logs)

    def add(self, seconds: float) -> None:
        """Learn from one start."""
        self._logs.append(log(max(seconds, LEAST_S)))

    @property
    def median_s(self) -> float | None:
        """Of what happened; `None` if nothing did."""
        if not self._logs:
            return None
        return exp(sorted(self._logs)[len(self._logs) // 2])

    def blended(self, expected_s: float) -> NormalDist:
        """The logarithms, of what is expected and of what happened."""
        expected = log(max(expected_s, LEAST_S))
        weight = PRIOR + len(self._logs)
        mean = (PRIOR * expected + sum(self._logs)) / weight
        # Around the common mean the prior's distance would count as spread for ever.
        own = sum(self._logs) / len(self._logs) if self._logs else expected
        squares = sum((one - own) ** 2 for one in self._logs)
        return NormalDist(mean, sqrt((PRIOR * PRIOR_SPREAD**2 + squares) / weight))

    def state(self) -> list[float]:
        """As `restored` takes it: seconds, oldest first."""
        return [round(exp(one), 3) for one in self._logs]


class StartTimes:
    """The starts of one pool.

    expected_s: what is configured.
    """

    def __init__(self, expected_s: float) -> None:
        self.expected_s = expected_s
        self._whole = PhaseTimes()
        self._phases = {phase: PhaseTimes() for phase in PHASES}

    def __repr__(self) -> str:
        return f"<StartTimes {self.mean_s:.0f} s, {self.number} starts>"

    @property
    def number(self) -> int:
        """Whole starts that are remembered."""
        return self._whole.number

    def add(self, phases_s: Mapping[str, float | None], whole_s: float) -> None:
        """Learn from a start that came to its end.

        phases_s: seconds by phase; `None` or absent: not known. whole_s: from the order until it
        was ready.
        """
        self._whole.add(whole_s)
        for phase, seconds in phases_s.items():
            if seconds is not None:
                self._phases[phase].add(seconds)

    def quantile_s(self, share: float) -> float:
        """Seconds within which this share of the starts is ready. share: inside (0, 1)."""
        return exp(self._whole.blended(self.expected_s).inv_cdf(share))

    @property
    def mean_s(self) -> float:
        """The mean of whole starts, seconds."""
        blended = self._whole.blended(self.expected_s)
        return exp(blended.mean + blended.variance / 2)

    @property
    def phases_s(self) -> dict[str, float | None]:
        """The median of each phase, seconds; `None` where none was seen."""
        return {phase: times.median_s for phase, times in self._phases.items()}

    def state(self) -> dict[str, list[float]]:
        """What was learned, for `restored`."""
        return {"whole": self._whole.state()} | {p: t.state() for p, t in self._phases.items()}

    def restore(self, state: Mapping[str, list[float]]) -> None:
        """Learn again what an earlier process had learned."""
        for name, times in {"whole": self._whole, **self._phases}.items():
            for seconds in state.get(name, ()):
                times.add(seconds)

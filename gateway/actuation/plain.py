"""A forecast that knows only the last hour, and counts that are held for a while. Pure."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from planner.sizes import FloatArray


class LastingDemand:
    """The demand stays as it is, or goes on rising as it does."""

    def __init__(self, buckets: int) -> None:
        self._rates: deque[tuple[float, FloatArray]] = deque(maxlen=240)
        self._buckets = buckets

    def observe(self, now_s: float, rate: FloatArray) -> None:
        """As `Forecast` says."""
        self._rates.append((now_s, rate))

    def peak(self, now_s: float, horizon_s: float, quantile: float) -> FloatArray:
        """The highest rate of as much of the past as is to come, and the slope of it once more."""
        if not self._rates:
            return np.zeros(self._buckets)
        last = self._rates[-1][1]
        past = [rate for at_s, rate in self._rates if now_s - at_s <= horizon_s] or [last]
        rise: FloatArray = np.maximum(last - past[0], 0.0)
        highest: FloatArray = np.maximum.reduce(past)
        return np.maximum(highest, last + rise)


class HeldCounts:
    """Goes up at once, and down to what was needed at most within the hold."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._needed: deque[tuple[float, tuple[int, ...]]] = deque()

    def decide(
        self,
        now_s: float,
        needed: Sequence[int],
        ready: Sequence[int],
        pending: Sequence[int],
        *,
        holds: bool | Sequence[bool] = False,
    ) -> tuple[int, ...]:
        """As `CountPolicy` says."""
        have = np.add(ready, pending)
        wanted = np.where(holds, np.minimum(needed, have), needed)
        self._needed.append((now_s, tuple(wanted.tolist())))
        while now_s - self._needed[0][0] > self._hold_s:
            self._needed.popleft()
        highest = np.max([counts for _, counts in self._needed], axis=0)
        if any(need > up for need, up in zip(wanted, ready, strict=True)):
            # What replaces others is not ready: nothing goes.
            highest = np.maximum(highest, have)
        return tuple(int(count) for count in highest)

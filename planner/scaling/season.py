"""How demand usually moves over a day and over a week, learned while it runs.

Kept as growth from one slot of five minutes to the next, not as a level: the level of today is
observed, and days of another level teach the same growth. Knows no forecast.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray

SLOT_S = 300.0
DAY = 288  # slots
WEEK = 7 * DAY
# Weight of the newest day, and of the newest week, in what is remembered of a slot.
NEW_DAY = 0.35
NEW_WEEK = 0.5


class SeasonalGrowth:
    """The usual growth of the logarithm of demand between neighbouring slots, of G series.

    A slot that was never seen is taken to grow by nothing.
    """

    def __init__(self, series: int) -> None:
        self._day = np.zeros((DAY, series))
        self._week = np.zeros((WEEK, series))
        self._seen_day = np.zeros(DAY, dtype=bool)
        self._seen_week = np.zeros(WEEK, dtype=bool)
        self._slot = -1  # the slot that is filled now, counted since 1970
        self._sum = np.zeros(series)
        self._count = 0
        self._before: FloatArray | None = None  # the mean of the slot before

    def observe(self, now_s: float, level: FloatArray) -> None:
        """level: (G,) logarithm of the demand of the minute that ends now."""
        slot = int(now_s // SLOT_S)
        if slot != self._slot:
            self._close(slot)
        self._sum += level
        self._count += 1

    def interrupt(self) -> None:
        """Nothing was observed for a while: the slot that is filled now says nothing."""
        self._before, self._count, self._slot = None, 0, -1
        self._sum = np.zeros_like(self._sum)

    def growth(self, now_s: float, horizons_s: FloatArray) -> FloatArray:
        """(2, G, H), by day and by week: the most that the logarithm usually grows from now until
        some moment within each horizon; 0 where it falls.

        horizons_s: (H,) ascending seconds."""
        # In stairs, not on a slope between the middles of slots: what comes by the clock comes at
        # its beginning, and of a slope half would count as grown before it begins.
        first = int(now_s // SLOT_S)
        last = ((now_s + horizons_s) // SLOT_S).astype(int) - first  # slots after this one
        slots = np.arange(first + 1, first + 1 + last[-1])
        growths = np.stack([self._day[slots % DAY], self._week[slots % WEEK]])
        grown = np.concatenate([np.zeros((2, 1, growths.shape[2])), np.cumsum(growths, axis=1)], 1)
        most = np.maximum.accumulate(grown, axis=1)
        return np.asarray(np.moveaxis(most[:, last], 1, -1))

    def state(self) -> dict[str, Any]:
        """What was learned, as plain values."""
        return {
            "day": self._day.tolist(),
            "week": self._week.tolist(),
            "seen_day": self._seen_day.tolist(),
            "seen_week": self._seen_week.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what was learned earlier. Raises InvalidValue for another shape."""
        for name in ("day", "week", "seen_day", "seen_week"):
            mine = getattr(self, f"_{name}")
            setattr(self, f"_{name}", same_shape(state[name], mine, name))

    def _close(self, slot: int) -> None:
        """Learn from the slot that ended, if the one before it was seen too."""
        mean = self._sum / self._count if self._count else None
        if mean is not None and self._before is not None:
            grown = mean - self._before
            _learn(self._day, self._seen_day, self._slot % DAY, grown, NEW_DAY)
            _learn(self._week, self._seen_week, self._slot % WEEK, grown, NEW_WEEK)
        self._before = mean if slot == self._slot + 1 else None
        self._slot, self._count = slot, 0
        self._sum = np.zeros_like(self._sum)


def same_shape(values: Any, like: "np.ndarray[Any, Any]", name: str) -> "np.ndarray[Any, Any]":
    """The values as an array of the same shape and kind. Raises InvalidValue otherwise."""
    try:
        array = np.array(values, dtype=like.dtype)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"{name}: not an array of numbers") from error
    if array.shape != like.shape or not np.all(np.isfinite(array)):
        raise InvalidValue(f"{name}: shape {array.shape}, not {like.shape}, or not finite")
    return array


def _learn(
    table: FloatArray, seen: "np.ndarray[Any, Any]", slot: int, grown: FloatArray, weight: float
) -> None:
    table[slot] += (weight if seen[slot] else 1.0) * (grown - table[slot])
    seen[slot] = True

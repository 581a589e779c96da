"""Demand within a horizon, with the probability that it stays below: a short seasonal model.

The level of the last minutes times the growth that is usual at this time of day and week, and above
it a margin: the quantile of how far earlier demand went beyond the same expectation within the same
horizon, in units of how much demand varies now. Everything is learned while it runs; memory is
bounded. Must not know pools, nor what a request costs.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.errors import InvalidValue
from planner.scaling.season import SeasonalGrowth, same_shape
from planner.scaling.surprises import Surprises
from planner.sizes import FloatArray, IntArray

TICK_S = 60.0
HORIZONS = np.array([2, 4, 8, 16, 32, 64])  # ticks at which errors are counted
LEVEL_TICKS = 3
# Demand is taken as its logarithm, which grows alike at every level. One request a minute is the
# least that a minute can tell from nothing.
LEAST = 1 / TICK_S
VARIES_HALVED = 120.0  # ticks until an older variation counts half
VARIES_FIRST, VARIES_LEAST = 0.1, 0.01  # of the logarithm
ASSUMED = 0.25  # standard deviation of the error of the logarithm over `ASSUMED_TICKS`, at first
ASSUMED_TICKS = 8
FADES = 0.5 ** (1 / (3 * 1440))  # per tick, of what is known about the growth's use
SIGNS = 2  # of growth: by day, by week
RIDGE = 0.5  # how much use of a sign must be seen before it is believed
MIX_HALVED_S = 300.0  # until an older mix of buckets counts half
GAP_TICKS = 3  # so long without an observation is an interruption


class SeasonalForecast:
    """A `Forecast` that learns.

    Buckets of one group (by default all) are one series: the shares of the buckets in it follow
    the last minutes, and the quantile is that of their sum, as the peaks of many buckets do not
    come together. Before anything is known the margin is wide.
    """

    def __init__(self, buckets: int, groups: Sequence[int] | None = None) -> None:
        """buckets: B. groups: by bucket, number of the group, from 0 on; buckets of one model and
        class belong together. Raises InvalidValue for no buckets or other groups."""
        numbers = np.zeros(buckets, dtype=np.int64) if groups is None else np.array(groups)
        if buckets < 1 or numbers.shape != (buckets,) or numbers.min() < 0:
            raise InvalidValue(f"groups: one number ≥ 0 for each of {buckets} buckets: {groups}")
        self._group: IntArray = numbers.astype(np.int64)
        count = int(self._group.max()) + 1
        self._count = count
        self._season = SeasonalGrowth(count)
        sd = ASSUMED * np.sqrt(HORIZONS / ASSUMED_TICKS) / VARIES_FIRST
        self._surprises = Surprises(np.tile(sd, (count, 1)))
        self._varies = np.full(count, VARIES_FIRST)
        # Sums of products: of the signs of growth (by day, by week) with one
        # another, and with what demand really grew.
        self._signs = np.zeros((count, len(HORIZONS), SIGNS, SIGNS))
        self._grew = np.zeros((count, len(HORIZONS), SIGNS))
        self._expected: _Expectation | None = None
        self._recent: deque[FloatArray] = deque(maxlen=int(HORIZONS[-1]))
        self._pending: tuple[deque[_Expectation], ...] = tuple(deque() for _ in HORIZONS)
        self._tick: int | None = None
        self._last_s = 0.0
        self._mix: FloatArray = np.zeros(buckets)
        self._total: FloatArray = np.zeros(count)

    def observe(self, now_s: float, rate: FloatArray) -> None:
        """Take in what is observed now. An older observation than the last one is left out.

        Raises InvalidValue for rates of other buckets, or that are not finite and ≥ 0."""
        if rate.shape != self._mix.shape or not np.all(np.isfinite(rate)) or np.any(rate < 0):
            raise InvalidValue(f"rate: {len(self._mix)} finite numbers ≥ 0, not {rate.shape}")
        tick = int(now_s // TICK_S)
        if self._tick is not None and now_s < self._last_s:
            return
        if self._tick is not None and tick - self._tick > GAP_TICKS:
            self._interrupt()
        before = self._total
        self._total = self._summed(rate)
        if self._tick is not None and tick > self._tick:
            self._close(tick, before)
        past = 0.5 ** ((now_s - self._last_s) / MIX_HALVED_S) if self._mix.any() else 0.0
        self._mix = past * self._mix + (1 - past) * rate
        self._tick, self._last_s = tick, now_s

    def peak(self, now_s: float, horizon_s: float, quantile: float) -> FloatArray:
        """As `Forecast` has it; the sum of a group is never below what is observed now.

        Beyond 64 minutes the horizon is 64 minutes. Raises InvalidValue for a quantile outside
        (0, 1)."""
        if not 0 < quantile < 1:
            raise InvalidValue(f"the quantile must be in (0, 1): {quantile}")
        if self._expected is None:
            expected = np.log(self._total + LEAST)[:, None] + np.zeros(len(HORIZONS))
        else:
            expected = self._expected.value
        margin = self._surprises.quantile(quantile) * self._unit()[:, None]
        # More may come within a longer time.
        tops = np.maximum.accumulate(expected + margin, axis=1)
        ticks = np.clip(horizon_s / TICK_S, HORIZONS[0], HORIZONS[-1])
        after = int(np.clip(np.searchsorted(HORIZONS, ticks), 1, len(HORIZONS) - 1))
        before, behind = HORIZONS[after - 1], HORIZONS[after]
        part = (ticks - before) / (behind - before)
        top = (1 - part) * tops[:, after - 1] + part * tops[:, after]
        totals = np.maximum(np.exp(top) - LEAST, self._total)
        return np.asarray(self._shares() * totals[self._group])

    def state(self) -> dict[str, Any]:
        """What was learned, as plain values that can be written to a file."""
        return {
            "group": self._group.tolist(),
            "season": self._season.state(),
            "surprises": self._surprises.state(),
            "varies": self._varies.tolist(),
            "signs": self._signs.tolist(),
            "grew": self._grew.tolist(),
            "mix": self._mix.tolist(),
        }

    @classmethod
    def restored(
        cls, state: Mapping[str, Any], buckets: int, groups: Sequence[int] | None = None
    ) -> "SeasonalForecast":
        """A forecast that has learned what this state says. Raises InvalidValue for a state of
        other buckets or groups, or that is none."""
        fresh = cls(buckets, groups)
        try:
            if list(state["group"]) != fresh._group.tolist():
                raise InvalidValue("the state is that of other buckets")
            fresh._season.restore(state["season"])
            fresh._surprises.restore(state["surprises"])
            for name in ("varies", "signs", "grew", "mix"):
                mine = getattr(fresh, f"_{name}")
                setattr(fresh, f"_{name}", same_shape(state[name], mine, name))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidValue(f"not the state of a forecast: {error}") from error
        return fresh

    def _interrupt(self) -> None:
        """Time passed without observations: what was expected before it cannot be judged."""
        self._recent.clear()
        for pending in self._pending:
            pending.clear()
        self._expected = None
        self._season.interrupt()

    def _close(self, tick: int, before: FloatArray) -> None:
        """Take in the ticks that ended before this one. What is observed now is of the last of
        them; one that was not observed is as `before`, (G,) requests/s."""
        assert self._tick is not None
        for ended in range(self._tick, tick):
            now_s = (ended + 1) * TICK_S
            level = np.log((self._total if ended == tick - 1 else before) + LEAST)
            if self._recent:
                step = np.abs(level - _mean_level(self._recent))
                weight = 0.5 ** (1 / VARIES_HALVED)
                self._varies = weight * self._varies + (1 - weight) * step
            self._recent.append(level)
            self._surprises.fade(now_s)
            self._settle()
            self._season.observe(now_s - TICK_S / 2, level)
            self._expected = self._expect(now_s)
            for pending in self._pending:
                pending.append(self._expected)

    def _settle(self) -> None:
        """Count the errors of what was expected just one horizon ago."""
        self._signs *= FADES
        self._grew *= FADES
        due = [n for n, ticks in enumerate(HORIZONS) if len(self._pending[n]) >= ticks]
        if not due:
            return
        # The most of the last ticks, as far back as each horizon goes.
        most = np.maximum.accumulate(np.array(self._recent)[::-1], axis=0)
        top = most[HORIZONS[due] - 1].T
        then = [self._pending[n].popleft() for n in due]
        level = np.array([one.level for one in then]).T
        value = np.array([one.value[:, n] for n, one in zip(due, then, strict=True)]).T
        unit = np.array([one.unit for one in then]).T
        self._surprises.add(due, (top - value) / unit)
        signs = np.array([one.signs[..., n] for n, one in zip(due, then, strict=True)])
        signs = np.moveaxis(signs, -1, 0)  # (G, H, K)
        self._signs[:, due] += signs[..., :, None] * signs[..., None, :]
        self._grew[:, due] += signs * (top - level)[..., None]

    def _expect(self, now_s: float) -> "_Expectation":
        """What is expected after a tick."""
        level = _mean_level(self._recent)
        signs = self._season.growth(now_s, HORIZONS * TICK_S)
        value = level[:, None] + (self._uses() * np.moveaxis(signs, 0, -1)).sum(axis=-1)
        return _Expectation(level, signs, value, self._unit())

    def _uses(self) -> FloatArray:
        """(G, H, K) how much of each sign demand has really grown by: least squares with a ridge,
        so that a season which tells nothing is not believed."""
        ridged = self._signs + RIDGE * np.eye(SIGNS)
        uses = np.linalg.solve(ridged, self._grew[..., None])[..., 0]
        return np.asarray(np.clip(uses, 0.0, 1.0))

    def _summed(self, rate: FloatArray) -> FloatArray:
        """(G,) the sums of what is (B,) by bucket."""
        summed = np.bincount(self._group, weights=rate, minlength=self._count)
        return np.asarray(summed, dtype=np.float64)

    def _unit(self) -> FloatArray:
        """(G,) how much the logarithm of demand varies now from minute to minute."""
        return np.asarray(np.maximum(self._varies, VARIES_LEAST))

    def _shares(self) -> FloatArray:
        """(B,) the share of each bucket in its group; equal ones where nothing came."""
        sums = self._summed(self._mix)
        sizes = np.bincount(self._group, minlength=self._count)
        known = sums[self._group] > 0
        even = 1.0 / np.maximum(sizes, 1)[self._group]
        shares = self._mix / np.maximum(sums[self._group], 1e-300)
        return np.asarray(np.where(known, shares, even))


class _Expectation:
    """What was expected at one moment, by group and horizon; to be compared with what came."""

    __slots__ = ("level", "signs", "unit", "value")

    def __init__(
        self, level: FloatArray, signs: FloatArray, value: FloatArray, unit: FloatArray
    ) -> None:
        self.level, self.signs, self.value, self.unit = level, signs, value, unit


def _mean_level(recent: deque[FloatArray]) -> FloatArray:
    """(G,) logarithm of the demand of the last minutes."""
    last = [recent[k] for k in range(max(0, len(recent) - LEVEL_TICKS), len(recent))]
    return np.asarray(np.log(np.mean(np.exp(last), axis=0)))

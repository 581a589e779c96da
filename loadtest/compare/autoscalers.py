"""Ways to decide how many backends to have, beside ours: what each does is named at its class.

All see what a gateway sees: the requests that came in the last minute, and their own backends.
Times are seconds; knows neither the demand to come nor how it is scored.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np

from loadtest.compare.needs import FleetNeeds
from planner.scaling.faces import Forecast
from planner.scaling.forecast import SeasonalForecast
from planner.scaling.policy import Hysteresis
from planner.scaling.quantile import demand_band

WINDOW_S = 240.0  # of AIBrix's rate: max(mean of the window, current)
TOLERANCE = 0.1  # of Kubernetes' HorizontalPodAutoscaler
SETTLE_S = 300.0  # its default stabilisation window for scaling down
STEP_BACKENDS = 4  # its default for scaling up: so many, or twice as many, each 15 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is seen at one moment.

    rate: requests/s of the last minute. ready, pending: (P,) backends. work: of all requests that
    are in engines or wait for one, in backends that they keep just full.
    """

    now_s: float
    rate: float
    ready: tuple[int, ...]
    pending: tuple[int, ...]
    work: float

    @property
    def have(self) -> tuple[int, ...]:
        """(P,) backends, those that are coming included."""
        return tuple(r + p for r, p in zip(self.ready, self.pending, strict=True))


class Autoscaler(Protocol):
    """Decides at each look."""

    def decide(self, look: Look) -> tuple[int, ...]:
        """(P,) backends to have."""


class Naive:
    """The cheapest fleet for max(mean of the last four minutes, current), at every look, as AIBrix'
    optimiser has it with the scale-down delay of its samples, which is 0 s."""

    def __init__(self, needs: FleetNeeds) -> None:
        self._needs = needs
        self._rates: deque[tuple[float, float]] = deque()

    def decide(self, look: Look) -> tuple[int, ...]:
        self._rates.append((look.now_s, look.rate))
        while self._rates[0][0] <= look.now_s - WINDOW_S:
            self._rates.popleft()
        mean = float(np.mean([rate for _, rate in self._rates]))
        return self._needs.needed(max(mean, look.rate))


class QueueDepth:
    """Kubernetes' HorizontalPodAutoscaler on the requests in flight and waiting per backend, of one
    pool.

    `ceil(current · metric / target)` within a tolerance of 0.1; pods that are not ready count with
    a metric of 0 where it would scale up; the largest wish of the last five minutes holds when it
    scales down; at most four more, or twice as many, at one look. It looks every 15 s.
    """

    def __init__(self, target: float) -> None:
        """target: requests per backend, as a share of those that keep it just full."""
        self._target = target
        self._wishes: deque[tuple[float, int]] = deque()

    def decide(self, look: Look) -> tuple[int, ...]:
        (have,) = look.have
        (ready,) = look.ready
        wish = have
        ratio = look.work / max(ready, 1) / self._target
        if ratio > 1 + TOLERANCE:
            ratio = look.work / max(have, 1) / self._target
            wish = max(have, ceil(have * ratio)) if ratio > 1 + TOLERANCE else have
        elif ratio < 1 - TOLERANCE:
            wish = max(1, ceil(ready * ratio))
        self._wishes.append((look.now_s, wish))
        while self._wishes[0][0] < look.now_s - SETTLE_S:
            self._wishes.popleft()
        settled = max(count for _, count in self._wishes)
        most = max(have + STEP_BACKENDS, 2 * have)
        return (min(wish, most) if wish > have else min(have, settled),)


class Foreseeing:
    """Ours: the cheapest fleet for a quantile of the forecast, held against noise."""

    def __init__(
        self,
        needs: FleetNeeds,
        horizon_s: float,
        quantile: float,
        *,
        forecast: Forecast | None = None,
    ) -> None:
        """horizon_s: until an order is ready, nearly always. forecast: default, a fresh one."""
        self._needs = needs
        self._horizon_s = horizon_s
        self._quantile = quantile
        self._forecast = forecast or SeasonalForecast(1)
        self._policy = Hysteresis(len(needs.pools))

    def decide(self, look: Look) -> tuple[int, ...]:
        self._forecast.observe(look.now_s, np.array([look.rate]))
        band = demand_band(self._forecast, look.now_s, self._horizon_s, self._quantile)
        upper, lower = (float(rates.sum()) for rates in band)
        holds = self._needs.holds(lower, look.have)
        return self._policy.decide(
            look.now_s,
            self._needs.needed(upper),
            look.ready,
            look.pending,
            holds=holds,
            more=None if holds else self._needs.needed_beside(upper, look.have),
        )


class Fixed:
    """Always the same fleet."""

    def __init__(self, backends: tuple[int, ...]) -> None:
        self._backends = backends

    def decide(self, look: Look) -> tuple[int, ...]:
        return self._backends


def clairvoyant_hours(
    needed: Sequence[tuple[int, ...]], step_s: float, startup_s: float
) -> tuple[float, ...]:
    """(P,) the fewest hours of backends, starts included, that provide at every step what is
    needed, (N, P): known beforehand, a start-up takes always as long.

    The k-th backend of a pool is kept over a pause that is shorter than its start, which would cost
    as much. With several pools the fleet of each step is given, so it is not the least of all.
    """
    counts = np.array(needed)
    return tuple(
        sum(_hours(counts[:, pool] >= k, step_s, startup_s) for k in range(1, most + 1))
        for pool, most in enumerate(counts.max(axis=0).tolist())
    )


def _hours(wanted: "np.ndarray[tuple[int], np.dtype[np.bool_]]", step_s: float, s: float) -> float:
    """Hours of one backend that is wanted at these steps and takes s seconds to start."""
    edges = np.diff(np.concatenate([[0], wanted.astype(int), [0]]))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    pauses_s = (begins[1:] - ends[:-1]) * step_s
    starts = int((pauses_s > s).sum()) + int(begins[0] > 0)
    kept_s = wanted.sum() * step_s + pauses_s[pauses_s <= s].sum()
    return float(kept_s + starts * s) / 3600


AutoscalerFor = Callable[[FleetNeeds], Autoscaler]

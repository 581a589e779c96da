"""Which quantile of demand to provide for, by the cost of too much against that of too little.

The newsvendor's: with a backend more than the quantile q, it stands idle with probability q and
saves a violation with 1 − q; both weigh the same at the best q. Must not know how a forecast comes
about.
"""

import numpy as np

from planner.errors import InvalidValue
from planner.scaling.faces import Forecast
from planner.sizes import FloatArray

LOWEST, HIGHEST = 0.5, 0.995  # a forecast knows no rarer surprises
# The lower quantile lets this many times as many surprises pass as the upper one: below it more is
# ordered, up to the upper one. Chosen on synthetic days (`cuvee scaling`).
BAND = 3.0
# So much above the middle of the forecast is always provided for: of demand that was quiet for long
# the upper quantile is so near that noise of ±5 % would begin with an order.
STEADY = 0.08


def best_quantile(over_usd_per_hour: float, under_usd_per_hour: float) -> float:
    """The quantile to provide for, q = u/(o + u).

    over_usd_per_hour: price of a backend that is not needed. under_usd_per_hour: cost of the broken
    promises of an hour in which a backend is missing. Raises InvalidValue for costs that are
    negative or both 0.
    """
    costs = over_usd_per_hour, under_usd_per_hour
    if not all(0 <= cost < float("inf") for cost in costs) or not sum(costs):
        raise InvalidValue(f"costs must be finite, ≥ 0 and not both 0: {costs}")
    return min(HIGHEST, max(LOWEST, under_usd_per_hour / sum(costs)))


def lower_quantile(upper: float) -> float:
    """The quantile that the present backends must hold, so that no more are ordered."""
    return max(LOWEST, 1 - BAND * (1 - upper))


def demand_band(
    forecast: Forecast, now_s: float, horizon_s: float, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """(B,) requests/s to provide for, and (B,) that the present backends must hold so that no more
    are ordered. horizon_s: from an order until it is ready, nearly always."""
    upper = forecast.peak(now_s, horizon_s, quantile)
    middle = forecast.peak(now_s, horizon_s, LOWEST)
    return (
        np.maximum(upper, (1 + STEADY) * middle),
        forecast.peak(now_s, horizon_s, lower_quantile(quantile)),
    )

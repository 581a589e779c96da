"""A forecast of demand whose days are shorter than a day, as demonstrations and tests play them."""

from typing import Any, Protocol

from planner.scaling.faces import Forecast
from planner.sizes import FloatArray

DAY_S = 86400.0


class LastingForecast(Forecast, Protocol):
    """A forecast that can be kept."""

    def state(self) -> Any:
        """What was learned, as plain values."""


class ShortDays:
    """Any forecast, whose time goes so much faster that the given day is one of 24 hours."""

    def __init__(self, forecast: LastingForecast, day_s: float) -> None:
        """day_s: length of a day, seconds."""
        self._forecast = forecast
        self._pace = DAY_S / day_s

    def __repr__(self) -> str:
        return f"<ShortDays of {DAY_S / self._pace:g} s, {self._forecast!r}>"

    def observe(self, now_s: float, rate: FloatArray) -> None:
        """As `Forecast` has it."""
        self._forecast.observe(now_s * self._pace, rate)

    def peak(self, now_s: float, horizon_s: float, quantile: float) -> FloatArray:
        """As `Forecast` has it."""
        return self._forecast.peak(now_s * self._pace, horizon_s * self._pace, quantile)

    def state(self) -> Any:
        """As `LastingForecast` has it; in the forecast's own time."""
        return self._forecast.state()

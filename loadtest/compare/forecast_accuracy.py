"""Our forecast beside those of a library, on recorded days: error at the quantile, and CPU.

    python -m loadtest.compare.forecast_accuracy

The library is no dependency: it is found where `pip install statsforecast` was run. What is
forecast is the highest minute within a horizon, at one quantile; the error is the pinball loss,
relative to the mean demand. Knows no fleet.
"""

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from loadtest.compare.rates import DAY, SHAPE, recorded_days
from planner import shipped
from planner.scaling.forecast import SeasonalForecast
from planner.sizes import FloatArray

QUANTILE = 0.95
LEVEL = 90  # of the library's two-sided interval, whose upper end is the same quantile
FIRST_DAY = 7  # scored from here on; what was before can be learned from
MODELS: dict[str, tuple[str, dict[str, Any], float]] = {  # days that each is fitted to
    "AutoETS": ("AutoETS", {"season_length": 1}, 1.0),
    "AutoARIMA": ("AutoARIMA", {"season_length": 1, "max_p": 3, "max_q": 3}, 1.0),
    "SeasonalNaive": ("SeasonalNaive", {"season_length": DAY}, 7.0),
    "MSTL + AutoETS": ("MSTL", {"season_length": DAY}, 7.0),
}

Peak = Callable[[int], float]  # the forecast at a minute


def pinball(peaks: FloatArray, tops: FloatArray, quantile: float) -> float:
    """The mean pinball loss of forecasts of a quantile."""
    missing = tops - peaks
    return float(np.mean(np.maximum(quantile * missing, (quantile - 1) * missing)))


def library_peaks(model: str, rate: FloatArray, minutes: int) -> Peak:
    """The library's forecast, fitted anew each time. Exits if it is not installed."""
    name, settings, days = MODELS[model]
    try:
        models = import_module("statsforecast.models")
    except ImportError:
        raise SystemExit("statsforecast is not installed here: pip install statsforecast") from None
    if name == "MSTL":
        settings = settings | {"trend_forecaster": models.AutoETS(model="ZZN")}

    def peak(minute: int) -> float:
        known = rate[max(0, minute - int(days * DAY)) : minute]
        ahead = getattr(models, name)(**settings).forecast(y=known, h=minutes, level=[LEVEL])
        return float(max(np.max(ahead[f"hi-{LEVEL}"]), rate[minute - 1]))

    return peak


def our_peaks(rate: FloatArray, minutes: int) -> Peak:
    """Our forecast, which watches every minute once."""
    forecast, watched = SeasonalForecast(1), 0

    def peak(minute: int) -> float:
        nonlocal watched
        while watched < minute:
            forecast.observe(60.0 * (watched + 1), rate[watched : watched + 1])
            watched += 1
        return float(forecast.peak(60.0 * minute, 60.0 * minutes, QUANTILE)[0])

    return peak


def level_peaks(rate: FloatArray, minutes: int) -> Peak:
    """The mean of the last three minutes, and a half more: what a person would set."""
    return lambda minute: float(1.5 * rate[minute - 3 : minute].mean())


def score(name: str, peak: Peak, rate: FloatArray, minutes: int, every: int) -> str:
    """A line of the table: loss, share of the tops below the forecast, mean of the forecasts over
    that of the tops, CPU of one forecast and of watching the minutes since the last one."""
    at = range(FIRST_DAY * DAY, len(rate) - minutes, every)
    peak(at[0] - every)  # what was before, and what is compiled at the first call
    began_s = time.process_time()
    peaks = np.array([peak(minute) for minute in at])
    took_s = (time.process_time() - began_s) / len(at)
    tops = np.array([rate[minute : minute + minutes].max() for minute in at])
    mean = rate.mean()
    covered = float(np.mean(tops <= peaks))
    return (
        f"{name:<16} {pinball(peaks, tops, QUANTILE) / mean:8.4f} {covered:8.1%} "
        f"{peaks.mean() / tops.mean():8.3f} {took_s * 1e3:10.1f}"
    )


def main() -> None:
    """Print the table for two horizons."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--every", type=int, default=61, help="Minutes between forecasts.")
    options.add_argument("--seed", type=int, default=2)
    options.add_argument("--model", action="append", choices=MODELS, help="Default: all.")
    given = options.parse_args()
    rate = recorded_days(shipped.folder() / "rates" / SHAPE, given.seed)
    rate = np.random.default_rng(given.seed).poisson(rate * 60) / 60
    for minutes in (5, 12):
        print(f"within {minutes} min      loss/mean   below  forecast/top   CPU ms")
        ours: dict[str, Peak] = {
            "ours": our_peaks(rate, minutes),
            "level × 1.5": level_peaks(rate, minutes),
        }
        for name, peak in ours.items():
            print(score(name, peak, rate, minutes, given.every), flush=True)
        for name in given.model or MODELS:
            peak = library_peaks(name, rate, minutes)
            print(score(name, peak, rate, minutes, given.every), flush=True)


if __name__ == "__main__":
    main()

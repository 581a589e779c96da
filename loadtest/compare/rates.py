"""Requests per second, minute by minute, over many days: recorded ones and made ones.

Chance is a seed. Knows no fleet.
"""

import csv
from pathlib import Path

import numpy as np

from planner.sizes import FloatArray

DAY = 1440  # minutes
DAYS = 14
SHAPE = "servegen-m-large.csv"  # of the recorded days, in configs/rates
MOST_SPREAD = 1.0  # of a minute's rate; a few windows of the source have gaps of half an hour


def recorded_days(path: Path, seed: int, *, smooth: bool = False) -> FloatArray:
    """(N,) the rate of every minute of recorded windows of ten minutes.

    path: CSV with `requests_per_s` and `rate_weighted_client_cv`. smooth: a straight line from the
    middle of a window to that of the next; otherwise the rate of a window holds from its beginning
    to its end, as the authors' own generator has it. Minutes vary within a window as counts of a
    renewal process with that CV do: variance CV²/(60·rate) of the square of the mean, each minute
    by itself, Gamma-distributed.
    """
    with path.open(newline="") as lines:
        rows = [
            (float(row["requests_per_s"]), float(row["rate_weighted_client_cv"]))
            for row in csv.DictReader(lines)
        ]
    rate, cv = np.array(rows).T
    minutes = np.arange(10 * len(rate))
    middles = 10.0 * np.arange(len(rate)) + 4.5
    mean = np.interp(minutes, middles, rate) if smooth else np.repeat(rate, 10)
    spread = np.minimum(np.square(np.repeat(cv, 10)) / (60 * mean), MOST_SPREAD)
    return np.asarray(mean * np.random.default_rng(seed).gamma(1 / spread, spread))


def made_days(seed: int, days: int = DAYS) -> FloatArray:
    """(N,) the rate of every minute of days with a curve, weekends, drift and shocks; mean ~100.

    The curve has a peak of three times its trough; the level of a day varies by 8 %; drift is an
    AR(1) process of 5 % over a quarter of an hour; three times in two days a shock of 10 to 50 %
    comes within five minutes and fades over half an hour.
    """
    rng = np.random.default_rng(seed)
    minutes = np.arange(days * DAY)
    curve = 1 + 0.5 * np.sin(2 * np.pi * (minutes / DAY - 0.3))
    curve += 0.12 * np.sin(4 * np.pi * (minutes / DAY - 0.1))
    weekend = np.where((minutes // DAY) % 7 >= 5, 0.65, 1.0)
    level = np.repeat(np.exp(rng.normal(0, 0.08, days)), DAY)
    keep = np.exp(-1 / 15)
    drift, draws = np.zeros(len(minutes)), rng.normal(0, 1, len(minutes))
    for minute in range(1, len(minutes)):
        drift[minute] = keep * drift[minute - 1] + draws[minute] * np.sqrt(1 - keep * keep)
    rate = 100 * curve * weekend * level * np.exp(0.05 * drift)
    for start in rng.choice(len(minutes), rng.poisson(1.5 * days), replace=False):
        size, length = rng.uniform(0.1, 0.5), rng.exponential(30) + 10
        since = np.arange(len(minutes) - start)
        fading = np.exp(-np.maximum(0, since - 5) / length)
        rate[start:] *= 1 + size * np.minimum(1, since / 5) * fading
    return np.asarray(rate)

"""Days that pass in minutes are learned as real ones are."""

import numpy as np
import pytest

from planner.scaling.forecast import SeasonalForecast
from planner.scaling.short_day import DAY_S, ShortDays


def test_a_day_of_minutes_is_learned_as_one_of_hours():
    """The same demand, minute by minute of the day, gives the same expectation."""
    short_s = 360.0
    real, short = SeasonalForecast(1), ShortDays(SeasonalForecast(1), short_s)
    for minute in range(2 * 1440):
        rate = np.array([10.0 + 8.0 * np.sin(2 * np.pi * minute / 1440)])
        real.observe(60.0 * minute, rate)
        short.observe(60.0 * minute * short_s / DAY_S, rate)
    now_s = 60.0 * (2 * 1440 - 1)

    expected = real.peak(now_s, 600.0, 0.9)
    found = short.peak(now_s * short_s / DAY_S, 600.0 * short_s / DAY_S, 0.9)

    assert found == pytest.approx(expected)
    assert short.state() == real.state()

"""Forecasts are scored alike: at the quantile, on what each could know."""

import numpy as np
import pytest

from loadtest.compare.forecast_accuracy import level_peaks, library_peaks, our_peaks, pinball


def test_the_pinball_loss_is_least_at_the_quantile():
    """Of all constant forecasts the quantile itself costs least."""
    tops = np.random.default_rng(1).gamma(5, 2, 5000)
    best = float(np.quantile(tops, 0.95))

    losses = [pinball(np.full(5000, best * f), tops, 0.95) for f in (0.8, 1.0, 1.2)]

    assert losses[1] == min(losses)


def test_ours_knows_only_the_minutes_before():
    """What comes after the moment of the forecast does not change it."""
    rate = np.random.default_rng(1).gamma(50, 2, 300)
    other = np.concatenate([rate[:200], np.zeros(100)])

    assert our_peaks(rate, 5)(200) == our_peaks(other, 5)(200)
    assert level_peaks(rate, 5)(200) == level_peaks(other, 5)(200)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    """A line with the command, no traceback."""
    monkeypatch.setitem(__import__("sys").modules, "statsforecast.models", None)

    with pytest.raises(SystemExit, match="pip install statsforecast"):
        library_peaks("AutoETS", np.ones(10), 5)

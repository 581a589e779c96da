"""The forecast covers what it says, learns the day, and survives restarts."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest

from planner.errors import InvalidValue
from planner.scaling.forecast import SeasonalForecast

DAY = 1440


def noisy_days(days: float, *, seed: int = 1, swing: float = 0.5, noise: float = 0.05):
    """(N,) requests/s by minute: a daily curve, and noise that lasts for some minutes."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(int(days * DAY))
    drift = np.zeros(len(minutes))
    for minute, draw in enumerate(rng.normal(0, noise * 0.3, len(minutes) - 1)):
        drift[minute + 1] = 0.95 * drift[minute] + draw
    return 100 * (1 + swing * np.sin(2 * np.pi * minutes / DAY)) * np.exp(drift)


def watch(forecast, rates, first: int = 0):
    for minute, rate in enumerate(np.atleast_2d(np.transpose(rates)).T, start=first + 1):
        forecast.observe(60.0 * minute, np.asarray(rate))


def test_the_quantile_covers_what_it_says():
    """Of the next eight minutes' peaks, as many as the quantile says stay below the forecast."""
    rates = noisy_days(2.5)
    forecast = SeasonalForecast(1)
    below: dict[float, list[bool]] = {0.8: [], 0.95: []}
    for minute, rate in enumerate(rates, start=1):
        forecast.observe(60.0 * minute, np.array([rate]))
        if DAY < minute < len(rates) - 8:
            for quantile, stayed in below.items():
                peak = forecast.peak(60.0 * minute, 480.0, quantile)[0]
                stayed.append(rates[minute : minute + 8].max() <= peak)

    for quantile, stayed in below.items():
        assert np.mean(stayed) == pytest.approx(quantile, abs=0.04)


def test_it_starts_wide_and_narrows():
    """Before anything is known twice as much may come; of steady demand much less later."""
    forecast = SeasonalForecast(1)
    forecast.observe(60.0, np.array([10.0]))
    first = forecast.peak(60.0, 600.0, 0.95)[0]
    watch(forecast, np.full(DAY, 10.0), 1)

    assert first > 14
    assert 10 <= forecast.peak(60.0 * (DAY + 1), 600.0, 0.95)[0] < 11


def test_never_below_what_is_observed_now():
    """A jump that no error of the past covers counts at once, and again a minute later."""
    forecast = SeasonalForecast(2)
    watch(forecast, np.tile([10.0, 30.0], (300, 1)))
    forecast.observe(60.0 * 301, np.array([40.0, 120.0]))

    assert forecast.peak(60.0 * 301, 300.0, 0.6).sum() >= 160.0


def test_it_knows_the_hour_that_always_grows():
    """Demand that doubles at the same time every day is expected there, and only there."""
    minutes = np.arange(3 * DAY + 595)
    rates = np.where((minutes % DAY >= 600) & (minutes % DAY < 900), 80.0, 40.0)
    forecast = SeasonalForecast(1)
    watch(forecast, rates[: 3 * DAY + 300])
    elsewhere = forecast.peak(60.0 * (3 * DAY + 300), 1800.0, 0.5)[0]
    watch(forecast, rates[3 * DAY + 300 :], 3 * DAY + 300)

    before = forecast.peak(60.0 * len(rates), 1800.0, 0.5)[0]

    assert elsewhere < 45 < 60 < before


def test_more_may_come_within_a_longer_time_and_with_less_doubt():
    """The forecast grows with the horizon and with the quantile."""
    forecast = SeasonalForecast(1)
    watch(forecast, noisy_days(1))
    now_s = 60.0 * DAY

    by_horizon = [forecast.peak(now_s, s, 0.9)[0] for s in (120, 300, 900, 3600, 9000)]
    by_quantile = [forecast.peak(now_s, 600, q)[0] for q in (0.5, 0.8, 0.9, 0.99)]

    assert all(a <= b for a, b in pairwise(by_horizon))
    assert all(a < b for a, b in pairwise(by_quantile))


def test_groups_are_forecast_apart_and_buckets_by_their_share():
    """One group's demand says nothing about the other's; inside a group the mix is kept."""
    forecast = SeasonalForecast(3, groups=(0, 0, 1))
    rates = np.stack([np.full(600, 30.0), np.full(600, 10.0), noisy_days(1)[:600]], axis=1)
    watch(forecast, rates)

    peak = forecast.peak(60.0 * 600, 600.0, 0.9)

    assert peak[0] == pytest.approx(3 * peak[1])
    assert peak[:2].sum() < 45
    assert peak[2] > rates[-1, 2]


def test_what_was_learned_survives_a_restart():
    """A forecast that is restored from its state, written and read, says what it said."""
    forecast = SeasonalForecast(2)
    rates = np.stack([noisy_days(2), noisy_days(2, seed=2)], axis=1)
    watch(forecast, rates)
    written = msgspec.json.encode(forecast.state())

    again = SeasonalForecast.restored(msgspec.json.decode(written), 2)
    last = rates[-1]
    for minute in range(2 * DAY + 30, 2 * DAY + 40):  # half an hour later
        for one in (forecast, again):
            one.observe(60.0 * minute, last)
    now_s = 60.0 * (2 * DAY + 39)

    assert len(written) < 200_000
    np.testing.assert_allclose(
        again.peak(now_s, 600, 0.9), forecast.peak(now_s, 600, 0.9), rtol=1e-3
    )


@pytest.mark.parametrize("state", [{}, {"group": [0, 1]}, {"group": 3}, [], None])
def test_a_state_of_something_else_is_refused(state):
    """Other buckets, or no state at all: InvalidValue, so that the caller begins anew."""
    with pytest.raises(InvalidValue):
        SeasonalForecast.restored(state, 2)


def test_a_state_with_broken_numbers_is_refused():
    """Of another shape, or not finite."""
    state = SeasonalForecast(1).state()

    for key, value in (("varies", [0.1, 0.2]), ("grew", "x"), ("mix", [float("nan")])):
        with pytest.raises(InvalidValue):
            SeasonalForecast.restored({**state, key: value}, 1)


def test_an_interruption_teaches_nothing():
    """Hours without observations are neither errors nor growth: the margin stays."""
    steady = SeasonalForecast(1)
    watch(steady, np.full(300, 10.0))
    before = steady.peak(60.0 * 300, 600, 0.9)[0]

    steady.observe(60.0 * 1000, np.array([40.0]))
    watch(steady, np.full(30, 40.0), 1000)

    assert steady.peak(60.0 * 1030, 600, 0.9)[0] == pytest.approx(4 * before, rel=0.05)


def test_no_demand_needs_hardly_anything():
    """After hours without a request, less than one a second is expected."""
    forecast = SeasonalForecast(1)
    watch(forecast, np.zeros(600))

    assert forecast.peak(60.0 * 600, 600, 0.95)[0] < 0.1


def test_observations_every_few_seconds_count_as_those_of_minutes():
    """The loop may look more often than once a minute; what is learned is the same."""
    rates = noisy_days(0.5)
    each, often = SeasonalForecast(1), SeasonalForecast(1)
    watch(each, rates)
    for minute, rate in enumerate(rates, start=1):
        for second in (0, 15, 30, 45):
            often.observe(60.0 * minute + second, np.array([rate]))
    now_s = 60.0 * len(rates) + 45

    assert often.peak(now_s, 600, 0.9)[0] == pytest.approx(each.peak(now_s, 600, 0.9)[0])


@pytest.mark.parametrize("rate", [[1.0], [1.0, np.nan], [1.0, -1.0]])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(InvalidValue):
        SeasonalForecast(2).observe(0.0, np.array(rate))


@pytest.mark.parametrize("quantile", [0.0, 1.0])
def test_a_quantile_that_is_none_is_refused(quantile: float):
    with pytest.raises(InvalidValue):
        SeasonalForecast(1).peak(0.0, 60.0, quantile)


@pytest.mark.parametrize("groups", [(0,), (0, -1)])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(InvalidValue):
        SeasonalForecast(2, groups)

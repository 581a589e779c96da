"""How long a start takes, as far as is known."""

import pytest

from gateway.actuation.startup import KEPT, StartTimes


def test_without_a_start_it_is_what_is_configured():
    """The mean is near it, and the quantile for a horizon is above; no phase is known."""
    times = StartTimes(180.0)

    assert times.mean_s == pytest.approx(180.0, rel=0.1)
    assert 200.0 < times.quantile_s(0.9) < 360.0
    assert times.phases_s == {"seen": None, "up": None, "ready": None}


def test_what_happened_takes_the_place_of_what_was_configured():
    """Starts that take eight minutes instead of three are believed after a few."""
    times = StartTimes(180.0)
    for seconds in (470.0, 500.0, 480.0, 490.0, 460.0, 485.0):
        times.add({"seen": 60.0, "up": seconds - 70.0, "ready": None}, seconds)

    assert 350.0 < times.mean_s < 500.0
    assert times.quantile_s(0.95) > 440.0
    assert times.phases_s["seen"] == pytest.approx(60.0)
    assert times.phases_s["ready"] is None


def test_the_more_starts_vary_the_longer_is_the_horizon():
    """Of the same mean, more or less."""
    steady, wild = StartTimes(100.0), StartTimes(100.0)
    for number in range(20):
        steady.add({}, 100.0)
        wild.add({}, 40.0 if number % 2 else 250.0)

    assert wild.quantile_s(0.9) > 2 * steady.quantile_s(0.9)


def test_memory_is_bounded_and_old_starts_are_forgotten():
    """After as many new ones as are kept, nothing of the old ones is left."""
    times, fresh = StartTimes(100.0), StartTimes(100.0)
    for _ in range(100):
        times.add({"seen": 900.0}, 1000.0)
    for one in (times, fresh):
        for _ in range(KEPT):
            one.add({"seen": 20.0}, 50.0)

    assert times.number == KEPT
    assert times.quantile_s(0.9) == pytest.approx(fresh.quantile_s(0.9))


def test_what_was_learned_survives_a_restart():
    """State and back is the same."""
    times, again = StartTimes(100.0), StartTimes(100.0)
    for seconds in (50.0, 60.0, 70.0):
        times.add({"seen": seconds / 2, "up": None}, seconds)
    again.restore(times.state())

    assert again.quantile_s(0.9) == pytest.approx(times.quantile_s(0.9), rel=1e-3)
    assert again.phases_s["seen"] == pytest.approx(30.0, rel=1e-3)

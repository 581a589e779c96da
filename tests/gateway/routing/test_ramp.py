"""Room that is given out evenly: a bound on how fast some requests may fill a pool."""

import pytest

from gateway.routing.ramp import BURST, Ramp


def test_a_pool_is_filled_in_the_time_that_its_requests_stay():
    """Asked for as much as possible, the load reaches 1 after `fill_s`."""
    ramp, load, now_s = Ramp(10.0), 0.0, 0.0
    while load < 1.0:
        load += 0.01 if ramp.allows(load, 0.01, now_s) else 0.0
        now_s += 0.01

    assert now_s == pytest.approx(10.0, rel=0.05)


def test_an_idle_pool_takes_any_request():
    """A request larger than the burst does not wait for ever."""
    assert Ramp(10.0).allows(0.0, 0.9, 0.0)


def test_a_large_request_has_its_turn_in_time():
    """What is more than the burst fits after as long as it takes to fill so much."""
    ramp = Ramp(10.0)
    ramp.allows(0.5, 0.01, 100.0)

    assert not ramp.allows(0.5, 0.3, 101.0)
    assert ramp.allows(0.5, 0.3, 103.0)


def test_a_short_burst_fits_at_any_load():
    """At a steady load the next few requests are placed at once, more of them are not."""
    ramp = Ramp(10.0)
    for now_s in range(100):
        ramp.allows(0.6, 0.01, float(now_s))

    assert ramp.allows(0.6, BURST, 100.0)
    assert not ramp.allows(0.6 + BURST, 0.01, 100.01)


def test_what_goes_before_is_followed():
    """Load that others brought is where the ramp goes on from, and load that ended is given up."""
    ramp = Ramp(10.0)
    ramp.allows(0.9, 0.01, 100.0)
    ramp.allows(0.2, 0.01, 101.0)

    assert not ramp.allows(0.2, 0.2, 101.0)
    assert ramp.allows(0.2, BURST, 105.0)

"""Engines that sleep are played as the gateway treats them, and paid for as they are."""

from dataclasses import replace

import pytest

from loadtest.compare.scaling import fleet_needs, scaling_days
from loadtest.compare.sleeping import SleepingFleet, sleep_scores
from planner.scaling.sleeping import Division

NEEDS = fleet_needs(("a100",))


def test_what_is_woken_serves_in_seconds_and_what_is_started_in_minutes():
    """Both cost as those that serve; what sleeps is counted apart."""
    fleet = SleepingFleet(4, 480.0, 10.0, seed=1)

    fleet.follow(Division(awake=2, asleep=2), 0.0)
    assert (fleet.serving, fleet.asleep) == (2, 2)
    fleet.follow(Division(awake=4, asleep=1), 0.0)
    assert (fleet.present.waking, fleet.present.starting) == (2, 1)
    fleet.pass_to(60.0, 60.0)
    assert (fleet.serving, fleet.asleep, fleet.present.starting) == (4, 0, 1)
    assert (fleet.awake_s, fleet.asleep_s) == (300.0, 0.0)
    fleet.follow(Division(awake=1, asleep=2), 60.0)
    assert (fleet.present.starting, fleet.serving, fleet.asleep) == (0, 1, 2)


@pytest.mark.long
def test_sleepers_save_starts_and_dollars():
    """Half a day of made demand, with starts of eight minutes."""
    days = scaling_days("made", NEEDS, backends=8, startup_s=480.0, seed=2)
    days = replace(days, rate=days.rate[:720])
    without, some = sleep_scores(days, (0, 4), price=0.1, wake_s=10.0, quantile=0.95)

    assert (without.wakings, without.asleep_h) == (0.0, 0.0)
    assert some.usd < without.usd
    assert some.awake_h < without.awake_h
    assert some.wakings > 0

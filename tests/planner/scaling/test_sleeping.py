"""How many are awake, how many sleep, how many run; and whether sleep pays."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InvalidValue
from planner.scaling.sleeping import (
    Division,
    Present,
    SleepRent,
    SleepSteps,
    SleepTerms,
    divided,
    fleet_usd,
    steps,
    within_shared,
)

COUNT = st.integers(0, 20)


def terms(asleep_usd: float = 0.5, most: int = 3) -> SleepTerms:
    return SleepTerms(usd_per_hour=2.0, asleep_usd_per_hour=asleep_usd, most=most, start_h=0.1)


def present(serving: int, asleep: int = 0, *, waking: int = 0, starting: int = 0) -> Present:
    return Present(serving=serving, waking=waking, starting=starting, asleep=asleep)


@given(total=COUNT, awake=COUNT)
def test_without_sleepers_all_that_is_needed_is_awake(total, awake):
    """As if there were no sleep: the number is that until a start would be over."""
    assert divided(total, awake, 0) == Division(awake=total, asleep=0)


@given(total=COUNT, awake=COUNT, most=COUNT)
def test_awake_and_asleep_are_what_is_needed_until_a_start_is_over(total, awake, most):
    """No more sleep than may, and none that is needed sooner."""
    made = divided(total, awake, most)

    assert made.total == total
    assert made.asleep <= most
    assert made.awake >= min(awake, total)
    assert made.asleep == min(most, max(0, total - awake))


def test_sleep_that_saves_nothing_is_not_used():
    """At the full price one that is awake costs the same; at none it may sleep for ever."""
    assert terms(2.0).most_asleep == 0
    assert terms(2.5).most_asleep == 0
    assert terms(2.0).kept_s == 0.0
    assert terms(0.5).most_asleep == 3
    assert terms(0.0).kept_s == inf
    with pytest.raises(InvalidValue, match="asleep_usd_per_hour"):
        terms(-1.0)


def test_surplus_sleeps_until_it_has_cost_a_start():
    """A start costs 0.1 h × $2, an hour asleep $0.5: so 24 minutes, and not longer. What is needed
    again before that begins anew."""
    rent, wanted = SleepRent(), Division(awake=2, asleep=0)

    def kept(now_s, have, one=wanted):
        return rent.keep(now_s, one, have, terms())

    assert terms().kept_s == pytest.approx(1440.0)
    assert kept(0.0, 4) == Division(awake=2, asleep=2)
    assert kept(1400.0, 4) == Division(awake=2, asleep=2)
    assert kept(1450.0, 4) == wanted
    assert kept(1460.0, 4, Division(awake=4, asleep=0)) == Division(awake=4, asleep=0)
    assert kept(1470.0, 9) == Division(awake=2, asleep=3)
    assert SleepRent().keep(0.0, wanted, 4, terms(2.0)) == wanted


def test_what_is_awake_too_much_lies_down_and_what_lacks_is_woken():
    """One that starts takes minutes, so sleepers are woken beside it."""
    aim = Division(awake=3, asleep=2)

    assert steps(aim, present(5)).rest == 2
    assert steps(aim, present(5, 1)).rest == 1
    assert steps(aim, present(1, 4)).wake == 2
    assert steps(aim, present(1, 2, waking=1)).wake == 1
    assert steps(aim, present(1, 2, starting=2)).wake == 2
    assert steps(aim, present(3, 4)).stop == 2
    assert steps(aim, present(3, 2)) == SleepSteps()


def test_more_sleepers_than_may_sleep_are_woken_before_others_are_started():
    """Four sleep, one may. Nine are needed and three serve: all are woken, and two started."""
    aim = divided(9, 2, 1)

    assert steps(aim, present(3, 4)).wake == 4
    assert aim.up(0) - 3 - 4 == 2


@given(
    total=COUNT, awake=COUNT, most=COUNT, serving=COUNT, asleep=COUNT, waking=COUNT, starting=COUNT
)
def test_a_look_that_does_what_is_said_brings_what_is_to_be(
    total, awake, most, serving, asleep, waking, starting
):
    """After the steps, and with what starts and wakes ready, the next look has what was wished."""
    aim = divided(total, awake, most)
    for _ in range(3):
        there = present(serving, asleep, waking=waking, starting=starting)
        do = steps(aim, there)
        assert do.wake + do.stop <= asleep
        assert do.rest <= serving
        assert not (do.wake and do.rest)
        asleep += do.rest - do.wake - do.stop
        up = serving + waking + starting + do.wake - do.rest
        assert up >= 0
        # Of those that are up more are started, or some stopped.
        serving, waking, starting = aim.up(asleep), 0, 0

    assert (serving, asleep) == (aim.awake, aim.asleep)
    assert steps(aim, present(serving, asleep)) == SleepSteps()


def test_a_sleeper_costs_what_sleep_costs():
    """Reserved backends are paid for already, whatever they do."""

    def usd(backends, asleep, reserved=0, price=0.5):
        return fleet_usd(
            backends, asleep, usd_per_hour=2.0, asleep_usd_per_hour=price, reserved=reserved
        )

    assert usd(5, 2) == pytest.approx(7.0)
    assert usd(5, 2, reserved=4) == pytest.approx(0.5)
    assert usd(5, 0) == pytest.approx(10.0)
    assert usd(5, 2, price=9.0) == pytest.approx(10.0)


def test_what_no_pool_needs_goes_first_where_gpus_are_shared():
    """A policy wants five on three GPUs: one of each is needed, and a third is kept."""
    gpus = {"a": 1, "b": 1}

    assert within_shared({"a": 4, "b": 1}, {"a": 1, "b": 1}, gpus, 3) == {"a": 2, "b": 1}
    assert within_shared({"a": 4, "b": 2}, {"a": 1, "b": 2}, gpus, 3) == {"a": 1, "b": 2}
    assert within_shared({"a": 1, "b": 1}, {"a": 1, "b": 0}, gpus, 3) == {"a": 1, "b": 1}
    assert within_shared({"a": 2, "b": 2}, {"a": 2, "b": 2}, {"a": 1, "b": 2}, 3)["b"] <= 1


@given(st.lists(st.tuples(COUNT, COUNT, st.integers(1, 4)), max_size=4), st.integers(0, 12))
def test_no_more_gpus_are_taken_than_there_are(rows, most):
    """Nobody gets more than the policy wants."""
    awake, needed, gpus = ({str(n): row[k] for n, row in enumerate(rows)} for k in range(3))
    made = within_shared(awake, needed, gpus, most)

    assert sum(gpus[name] * count for name, count in made.items()) <= most
    assert all(0 <= count <= awake[name] for name, count in made.items())

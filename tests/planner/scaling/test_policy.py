"""Up at once, down late, and no two pools for one load."""

import numpy as np
import pytest

from planner.errors import InvalidValue
from planner.scaling.forecast import SeasonalForecast
from planner.scaling.policy import DOWN_S, SMALL_DOWN_S, Hysteresis
from planner.scaling.quantile import best_quantile, demand_band, lower_quantile

LOOK_S = 15.0


def looks(policy, seconds: float, needed, ready, pending=None, *, start_s=0.0, holds=False):
    """The answers of looks over so many seconds, with everything as it is."""
    pending = pending or [0] * len(ready)
    return [
        policy.decide(start_s + s, needed, ready, pending, holds=holds)
        for s in np.arange(0.0, seconds + 1, LOOK_S)
    ]


def test_noise_of_five_percent_for_an_hour_changes_nothing():
    """Demand that wavers by ±5 % starts and stops nothing, whatever integer it wavers around: if it
    always did, and if it was quiet for hours before."""
    for per_backend, quiet in ((9.3, 0), (9.7, 240), (10.0, 240)):
        rng = np.random.default_rng(7)
        forecast, policy, have = SeasonalForecast(1), Hysteresis(1), 12
        counts = []
        for minute in range(1, 5 * 60 + 1):
            noise = 0.05 if minute > quiet else 0.01
            now_s = 60.0 * minute
            forecast.observe(now_s, np.array([100 * (1 + rng.uniform(-noise, noise))]))
            upper, lower = (
                int(np.ceil(rates.sum() / per_backend))
                for rates in demand_band(forecast, now_s, 300, 0.95)
            )
            (have,) = policy.decide(now_s, [upper], [have], [0], holds=lower <= have)
            counts.append(have)
        assert len(set(counts[-60:])) == 1


def test_up_at_once_and_pending_counts_once():
    """What is missing is ordered at the first look, and not again while it is coming."""
    policy = Hysteresis(1)

    assert policy.decide(0.0, [5], [2], [0]) == (5,)
    assert policy.decide(15.0, [5], [2], [3]) == (5,)
    assert policy.decide(30.0, [6], [2], [3]) == (6,)


def test_between_the_quantiles_nothing_is_ordered():
    """A fleet that holds the lower quantile is left alone though the upper one needs more."""
    assert set(looks(Hysteresis(1), 3600, [6], [5], holds=True)) == {(5,)}


def test_down_only_to_the_most_that_was_needed_lately():
    """A need that comes back within the time keeps its backends; one that is gone lets them go."""
    policy = Hysteresis(1)
    looks(policy, DOWN_S, [10], [10])
    later_s = DOWN_S + LOOK_S

    after = looks(policy, 2 * DOWN_S, [4], [10], start_s=later_s)

    gone = [k * LOOK_S for k, (count,) in enumerate(after) if count < 10]
    assert gone[0] == pytest.approx(DOWN_S, abs=2 * LOOK_S)
    assert after[-1] == (4,)


def test_a_small_surplus_waits_longer():
    """One backend too many is not worth a change for half an hour."""
    answers = looks(Hysteresis(1), SMALL_DOWN_S + 60, [9], [10])

    first = next(k for k, counts in enumerate(answers) if counts == (9,))
    assert first * LOOK_S == pytest.approx(SMALL_DOWN_S, abs=2 * LOOK_S)


def test_a_policy_that_just_started_takes_nothing_away():
    """After a restart nobody knows what was needed: the time must pass first."""
    assert set(looks(Hysteresis(1), DOWN_S - LOOK_S, [1], [8])) == {(8,)}


def test_what_was_just_ordered_is_held():
    """A pool that grew does not shrink within the hold time, however little is needed."""
    policy = Hysteresis(1, down_s=60.0, small_down_s=60.0, hold_s=900.0)
    looks(policy, 120, [2], [2])
    assert policy.decide(135.0, [8], [2], [0]) == (8,)

    answers = looks(policy, 1000, [2], [8], start_s=150.0)

    first = next(k for k, counts in enumerate(answers) if counts == (2,))
    assert 150.0 + first * LOOK_S == pytest.approx(135.0 + 900.0, abs=2 * LOOK_S)


def test_another_mix_goes_up_first_and_down_later():
    """The cheap pool grows before the dear one shrinks, which stays until the cheap one serves."""
    policy = Hysteresis(2)
    answers = looks(policy, SMALL_DOWN_S, [6, 1], [0, 4], holds=True)
    assert answers[0] == (0, 4)
    assert answers[-1] == (6, 4)

    coming_s = SMALL_DOWN_S + LOOK_S
    assert set(looks(policy, 600, [6, 1], [2, 4], [4, 0], start_s=coming_s, holds=True)) == {(6, 4)}
    ready_s = coming_s + 615
    assert looks(policy, 600, [6, 1], [6, 4], start_s=ready_s, holds=True)[-1] == (6, 1)


def test_a_plan_that_wavers_between_two_pools_orders_from_one():
    """While what one pool ordered is coming and would do, the other one orders nothing for it."""
    policy = Hysteresis(2)
    assert policy.decide(0.0, [5, 1], [2, 1], [0, 0]) == (5, 1)

    for look in range(1, 40):
        needed = [2, 3] if look % 2 else [5, 1]
        answer = policy.decide(look * LOOK_S, needed, [2, 1], [3, 0], holds=True)
        assert answer == (5, 1)


def test_pools_of_other_groups_do_not_wait():
    """A model whose launch takes long does not keep another model's surplus."""
    policy = Hysteresis(2, groups=(0, 1))

    answers = looks(policy, SMALL_DOWN_S, [4, 1], [0, 5], [4, 0])

    assert answers[-1] == (4, 1)


def test_a_clock_that_was_set_back_forgets_what_was_needed():
    """What is remembered of the future says nothing; nothing is taken away for a while."""
    policy = Hysteresis(1)
    looks(policy, DOWN_S, [1], [1], start_s=10_000.0)

    assert set(looks(policy, DOWN_S - LOOK_S, [1], [4], start_s=0.0)) == {(4,)}


def test_counts_of_other_pools_are_refused():
    with pytest.raises(InvalidValue):
        Hysteresis(2).decide(0.0, [1], [1], [0])
    with pytest.raises(InvalidValue):
        Hysteresis(2, groups=(0,))


def test_the_quantile_weighs_both_costs():
    """A missing backend that costs nine times a spare one: nine of ten surprises are covered."""
    assert best_quantile(2.0, 18.0) == pytest.approx(0.9)
    assert best_quantile(5.0, 0.0) == 0.5
    assert best_quantile(0.0, 5.0) == 0.995
    assert lower_quantile(0.9) == pytest.approx(0.7)
    for costs in ((0.0, 0.0), (-1.0, 2.0), (float("inf"), 1.0)):
        with pytest.raises(InvalidValue):
            best_quantile(*costs)


def test_what_is_ordered_stands_beside_what_there_is():
    """The cheapest fleet would be another one, but what is missing now is one more of these."""
    policy = Hysteresis(2)

    assert policy.decide(0.0, [0, 3], [4, 0], [0, 0], more=[5, 0]) == (5, 0)
    assert policy.decide(15.0, [0, 3], [4, 0], [1, 0], holds=True) == (5, 0)


def test_each_group_is_short_by_itself():
    """A model whose backends do not hold gets more; that of another one, which hold, does not."""
    policy = Hysteresis(2, groups=(0, 1))

    assert policy.decide(0.0, [5, 5], [3, 3], [0, 0], holds=(True, False)) == (3, 5)


def test_the_band_is_wide_enough_for_noise():
    """Of demand that never moved, eight percent more are provided for than the middle."""
    forecast = SeasonalForecast(2)
    for minute in range(1, 600):
        forecast.observe(60.0 * minute, np.array([30.0, 10.0]))

    upper, lower = demand_band(forecast, 36_000.0, 300.0, 0.95)

    assert upper.sum() >= 1.08 * 40.0
    assert lower.sum() < 1.02 * 40.0
    assert upper[0] == pytest.approx(3 * upper[1])

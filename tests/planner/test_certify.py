"""A certificate says what rehearsals prove, and no more."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.certify import EARLY, Score, certify

PLAN = SimpleNamespace(plan_id="p")


def play(shares):
    """A rehearsal whose seed n has the n-th share of 1,000 requests."""
    return lambda plan, seed: Score(met=round(1000 * shares[seed]), requests=1000)


def test_the_interval_is_students_over_seeds():
    """Mean, 95 % interval and worst seed, against NumPy and the table's t for 15 degrees."""
    shares = list(np.linspace(0.985, 1.0, 16))

    found = certify(PLAN, play(shares), target=0.99)

    rounded = [round(1000 * s) / 1000 for s in shares]
    half = 2.131 * np.std(rounded, ddof=1) / 4
    assert found.attainment == pytest.approx(np.mean(rounded))
    assert found.low == pytest.approx(np.mean(rounded) - half)
    assert found.high == pytest.approx(min(1.0, np.mean(rounded) + half))
    assert (found.worst, found.seeds, found.requests) == (0.985, 16, 16_000)


def test_a_mean_over_the_target_is_not_enough():
    """One run far below the target widens the interval until the plan does not hold."""
    shares = [1.0] * 15 + [0.9]

    found = certify(PLAN, play(shares), target=0.99)

    assert found.attainment > 0.99
    assert not found.holds


def test_a_hopeless_plan_is_not_played_to_the_end():
    """Most fleets of a search fail at once; two seeds tell."""
    played = []

    def rehearse(plan, seed):
        played.append(seed)
        return Score(met=900, requests=1000)

    found = certify(PLAN, rehearse, target=0.99)

    assert played == list(range(EARLY))
    assert not found.holds


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.floats(0.5, 0.99))
def test_what_holds_has_its_mean_over_the_target(shares, target):
    """No certificate holds under its target, and its interval contains its mean."""
    found = certify(PLAN, play(shares), target=target, seeds=range(len(shares)))

    assert 0 <= found.low <= found.attainment + 1e-12
    assert found.attainment <= found.high + 1e-12
    assert found.worst <= found.attainment + 1e-12
    assert not found.holds or found.attainment >= target


def test_without_requests_nothing_is_missed():
    """An empty hour keeps every promise."""
    found = certify(PLAN, lambda plan, seed: Score(met=0, requests=0), target=0.99)

    assert found.holds

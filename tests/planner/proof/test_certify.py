"""A certificate says what rehearsals prove, and no more."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.model.buckets import SloClass
from planner.proof.certify import EARLY, Score, certificates, certify
from planner.slo import Slo

PLAN = SimpleNamespace(plan_id="p")


def promise(target=0.99, name="default"):
    return SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=1, attainment=target), name=name)


def score(met, requests=1000, kind=None):
    return Score(kind=kind or promise(), met=met, requests=requests)


def play(shares, target=0.99):
    """A rehearsal whose seed n has the n-th share of 1,000 requests."""
    return lambda plan, seed: (score(round(1000 * shares[seed]), kind=promise(target)),)


def test_the_interval_is_students_over_seeds():
    """Mean, 95 % interval and worst seed, against NumPy and the table's t for 15 degrees."""
    shares = list(np.linspace(0.985, 1.0, 16))

    found = certify(PLAN, play(shares))

    rounded = [round(1000 * s) / 1000 for s in shares]
    half = 2.131 * np.std(rounded, ddof=1) / 4
    assert found.attainment == pytest.approx(np.mean(rounded))
    assert found.low == pytest.approx(np.mean(rounded) - half)
    assert found.high == pytest.approx(min(1.0, np.mean(rounded) + half))
    assert (found.worst, found.seeds, found.requests) == (0.985, 16, 16_000)


def test_a_mean_over_the_target_is_not_enough():
    """One run far below the target widens the interval until the plan does not hold."""
    shares = [1.0] * 15 + [0.9]

    found = certify(PLAN, play(shares))

    assert found.attainment > 0.99
    assert not found.holds


def test_a_hopeless_plan_is_not_played_to_the_end():
    """Most fleets of a search fail at once; two seeds tell."""
    played = []

    def rehearse(plan, seed):
        played.append(seed)
        return (score(900),)

    found = certify(PLAN, rehearse)

    assert played == list(range(EARLY))
    assert not found.holds


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.floats(0.5, 0.99))
def test_what_holds_has_its_mean_over_the_target(shares, target):
    """No certificate holds under its target, and its interval contains its mean."""
    found = certify(PLAN, play(shares, target), seeds=range(len(shares)))

    assert 0 <= found.low <= found.attainment + 1e-12
    assert found.attainment <= found.high + 1e-12
    assert found.worst <= found.attainment + 1e-12
    assert not found.holds or found.attainment >= target


def test_without_requests_nothing_is_missed():
    """An empty hour keeps every promise."""
    found = certify(PLAN, lambda plan, seed: (score(0, 0),))

    assert found.holds


def test_the_certificate_is_that_of_the_class_that_is_worst_off():
    """Each class by its own target: 97 % of 99 % promised is worse than 96 % of 95 %."""
    kinds = promise(0.99, "strict"), promise(0.95, "loose")

    found = certify(PLAN, lambda plan, seed: tuple(score(m, kind=k) for m, k in zip(
        (975, 960), kinds, strict=True)))  # fmt: skip
    each = certificates(PLAN, lambda plan, seed: tuple(score(960, kind=k) for k in kinds))

    assert (found.slo_class, found.target, found.holds) == ("strict", 0.99, False)
    assert [(certificate.slo_class, certificate.holds) for certificate in each] == [
        ("strict", False),
        ("loose", True),
    ]


def test_a_class_that_does_not_hold_is_worse_than_a_narrow_one_that_does():
    """A mean over the target with an interval far below it outweighs a mean just at its target."""
    kinds = promise(0.99, "narrow"), promise(0.95, "wide")
    wide = [1000] * 15 + [700]

    found = certify(
        PLAN, lambda plan, seed: (score(990, kind=kinds[0]), score(wide[seed], kind=kinds[1]))
    )

    assert (found.slo_class, found.holds) == ("wide", False)


def test_seeds_without_a_request_of_the_class_say_nothing_of_it():
    """A class that is seldom seen is judged by the seeds in which it was."""
    found = certify(PLAN, lambda plan, seed: (score(0, 0) if seed % 2 else score(980),))

    assert (round(found.attainment, 9), found.seeds, found.holds) == (0.98, 8, False)

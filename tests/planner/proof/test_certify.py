"""A certificate says what rehearsals prove, and no more."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.model.buckets import SloClass
from planner.model.plan import Plan
from planner.proof.certify import EARLY, certificates, certify, proven
from planner.proof.score import Score
from planner.slo import Slo

PLAN = cast(Plan, SimpleNamespace(plan_id="p"))  # it is only handed to the rehearsal


def promise(target=0.99, name="default"):
    return SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=1, attainment=target), name=name)


def score(met, requests=1000, slo_class=None):
    return Score(slo_class=slo_class or promise(), met=met, requests=requests)


def play(shares, target=0.99):
    """A rehearsal whose seed n has the n-th share of 1,000 requests."""
    return lambda plan, seed: (score(round(1000 * shares[seed]), slo_class=promise(target)),)


def test_the_interval_is_students_over_seeds():
    """Mean, 95 % interval and worst seed, against NumPy and the table's t for 15 degrees."""
    shares = list(np.linspace(0.985, 1.0, 16))[::-1]

    certificate = certify(PLAN, play(shares))

    rounded = [round(1000 * s) / 1000 for s in shares]
    half = 2.131 * np.std(rounded, ddof=1) / 4
    assert certificate.attainment == pytest.approx(np.mean(rounded))
    assert certificate.low == pytest.approx(np.mean(rounded) - half)
    assert certificate.high == pytest.approx(min(1.0, np.mean(rounded) + half))
    assert (certificate.worst, certificate.seeds, certificate.requests) == (0.985, 16, 16_000)


def test_a_mean_over_the_target_is_not_enough():
    """One run far below the target widens the interval until the plan does not hold."""
    shares = [1.0] * 15 + [0.9]

    certificate = certify(PLAN, play(shares))

    assert certificate.attainment > 0.99
    assert not certificate.holds


def test_a_hopeless_plan_is_not_played_to_the_end():
    """Most fleets of a search fail at once; two seeds tell."""
    played = []

    def rehearse(plan, seed):
        played.append(seed)
        return (score(900),)

    certificate = certify(PLAN, rehearse)

    assert played == list(range(EARLY))
    assert not certificate.holds


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.floats(0.5, 0.99))
def test_what_holds_has_its_mean_over_the_target(shares, target):
    """No certificate holds under its target, and its interval contains its mean."""
    certificate = certify(PLAN, play(shares, target), seeds=range(len(shares)))

    assert 0 <= certificate.low <= certificate.attainment + 1e-12
    assert certificate.attainment <= certificate.high + 1e-12
    assert certificate.worst <= certificate.attainment + 1e-12
    assert not certificate.holds or certificate.attainment >= target


def test_without_requests_nothing_is_missed():
    """An empty hour keeps every promise."""
    certificate = certify(PLAN, lambda plan, seed: (score(0, 0),))

    assert certificate.holds


def test_the_certificate_is_that_of_the_class_that_is_worst_off():
    """Each class by its own target: 97 % of 99 % promised is worse than 96 % of 95 %."""
    classes = promise(0.99, "strict"), promise(0.95, "loose")

    worst = certify(PLAN, lambda plan, seed: tuple(score(m, slo_class=c) for m, c in zip(
        (975, 960), classes, strict=True)))  # fmt: skip
    by_class = certificates(
        PLAN, lambda plan, seed: tuple(score(960, slo_class=c) for c in classes)
    )

    assert (worst.slo_class, worst.target, worst.holds) == ("strict", 0.99, False)
    assert [(certificate.slo_class, certificate.holds) for certificate in by_class] == [
        ("strict", False),
        ("loose", True),
    ]


def test_a_class_that_does_not_hold_is_worse_than_a_narrow_one_that_does():
    """A mean over the target with an interval far below it outweighs a mean just at its target."""
    narrow, wide = promise(0.99, "narrow"), promise(0.95, "wide")
    met = [1000] * 15 + [700]

    certificate = certify(
        PLAN,
        lambda plan, seed: (score(990, slo_class=narrow), score(met[seed], slo_class=wide)),
    )

    assert (certificate.slo_class, certificate.holds) == ("wide", False)


def test_seeds_without_a_request_of_the_class_say_nothing_of_it():
    """A class that is seldom seen is judged by the seeds in which it was."""
    certificate = certify(PLAN, lambda plan, seed: (score(0, 0) if seed % 2 else score(980),))

    assert (round(certificate.attainment, 9), certificate.seeds, certificate.holds) == (
        0.98,
        8,
        False,
    )


def test_a_growing_backlog_refuses_a_fleet_that_keeps_its_promise_so_far():
    """More in flight in the second half of every play: it is a matter of time."""

    def rehearse(second):
        return lambda plan, seed: (
            Score(slo_class=promise(), met=1000, requests=1000, backlog=(100.0, second + seed)),
        )

    growing, steady = certify(PLAN, rehearse(112.0)), certify(PLAN, rehearse(92.0))

    assert (growing.attainment, growing.grows, growing.holds) == (1.0, True, False)
    assert (steady.grows, steady.holds) == (False, True)


def test_the_lower_end_of_the_interval_must_meet_the_target():
    """A mean above the target with an interval that reaches below it is no proof."""
    shares = [0.985, 0.999] * 8

    certificate = certify(PLAN, play(shares))

    assert certificate.attainment > 0.99 > certificate.low
    assert not certificate.holds


def test_one_of_many_is_proven_on_seeds_that_did_not_choose_it():
    """A few seeds choose, all of the proof are fresh; what fails the choice is not proven."""
    chosen, proving = [], []

    def choose(plan, seed):
        chosen.append(seed)
        return (score(1000),)

    def prove(plan, seed):
        proving.append(seed)
        return (score(995),)

    certificate = proven(PLAN, choose, prove, 16)
    failed = proven(PLAN, lambda plan, seed: (score(985),), prove, 16)

    assert certificate.attainment == pytest.approx(0.995)
    assert set(chosen).isdisjoint(proving)
    assert (len(chosen), len(proving)) == (4, 16)
    assert not failed.holds

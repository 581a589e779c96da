"""Refinement finds the cheapest fleet that holds, and is never dearer than a start that does."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.proof.refine import refine
from planner.proof.score import Score
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=1)),),
    grid=Grid(input_edges=(1, 2), output_edges=(1, 2)),
)
USD = (1.0, 3.5, 7.0)


def fleet(*counts):
    """A plan with so many backends, its load always what they can hold."""
    return Plan(
        plan_id=str(counts), objective="assign", buckets=BUCKETS, pools=("a", "b", "c"),
        backends=counts, weights=((1.0, 0.0, 0.0),), rate=(1.0,), seconds=((1.0,) * 3,),
        slots=((1.0,) * 3,), load=tuple(0.9 * n for n in counts), tail=(0.0,) * 3,
        usd_per_hour=sum(n * u for n, u in zip(counts, USD, strict=True)),
        lower_bound_usd_per_hour=0.0, gap=0.0, solve_s=0.0,
    )  # fmt: skip


def score(holds, slo_class=BUCKETS.classes[0]):
    return Score(slo_class=slo_class, met=1000 if holds else 900, requests=1000)


def world(power, need):
    """A rehearsal in which a fleet holds iff its summed power covers the need."""

    def rehearse(plan, seed):
        holds = sum(n * p for n, p in zip(plan.backends, power, strict=True)) >= need
        return (score(holds),)

    return rehearse


def refined_from(starts, rehearse, legal=lambda counts: True, models=("m",) * 3):
    return refine(
        starts, plan_for=lambda counts: fleet(*counts), usd=USD, models=models, legal=legal,
        rehearse=rehearse, prove=rehearse, seeds=4,
    )  # fmt: skip


def test_a_cheaper_fleet_nearby_is_found():
    """Two small ones do what one large one does: the search gets there from the large one."""
    refined = refined_from([fleet(0, 0, 1)], world((2.0, 3.0, 4.0), 4.0))

    assert refined.plan.backends == (2, 0, 0)
    assert refined.certificate.holds


def test_a_start_that_does_not_hold_is_outgrown():
    """If the program was too bold, the cheapest fleet above it that holds is the answer."""
    refined = refined_from([fleet(1, 0, 0)], world((1.0, 3.0, 6.0), 3.0))

    assert refined.plan.backends == (3, 0, 0)
    assert refined.certificate.holds


def test_without_any_fleet_that_holds_the_best_start_says_so():
    """Nothing within reach: the best start comes back, with a certificate that does not hold."""
    refined = refined_from([fleet(1, 0, 0)], world((0.0, 0.0, 0.0), 1.0))

    assert refined.plan.backends == (1, 0, 0)
    assert not refined.certificate.holds


def test_bounds_are_kept():
    """A fleet that may not be bought is not the answer."""
    refined = refined_from(
        [fleet(0, 0, 1)], world((2.0, 3.0, 4.0), 4.0), lambda counts: counts[0] <= 1
    )

    assert refined.plan.backends == (1, 1, 0)


def test_luck_on_the_first_seeds_is_not_enough():
    """A fleet that holds only on the seeds that chose it is not taken."""

    def rehearse(plan, seed):
        lucky = plan.backends == (1, 0, 0) and seed < 4
        holds = lucky or plan.backends == (0, 0, 1)
        return (score(holds),)

    assert refined_from([fleet(0, 0, 1)], rehearse).plan.backends == (0, 0, 1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 3).filter(any), min_size=1, max_size=3, unique=True),
    st.tuples(*[st.floats(0.5, 6)] * 3),
    st.floats(1, 20),
)
def test_never_dearer_than_a_start_that_holds(starts, power, need):
    """The invariant: whatever is certified among the starts bounds the cost of the answer."""
    plans, rehearse = [fleet(*counts) for counts in starts], world(power, need)

    refined = refined_from(plans, rehearse)

    certified = [p.usd_per_hour for p in plans if rehearse(p, 0)[0].share >= 0.99]
    if certified:
        assert refined.certificate.holds
        assert refined.plan.usd_per_hour <= min(certified) + 1e-9
    if refined.certificate.holds:
        assert rehearse(refined.plan, 0)[0].share >= 0.99


def test_an_overloaded_fleet_is_not_played():
    """Peaks that never held are skipped: playing them through costs seconds each."""
    played = []

    def rehearse(plan, seed):
        played.append(plan.backends)
        return (score(True),)

    def plan_for(counts):
        plan = fleet(*counts)
        return replace(plan, load=tuple(3.0 * n for n in counts))

    refined = refine(
        [fleet(0, 0, 1)], plan_for=plan_for, usd=USD, models=("m",) * 3, legal=lambda counts: True,
        rehearse=rehearse, prove=rehearse, seeds=2,
    )  # fmt: skip

    assert set(played) == {(0, 0, 1)}
    assert refined.plan.usd_per_hour == pytest.approx(7.0)


def test_a_fleet_without_anything_to_spare_is_not_played():
    """A mean load as large as the fleet, on what is played, was never seen to hold."""
    played = []

    def rehearse(plan, seed):
        played.append(plan.backends)
        return (score(True),)

    refine(
        [fleet(0, 0, 1)], plan_for=lambda counts: fleet(*counts), usd=USD, models=("m",) * 3,
        legal=lambda counts: True, rehearse=rehearse, prove=rehearse, seeds=2, harder=1.2,
    )  # fmt: skip

    assert set(played) == {(0, 0, 1)}


def test_a_start_beyond_the_bounds_is_no_answer():
    """What holds but may not be bought bounds nothing: a dearer fleet within bounds is taken."""
    refined = refined_from(
        [fleet(2, 0, 0), fleet(0, 0, 1)], world((2.0, 3.0, 4.0), 4.0), lambda counts: counts[0] <= 1
    )

    assert refined.plan.backends == (1, 1, 0)
    assert refined.certificate.holds


def test_what_failed_for_one_model_is_not_played_again_for_another():
    """Models share no backend: one that is too small fails whatever the other has."""
    first, second = (
        SloClass(model=name, slo=Slo(ttft_s=1, tpot_s=1)) for name in ("first", "second")
    )
    played = []

    def rehearse(plan, seed):
        played.append(plan.backends)
        a, _, c = plan.backends
        return score(a >= 2, first), score(c >= 2, second)

    refined = refined_from([fleet(4, 0, 4)], rehearse, models=("first", "first", "second"))

    assert refined.plan.backends == (2, 0, 2)
    # A fleet that fails for a model is played with one partner only; the second model fails with
    # 0 and with 1 backend.
    alone = {counts[2] for counts in played if counts[2] < 2 <= counts[0]}
    assert all(sum(counts[2] == few for counts in set(played)) == 1 for few in alone)

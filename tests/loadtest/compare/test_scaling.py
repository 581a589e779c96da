"""Autoscalers are compared fairly: all see the past only, and all pay from the order on."""

from dataclasses import replace

import numpy as np
import pytest

from loadtest.compare.autoscalers import (
    Fixed,
    Foreseeing,
    Look,
    Naive,
    QueueDepth,
    clairvoyant_hours,
)
from loadtest.compare.rates import DAY, SHAPE, made_days, recorded_days
from loadtest.compare.scaling import PlayedFleet, fleet_needs, scaling_days, score, scores
from planner import shipped

NEEDS = fleet_needs(("a100",))


def days(minutes: int = 400, *, startup_s: float = 180.0, seed: int = 2):
    made = scaling_days("made", NEEDS, backends=8, startup_s=startup_s, seed=seed)
    return replace(made, rate=made.rate[:minutes])


def look(now_s: float, work: float, ready: int, pending: int = 0, rate: float = 50.0) -> Look:
    return Look(now_s=now_s, rate=rate, ready=(ready,), pending=(pending,), work=work)


def test_what_a_rate_needs_holds_it_and_one_less_does_not():
    """The requirement is the least: the cheapest fleet holds the rate, a smaller one does not."""
    for rate in (5.0, 20.0, 45.0):
        (count,) = NEEDS.needed(rate)
        assert NEEDS.holds(rate, (count,))
        assert not NEEDS.holds(rate, (count - 1,))
    assert NEEDS.needed_beside(5.0, (9,)) == (9,)


def test_a_second_pool_is_not_scaled_for_what_the_first_one_has():
    """Beside three H100 that hold the rate nothing is missing, whatever fleet would be cheapest."""
    needs = fleet_needs(("a10g", "h100"))
    rate = 30.0

    assert needs.needed_beside(rate, (0, 3)) == (0, 3)
    assert needs.holds(rate, (0, 3))
    assert needs.needed(rate) != (0, 3) or needs.needed(3 * rate) != (0, 3)


@pytest.mark.long
def test_ours_is_short_less_often_than_the_naive_loop_and_cheaper_than_a_fixed_fleet():
    """Hours in which demand grows and falls: between the two in both."""
    played = days()
    knowing, ours, naive, hpa, static = scores(played)

    assert [row.policy for row in (knowing, ours, naive, hpa, static)] == [
        "clairvoyant", "cuvee 0.95", "naive", "hpa", "static p99.9",
    ]  # fmt: skip
    assert ours.short < naive.short
    assert ours.changes < naive.changes
    assert knowing.usd <= ours.usd < static.usd


@pytest.mark.long
def test_the_future_changes_nothing_before_it_comes():
    """A policy on days that go on differently has done the same until they differ."""
    played = days(200)
    other = replace(played, rate=np.concatenate([played.rate[:100], played.rate[:100]]))
    orders: list[list[tuple[int, ...]]] = []
    for case in (played, other):
        policy = Foreseeing(NEEDS, case.horizon_s, 0.95)
        seen: list[tuple[int, ...]] = []
        orders.append(seen)

        class Watched:
            def decide(self, look: Look, policy=policy, seen=seen):
                seen.append(policy.decide(look))
                return seen[-1]

        score("ours", Watched(), case)

    assert orders[0][:100] == orders[1][:100]


def test_a_backend_is_paid_from_its_order_and_serves_later():
    """Starting costs as much as serving; what is stopped first is what has not come."""
    fleet = PlayedFleet((2,), 120.0, seed=1)

    assert fleet.order((4,), 0.0)
    fleet.pass_to(60.0, 60.0)
    assert (fleet.ready, fleet.pending, fleet.paid_s) == ((2,), (2,), [240.0])
    fleet.order((3,), 60.0)
    assert (fleet.ready, fleet.pending) == ((2,), (1,))
    fleet.pass_to(300.0, 240.0)
    assert (fleet.ready, fleet.pending, fleet.starts) == ((3,), (0,), 2)
    assert not fleet.order((3,), 300.0)


def test_who_knows_all_keeps_a_backend_over_a_short_pause():
    """A pause shorter than a start is bridged; a longer one is not, and the start is paid."""
    needed = [(1,), (2,), (1,), (2,), *[(1,)] * 10, (2,)]

    (hours,) = clairvoyant_hours(needed, 60.0, 180.0)

    first = len(needed) * 60.0
    second = 180.0 + 3 * 60.0 + 180.0 + 60.0  # started, kept over one minute, started again
    assert hours * 3600 == pytest.approx(first + second)


def test_the_hpa_does_what_kubernetes_documents():
    """Nothing within a tenth; at once up, but not again for what is coming; down after five
    minutes."""
    hpa = QueueDepth(0.8)

    assert hpa.decide(look(0.0, 0.85 * 10, 10)) == (10,)
    assert hpa.decide(look(15.0, 1.2 * 10, 10)) == (15,)
    assert hpa.decide(look(30.0, 1.2 * 10, 10, 5)) == (15,)
    assert hpa.decide(look(45.0, 4.0, 15)) == (15,)
    assert hpa.decide(look(400.0, 4.0, 15)) == (5,)


def test_the_naive_loop_follows_every_rate():
    """The larger of the window's mean and the present rate, planned anew each time."""
    naive = Naive(NEEDS)

    assert naive.decide(look(60.0, 0.0, 1, rate=40.0)) == NEEDS.needed(40.0)
    assert naive.decide(look(120.0, 0.0, 1, rate=20.0)) == NEEDS.needed(30.0)
    assert Fixed((3,)).decide(look(0.0, 0.0, 1)) == (3,)


def test_recorded_days_keep_the_rates_of_their_windows():
    """Fourteen days; minutes vary, but not what a window brings on average."""
    path = shipped.folder() / "rates" / SHAPE
    stepped, smooth = (recorded_days(path, 1, smooth=smooth) for smooth in (False, True))

    assert len(stepped) == len(smooth) == 14 * DAY
    assert stepped.mean() == pytest.approx(195.8, rel=0.02)
    assert smooth.mean() == pytest.approx(195.8, rel=0.02)
    assert np.all(stepped >= 0)
    assert np.std(np.diff(stepped)) > 0


def test_made_days_are_those_of_their_seed():
    """The same seed makes the same days, another one others; they have a curve and weekends."""
    first, again, other = made_days(1, 7), made_days(1, 7), made_days(2, 7)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    by_hour = first.reshape(7, 24, 60).mean(axis=(0, 2))
    assert by_hour.max() > 2 * by_hour.min()
    assert first[5 * DAY :].mean() < 0.85 * first[: 5 * DAY].mean()

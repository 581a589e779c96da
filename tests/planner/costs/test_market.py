"""Commitments for given fleets, against every possible choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.costs.market import Market, Offer, best_commitments, newsvendor
from planner.errors import InvalidValue


def market(
    needs: list[list[int]],
    *,
    hours: list[int] | None = None,
    discount: float = 0.4,
    spot: float | None = None,
    spot_share: float = 0.5,
    others: int = 0,
) -> Market:
    """Hours whose needs fall from the busiest down; `others` further series of fleets."""
    fleets = -np.sort(-np.array(needs), axis=0)
    levels, types = fleets.shape
    more = [fleets[:, ::-1] + n for n in range(others)]
    offers = tuple(
        Offer(
            gpu=f"g{g}",
            usd_per_hour=1.0 + g,
            committed_usd_per_hour=(1.0 + g) * (1 - discount),
            spot_usd_per_hour=spot,
        )
        for g in range(types)
    )
    return Market(
        offers=offers,
        hours=np.array(hours or [1] * levels),
        fleets=np.concatenate([fleets, *more]),
        level=np.tile(np.arange(levels), 1 + others),
        spot_share=spot_share,
    )


def every(offered: Market) -> list[np.ndarray]:
    """Every commitment that is not plainly too many."""
    most = offered.fleets.max(axis=0)
    return [np.array(c) for c in itertools.product(*(range(int(m) + 1) for m in most))]


needs = st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), min_size=1, max_size=8)
prices = st.one_of(st.none(), st.floats(0, 1.5))


@settings(max_examples=60, deadline=None)
@given(needs, st.floats(0, 1), prices, st.floats(0, 1))
def test_with_one_fleet_per_hour_no_commitment_is_cheaper(
    asked: list[list[int]], discount: float, spot: float | None, spot_share: float
):
    """Types do not touch each other then, and the search finds the least of all choices."""
    offered = market(asked, discount=discount, spot=spot, spot_share=spot_share)

    usd = offered.usd(best_commitments(offered))

    assert usd == pytest.approx(min(offered.usd(c) for c in every(offered)), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(needs, st.floats(0, 1), prices, st.integers(1, 2))
def test_never_dearer_than_nothing_committed_nor_everything(
    asked: list[list[int]], discount: float, spot: float | None, others: int
):
    """Nor than the newsvendor; no single GPU added, dropped or swapped improves it."""
    offered = market(asked, discount=discount, spot=spot, others=others)
    levels = len(offered.hours)

    best = best_commitments(offered)
    usd = offered.usd(best)

    own = offered.fleets[:levels]
    for start in (np.zeros_like(best), own.max(axis=0), newsvendor(offered, own)):
        assert usd <= offered.usd(start) + 1e-9
    steps = [s for s in itertools.product((-1, 0, 1), repeat=2) if abs(sum(s)) <= 1]
    near = [best + np.array(step) for step in steps if np.all(best + step >= 0)]
    assert usd <= min(offered.usd(c) for c in near) + 1e-6


@pytest.mark.parametrize(("discount", "committed"), [(0.0, 1), (0.4, 2), (0.6, 3), (0.9, 4)])
def test_a_gpu_is_committed_if_enough_hours_need_it(discount: float, committed: int):
    """Needs of 1, 2, 3, 4 in equal parts: the k-th GPU is needed in 1, .75, .5, .25 of them."""
    offered = market([[1], [2], [3], [4]], hours=[10, 10, 10, 10], discount=discount)

    assert newsvendor(offered, offered.fleets).tolist() == [committed]


def test_committed_gpus_change_which_fleet_is_cheapest():
    """An hour uses a dearer mix if most of it is paid for already."""
    offered = Market(
        offers=(
            Offer(gpu="a", usd_per_hour=1.0, committed_usd_per_hour=0.5),
            Offer(gpu="b", usd_per_hour=3.0, committed_usd_per_hour=1.5),
        ),
        hours=np.array([10, 1]),
        fleets=np.array([[0, 2], [2, 0], [9, 9], [0, 1]]),
        level=np.array([0, 1, 0, 1]),
    )

    assert best_commitments(offered).tolist() == [0, 2]
    assert offered.chosen(np.array([0, 2]))[1].tolist() == [0.0, 0.0]
    assert offered.usd(np.array([0, 2])) == 2 * 1.5 * 11


def test_a_fleet_of_a_quieter_hour_never_serves_a_busier_one():
    """However cheap it is."""
    offered = market([[5], [1]])

    fleets, usd = offered.chosen(np.array([0]))

    assert fleets.tolist() == [0, 1]
    assert usd.tolist() == [5.0, 1.0]


def test_spot_is_bounded_and_only_used_where_it_is_cheaper():
    """At most the given share of a fleet, rounded down; never at a price above on demand."""
    cheap, dear = market([[5]], spot=0.1), market([[5]], spot=2.0)

    assert cheap.spot(np.array([0])).tolist() == [[2]]
    assert cheap.spot(np.array([4])).tolist() == [[1]]
    assert dear.spot(np.array([0])).tolist() == [[0]]
    assert dear.usd(np.array([0])) == 5.0


@pytest.mark.parametrize("usd", [-1.0, float("nan"), float("inf")])
def test_impossible_prices_are_refused(usd: float):
    """With the name of the GPU."""
    with pytest.raises(InvalidValue, match="g: spot_usd_per_hour"):
        Offer(gpu="g", usd_per_hour=1, committed_usd_per_hour=1, spot_usd_per_hour=usd)

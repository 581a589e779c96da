"""What each pool gets of its model's requests, by a plan."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gateway.actuation.plan_shares import capacity_shares, request_shares


def test_shares_of_a_plan_are_those_of_its_requests(mixed):
    """Weights by the demand of their buckets; they sum to 1."""
    shares = request_shares(mixed)
    sums = np.asarray(mixed.rate) @ np.asarray(mixed.weights)

    assert sum(shares.values()) == pytest.approx(1.0)
    for pool, value in zip(mixed.pools, sums, strict=True):
        assert shares.get(pool, 0.0) == pytest.approx(value / sums.sum())


def test_without_demand_all_sizes_count_alike(mixed):
    """As before the first requests."""
    idle = request_shares(replace(mixed, rate=(0.0,) * len(mixed.rate)))
    sums = np.asarray(mixed.weights).sum(axis=0)

    for pool, value in zip(mixed.pools, sums, strict=True):
        assert idle.get(pool, 0.0) == pytest.approx(value / sums.sum())


def test_pools_that_the_plan_uses_for_nothing_are_left_out(mixed):
    """So that a route of a model that is not planned stays as it is."""
    nothing = replace(mixed, weights=tuple((0.0,) * len(mixed.pools) for _ in mixed.weights))

    assert request_shares(nothing) == capacity_shares(nothing) == {}


def test_shares_by_capacity_load_all_pools_alike(mixed):
    """Each gets as much of the mean mix as its backends can take."""
    shares = capacity_shares(mixed)
    busy = [
        bucket for bucket, rate in enumerate(mixed.rate) if rate > 0 and any(mixed.weights[bucket])
    ]
    loads = [
        shares[pool]
        * sum(mixed.rate[b] * mixed.seconds[b][place] for b in busy)
        / mixed.backends[place]
        for place, pool in enumerate(mixed.pools)
        if shares.get(pool, 0.0) > 0
    ]

    assert sum(shares.values()) == pytest.approx(1.0)
    assert len(loads) == 2
    assert loads == pytest.approx([loads[0]] * len(loads))


def test_a_pool_that_cannot_serve_a_size_gets_nothing_blindly(mixed):
    """Where another one can; where none can, the plan's own shares stay."""
    busy = next(bucket for bucket, rate in enumerate(mixed.rate) if rate > 0)

    def without(*places: int) -> dict[str, float]:
        rows = [list(row) for row in mixed.seconds]
        for place in places:
            rows[busy][place] = math.inf
        return capacity_shares(replace(mixed, seconds=tuple(map(tuple, rows))))

    assert without(*range(len(mixed.pools))) == request_shares(mixed)
    assert without(0) == {mixed.pools[0]: 0.0, mixed.pools[1]: 1.0}

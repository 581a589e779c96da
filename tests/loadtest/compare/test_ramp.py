"""A fleet that moves in virtual time: what is not ready gets nothing, and what comes is used."""

import numpy as np
import pytest

from loadtest.compare.autoscalers import Fixed
from loadtest.compare.ramp import (
    FIRST,
    LARGER,
    MOST,
    STARTUP_S,
    MovingGateway,
    _requests,
    play_ramps,
    ramp_needs,
)
from planner.proof.simulate import simulate

NEEDS = ramp_needs()


def play(autoscaler, arrivals_s):
    gateway = MovingGateway(NEEDS, autoscaler, arrivals_s, first=FIRST, watched=LARGER)
    engines = [pool.profile for pool in NEEDS.pools for _ in range(MOST)]
    return gateway, simulate(_requests(arrivals_s), engines, gateway)


def test_only_ready_backends_get_requests():
    """Of twenty engines those two that serve from the beginning; their GPUs are counted."""
    gateway, result = play(Fixed(FIRST), np.arange(0.0, 60.0, 1.0))

    assert set(result.backend.tolist()) == {0, MOST}
    assert gateway.gpus == pytest.approx((3.0, 3.0))


def test_an_ordered_backend_serves_after_its_start_and_a_left_one_no_more():
    """Two of the small ones instead of one of each: requests go to them when they are ready."""
    arrivals_s = np.arange(0.0, 300.0, 1.0)

    gateway, result = play(Fixed((3, 0)), arrivals_s)

    late = arrivals_s > STARTUP_S + 20.0
    assert 1 in result.backend[late]
    assert set(result.backend[arrivals_s > 30.0].tolist()) <= {0, 1, 2}
    assert {1, 2} & set(result.backend[arrivals_s < STARTUP_S].tolist()) == set()
    assert np.all(result.backend >= 0)
    assert gateway.most == [3, 1]


@pytest.mark.long
def test_a_ramp_that_came_before_costs_no_request():
    """The step of five times: expected from the days before, nothing is refused or late; without
    them it is as for an HPA, which only enough backends beforehand can change."""
    new, kept, known, left, hpa, fixed = play_ramps(NEEDS, 2)

    assert known.errors == left.errors == kept.errors == 0.0
    assert max(known.ttft_s[1], left.ttft_s[1], kept.ttft_s[1]) < 1.0
    assert 0.0 < new.errors <= hpa.errors < fixed.errors
    assert left.served_gpus < known.served_gpus < kept.served_gpus

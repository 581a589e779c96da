"""Fleets that are made from shares."""

import numpy as np
import pytest

from planner.program.subproblem import DUST, incumbent_from_shares, plain_subproblem


@pytest.mark.parametrize("share", [0.0, 1e-14, DUST / 2])
@pytest.mark.parametrize("served", [1.0, 0.5])
def test_a_bucket_that_is_given_up_but_for_rounding_rules_no_fleet_out(share, served):
    """The solver leaves such shares where a budget is used up; the rest is served all the same."""
    subproblem = plain_subproblem(
        mean=np.array([[0.5], [0.5]]), rate=np.array([10.0, 10.0]), usd=np.array([1.0])
    )
    weights = np.array([[served], [share]])

    fleet = incumbent_from_shares(subproblem, weights, 1 - weights.sum(axis=1))

    assert fleet is not None
    assert fleet.weights[:, 0] == pytest.approx([served, 0.0])


def test_a_bucket_that_is_to_be_served_is_never_dropped():
    """Shares without an answer for it are no fleet."""
    subproblem = plain_subproblem(
        mean=np.array([[0.5], [0.5]]), rate=np.array([10.0, 10.0]), usd=np.array([1.0])
    )

    assert incumbent_from_shares(subproblem, np.array([[1.0], [0.0]]), np.zeros(2)) is None
    assert incumbent_from_shares(subproblem, np.array([[1.0], [0.0]]), np.array([0, 0.9])) is None

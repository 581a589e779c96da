"""What the planner may count with."""

from dataclasses import replace

import pytest

from gateway.planning import usable


@pytest.mark.parametrize(
    ("ready", "counted"),
    [
        ((2, 1, 3), (2, 1, 3)),
        ((0, 1, 3), (0, 1, 3)),
        ((0, 0, 3), (4, 4, 3)),
        ((1, 0, 0), (1, 0, 4)),
    ],
)
def test_a_model_that_has_nothing_ready_keeps_its_fleet(pools, ready, counted):
    """All of its backends are down or cold: its plan stays as it was, for when they come back."""
    of_two_models = (*pools[:2], replace(pools[2], model="another"))

    assert usable(of_two_models, ready, (4, 4, 4)) == counted

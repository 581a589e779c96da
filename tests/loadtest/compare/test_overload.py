"""More work than capacity: the promises that `docs/reliability.md` states, on another seed."""

import pytest

from loadtest.compare.overload import CASES, play

BY_NAME = {case.name: case for case in CASES}
SEED = 5


def played(name):
    return [{group.group: group for group in groups} for groups in play(BY_NAME[name], seed=SEED)]


@pytest.mark.parametrize("name", ["2 ×", "4 ×", "4 ×, 4 workers"])
def test_the_fleet_goes_on_at_capacity_and_recovers_at_once(name):
    """Goodput stays, the admitted attain, the refused hear it at once, and afterwards all is as
    before."""
    during, after = played(name)

    assert during["all"].goodput >= 0.95
    assert during["all"].attained >= 0.985
    assert during["polite"].admitted >= 0.97
    assert during["all"].refused_s <= 0.2
    assert after["all"].goodput >= 0.99


@pytest.mark.parametrize("name", ["1.0 ×", "1.1 ×", "1.2 ×", "mixed, 1.2 ×"])
def test_at_the_edge_of_capacity_nothing_is_lost_but_the_excess(name):
    """The goodput is at least 0.95 of the lesser of what is offered and of capacity."""
    (during,) = played(name)

    assert during["all"].goodput >= 0.95
    assert during["all"].attained >= 0.985


@pytest.mark.parametrize("name", ["2 classes, 2 ×", "2 classes, 4 ×", "2 classes, 2 ×, 4 workers"])
def test_the_strict_class_is_served_whole_and_the_other_gets_the_rest(name):
    """Interactive requests alone are below capacity: they do not notice the others."""
    during, after = played(name)

    assert during["default"].admitted >= 0.96
    assert during["default"].attained >= 0.985
    assert 0.0 < during["batch"].admitted < 0.6
    assert during["all"].goodput >= 0.95
    assert after["all"].goodput >= 0.98


def test_mixed_sizes_gpus_and_four_classes_keep_the_capacity():
    """Whatever is mixed, the fleet does not lose its throughput to those that wait."""
    during, after = played("mixed, 4 classes, 2 ×")

    assert during["all"].goodput >= 0.95
    assert during["fast"].admitted >= 0.97
    assert min(during[name].attained for name in ("fast", "default", "batch")) >= 0.985
    assert after["all"].goodput >= 0.98

"""What could not be had is a limit until it can be had again."""

from dataclasses import replace

import pytest

from gateway.actuation.shortages import LONGEST_S, Shortages
from planner.program.limits import Stock


@pytest.fixture
def two(pools):
    """A pool and another one of the same GPU type, in no zone; then one of another type."""
    first, _, other = pools
    return first, replace(first, name="second"), other


def test_a_failed_launch_makes_what_is_there_the_limit_of_its_type(two):
    """All pools of the GPU type draw from it; those of others do not."""
    first, second, other = two
    shortages = Shortages(300.0)
    there = {first.name: 2, second.name: 1, other.name: 4}
    shortages.failed(first, two, there, "no capacity", 0.0)

    assert shortages.stocks((), two, there, 1.0) == (Stock(gpu=first.gpu, most=3),)
    assert shortages.of(second) is shortages.of(first)
    assert shortages.of(other) is None


def test_one_backend_is_tried_from_time_to_time_ever_more_rarely(two):
    """While it is tried there is no second one; each failure doubles the wait, to a bound."""
    first, second, _ = two
    shortages, there = Shortages(300.0), {first.name: 2}
    shortages.failed(first, two, there, "no capacity", 0.0)
    trying = there | {second.name: 1}

    def most(at_s, counts=there):
        return [stock.most for stock in shortages.stocks((), two, counts, at_s)]

    assert most(299.0) == [2]
    assert most(300.0) == [3]
    assert most(300.0, trying) == [3]
    shortages.failed(first, two, there, "no capacity", 300.0)
    assert most(899.0) == [2]
    assert most(900.0) == [3]
    for _ in range(60):
        shortages.failed(first, two, there, "no capacity", 900.0)
    assert most(900.0 + LONGEST_S) == [3]


def test_a_backend_that_comes_ends_the_shortage(two):
    """Of its type, whichever pool it is in."""
    first, second, other = two
    shortages = Shortages(300.0)
    shortages.failed(first, two, {}, "no capacity", 0.0)
    shortages.came(other)
    kept = shortages.known
    ended = shortages.came(second)

    assert len(kept) == 1
    assert ended is kept[0]
    assert shortages.known == ()


def test_what_is_configured_stays_where_it_is_less(two):
    """And what was learned counts where that is less."""
    first, _, other = two
    configured = (Stock(gpu=first.gpu, most=1), Stock(gpu=other.gpu, most=9))
    shortages = Shortages(300.0)
    there = {first.name: 1, other.name: 4}
    shortages.failed(first, two, {first.name: 3}, "hangs", 0.0)
    shortages.failed(other, two, there, "hangs", 0.0)

    assert shortages.stocks(configured, two, there, 1.0) == (
        Stock(gpu=first.gpu, most=1),
        Stock(gpu=other.gpu, most=4),
    )


def test_what_is_there_stays_though_it_is_more_than_could_be_had(two):
    """A late launch came after it was given up, so the plan may use it; and lines say why."""
    first, _, _ = two
    shortages = Shortages(300.0)
    shortages.failed(first, two, {first.name: 1}, "a launch hangs", 0.0)
    (stock,) = shortages.stocks((), two, {first.name: 4}, 1.0)

    assert stock.most == 4
    assert list(shortages.lines(100.0)) == [
        f"{first.gpu}: 1 are taken for all that there are, because a launch hangs; "
        "one backend more is tried in 200 s"
    ]

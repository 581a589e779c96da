"""What was ordered counts once, until it is there."""

import pytest

from gateway.actuation.launches import Launches, Sight


def sight(name, *, up=True, ready=True):
    return Sight(name=name, up=up, ready=ready)


def test_what_is_there_at_the_first_look_was_not_launched():
    """A gateway that starts learns no start-up time from backends that ran before."""
    launches = Launches()

    assert launches.look("p", [sight("p-0"), sight("p-1", ready=False)], 5.0) == []
    assert launches.pending("p") == 0


def test_a_launch_is_pending_until_it_is_ready_and_tells_its_phases():
    """Ordered, seen, up, ready: each moment is that of the look that showed it."""
    launches = Launches()
    launches.look("p", [], 0.0)
    launches.order("p", 2, 10.0)
    before = launches.pending("p"), launches.unseen("p")
    launches.look("p", [sight("p-0", up=False, ready=False)], 40.0)
    seen = launches.pending("p"), launches.unseen("p"), launches.starting("p")
    launches.look("p", [sight("p-0", ready=False)], 100.0)
    (started,) = launches.look("p", [sight("p-0")], 110.0)

    assert before == (2, 2)
    assert seen == (2, 1, {"p-0"})
    assert (started.seen_s, started.up_s, started.ready_s, started.whole_s) == (30, 60, 10, 100)
    assert launches.pending("p") == 1


def test_what_comes_without_an_order_ends_no_launch_of_another_pool():
    """Somebody else starts backends too."""
    launches = Launches()
    for pool in ("p", "q"):
        launches.look(pool, [], 0.0)
    launches.order("q", 1, 0.0)

    assert launches.look("p", [sight("p-0")], 1.0) == []
    assert launches.pending("q") == 1


def test_a_backend_that_leaves_before_it_is_ready_is_still_awaited():
    """A pod that crashes at its start is started again by what runs it; the clock goes on."""
    launches = Launches()
    launches.look("p", [], 0.0)
    launches.order("p", 1, 0.0)
    launches.look("p", [sight("p-0", ready=False)], 10.0)
    launches.look("p", [], 20.0)
    unseen = launches.unseen("p")
    (started,) = launches.look("p", [sight("p-1")], 60.0)

    assert unseen == 1
    assert started.whole_s == 60.0
    assert started.up_s == 0.0


def test_what_does_not_come_in_time_hangs():
    """Only what was ordered too long ago, and once."""
    launches = Launches()
    launches.look("p", [], 0.0)
    launches.order("p", 1, 0.0)
    launches.order("p", 1, 50.0)

    assert launches.overdue("p", 100.0, 100.0) == []
    (late,) = launches.overdue("p", 100.0, 101.0)
    assert late.phase == "ordered"
    assert launches.overdue("p", 100.0, 101.0) == []
    assert launches.pending("p") == 1


@pytest.mark.parametrize(("number", "left"), [(1, 2), (2, 1), (3, 1)])
def test_what_has_no_backend_yet_is_called_off(number, left):
    """Of three, two have none; what has one goes by being stopped."""
    launches = Launches()
    launches.look("p", [], 0.0)
    launches.order("p", 3, 0.0)
    launches.look("p", [sight("p-0", ready=False)], 1.0)
    launches.call_off("p", number)

    assert launches.pending("p") == left
    assert launches.starting("p") == {"p-0"}


def test_an_order_that_is_refused_takes_its_launches_with_it():
    """Those of other orders are still awaited."""
    launches = Launches()
    launches.order("p", 2, 0.0, "one")
    launches.order("p", 3, 0.0, "other")

    assert launches.withdraw("other") == 3
    assert launches.pending("p") == 2

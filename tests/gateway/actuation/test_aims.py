"""What is ordered for a wish."""

import pytest

from gateway.actuation.aims import MOST_PATIENCE, Aim, Move, clamped


def aim(wish, accepted=None):
    made = Aim()
    made.wish, made.accepted = wish, accepted
    return made


def move(one, there, unseen=0, *, most=9, beside=0, hold_s=60.0, now_s=0.0):
    return one.move(there, unseen, most=most, beside=beside, hold_s=hold_s, now_s=now_s)


@pytest.mark.parametrize(
    ("wish", "accepted", "there", "unseen", "ordered"),
    [
        (None, None, 2, 0, None),
        (2, None, 2, 0, None),
        (5, None, 2, 0, Move(backends=5, start=3)),
        (5, 5, 2, 3, None),  # pending capacity counts once
        (5, 5, 3, 2, None),
        (6, 5, 3, 2, Move(backends=6, start=1)),
        (5, 5, 4, 0, Move(backends=5, start=1)),  # one was lost
        (3, 5, 5, 0, Move(backends=3, stop=2)),
        (3, 5, 2, 3, Move(backends=3)),  # called off before anything is stopped
        (2, 5, 3, 2, Move(backends=2, stop=1)),
        (3, 5, 3, 0, Move(backends=3)),  # two hung, and are given up
    ],
)
def test_what_differs_is_ordered(wish, accepted, there, unseen, ordered):
    """Backends to start, to stop, or only another number."""
    assert move(aim(wish, accepted), there, unseen) == ordered


def test_what_replaces_a_backend_does_not_wait_until_it_is_gone():
    """One of three is drained by a notice: four are ordered; three when it is gone."""
    three = aim(3, 3)

    assert move(three, 2, beside=1) == Move(backends=4, start=1)
    three.took(4)
    assert move(three, 3, beside=1) is None
    assert move(three, 3) == Move(backends=3)


def test_no_more_run_than_may():
    """At the most, what replaces a drained backend waits for its end, and that is told."""
    three = aim(3, 3)

    assert move(three, 2, beside=1, most=3) is None
    assert three.idle == "1 that do not count are to go first, 3 may run"
    assert move(three, 2, most=3) == Move(backends=3, start=1)


def test_what_somebody_else_started_is_left_alone_for_a_while():
    """A rolling update has one more for a moment; what stays longer than the hold is stopped."""
    three = aim(3, 3)

    assert move(three, 4, now_s=0.0) is None
    assert three.idle == "more than were ordered last have come by themselves"
    assert move(three, 3, now_s=30.0) is None
    assert move(three, 4, now_s=40.0) is None
    assert move(three, 4, now_s=99.0) is None
    assert move(three, 4, now_s=100.0) == Move(backends=3, stop=1)


def test_tries_of_one_wish_have_one_key():
    """Until it was accepted; another wish, or the same one later, has another key."""
    one = Aim()
    first, again, other = (one.key("p", n, "run") for n in (3, 3, 4))
    one.took(4)
    later = one.key("p", 4, "run")

    assert first == again == "p-run-1"
    assert len({first, other, later}) == 3


def test_patience_grows_with_each_hang_to_a_bound():
    """A pool whose starts take longer than anybody thinks is waited for in the end."""
    one = Aim()
    for _ in range(10):
        one.hung()

    assert one.patience == MOST_PATIENCE


@pytest.mark.parametrize(
    ("wished", "needed", "coming", "may_stop", "wish"),
    [
        (4, 4, 2, True, 4),
        (4, 2, 2, True, 2),  # held from a time when more could be had
        (4, 2, 3, True, 3),
        (1, 1, 3, True, 1),
        (1, 1, 3, False, 3),
        (9, 9, 3, True, 6),
        (0, 0, 3, True, 1),
    ],
)
def test_a_wish_keeps_to_what_is_needed_and_allowed(wished, needed, coming, may_stop, wish):
    """Up only as far as needed, down only if that is allowed, within 1 to 6."""
    found = clamped(wished, needed=needed, coming=coming, least=1, most=6, may_stop=may_stop)

    assert found == wish

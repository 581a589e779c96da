"""Turns by weight; the router's tests show the shares that come of them."""

from gateway.routing.rotation import Rotation

SLICES = (((0, 0.75), (1, 0.25)), ((2, 1.0),), ())


def test_turns_follow_the_weights_without_bursts():
    """Three of four turns go to the pool with three quarters, and the other one is in between."""
    rotation = Rotation(SLICES, 3)

    assert [rotation.take(0) for _ in range(8)] == [0, 0, 1, 0] * 2


def test_one_pool_has_every_turn_and_none_has_none():
    """A bucket with one pool always gets it; one that the plan gave to no pool gets none."""
    rotation = Rotation(SLICES, 3)

    assert [rotation.take(1), rotation.take(1), rotation.take(2)] == [2, 2, None]


def test_a_turn_that_is_given_back_never_was():
    """Turns in vain do not change who has the next one."""
    rotation, other = Rotation(SLICES, 3), Rotation(SLICES, 3)
    turns = []
    for _ in range(12):
        for _ in range(5):
            taken = rotation.take(0)
            assert taken is not None
            rotation.give_back(0, taken)
        turns.append(rotation.take(0))

    assert turns == [other.take(0) for _ in range(12)]

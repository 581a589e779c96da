"""Which load comes next, from what was measured so far."""

from typing import Any

import msgspec
import pytest

from loadtest.measure.choice import (
    FIRST,
    Bounds,
    Enough,
    next_load,
    next_users,
    seconds,
    seconds_left,
)
from loadtest.measure.load import Load, LoadPoint, Size
from planner.slo import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.05)
BOUNDS = Bounds(slo=SLO, longest=8192, seats=200, kv_tokens=100_000)
SIZE = (512, 100)


def point(users: int, *, size: Size = SIZE, base_s: float = 0.01, each_s: float = 0.001,
          ttft_s: float = 0.1) -> LoadPoint:  # fmt: skip
    """What an engine measures whose TPOT grows by `each_s` with each user."""
    tpot_s = base_s + each_s * users
    return LoadPoint(
        load=Load(input_tokens=size[0], output_tokens=size[1], users=users),
        input_tokens=size[0], output_tokens=size[1],
        rate=users / (ttft_s + size[1] * tpot_s),
        ttft_s=ttft_s, tpot_s=tpot_s, spread=1.0, seconds=10.0,
    )  # fmt: skip


def unfitted(_: object) -> None:
    """No profile yet."""


def walked(bounds: Bounds, **engine: Any) -> list[int]:
    """The numbers of users that are measured at one size, in order."""
    seen: list[LoadPoint] = []
    while (users := next_users(bounds, SIZE, seen, None)) is not None:
        seen.append(point(users, **engine))
    return [one.load.users for one in seen]


def test_users_double_until_the_promise_breaks():
    """Then comes the number in between at which a straight line meets the target: n* is 40."""
    assert walked(BOUNDS) == [1, 2, 4, 8, 16, 32, 64, 40]


def test_nothing_is_measured_beyond_what_the_backend_holds():
    """The last load is all seats, or what fits into its memory and leaves some of it free."""
    few = Bounds(slo=SLO, longest=8192, seats=20, kv_tokens=None)
    assert walked(few) == [1, 2, 4, 8, 16, 20]
    small = Bounds(slo=SLO, longest=8192, seats=200, kv_tokens=6000)
    assert walked(small)[-1] == int(0.9 * 6000 / 562)


def test_one_user_who_breaks_the_promise_ends_the_size():
    """What one request at a time does not keep, more do not keep either."""
    assert walked(BOUNDS, base_s=0.06) == [1]
    assert walked(BOUNDS, ttft_s=2.0) == [1]


def test_a_full_backend_is_not_given_more():
    """Twice the users and no more of them decoding: they wait, and n* is known."""
    seen = [point(1), point(2), point(4), point(8, ttft_s=0.9)]
    stuck = msgspec.structs.replace(seen[-1], rate=seen[-2].rate * 0.85)

    assert stuck.decoding < 1.1 * seen[-2].decoding
    assert next_users(BOUNDS, SIZE, [*seen[:-1], stuck], None) is None


def test_the_first_sizes_are_far_apart_and_fit_the_context():
    """All within the longest request, and no size twice, however short that is."""
    for longest in (64, 500, 2000, 8192, 131072):
        sizes = Bounds(slo=SLO, longest=longest, seats=8, kv_tokens=None).sizes()
        assert len(set(sizes)) == len(sizes)
        assert all(sum(size) <= longest for size in sizes)
        inputs, outputs = zip(*sizes[:FIRST], strict=True)
        assert len(set(inputs)) >= 3
        assert len(set(outputs)) >= 2


def test_a_begun_size_is_finished_before_another():
    """Also after a break: the next load follows from what was measured, and nothing else."""
    sizes = BOUNDS.sizes()
    first = next_load(BOUNDS, [], unfitted)
    assert first == Load(input_tokens=sizes[0][0], output_tokens=sizes[0][1], users=1)

    later = next_load(BOUNDS, [point(1, size=sizes[0]), point(2, size=sizes[0])], unfitted)
    assert later == Load(input_tokens=sizes[0][0], output_tokens=sizes[0][1], users=4)

    broken = [point(1, size=sizes[0], base_s=0.2)]
    other = next_load(BOUNDS, broken, unfitted)
    assert other == Load(input_tokens=sizes[1][0], output_tokens=sizes[1][1], users=1)


def test_it_ends_when_all_sizes_are_measured():
    """Where no fit is possible, as when every size breaks the promise at once."""
    measured = [point(1, size=size, base_s=0.2) for size in BOUNDS.sizes()]

    assert next_load(BOUNDS, measured, unfitted) == Enough(why="all sizes are measured")


def test_the_time_left_shrinks_with_each_load():
    """And a load of long answers, or of many users, takes longer than a short one."""
    first = Load(input_tokens=SIZE[0], output_tokens=SIZE[1], users=1)
    assert seconds(BOUNDS, first, []) == 0.0
    seen = [point(users, size=size) for size in BOUNDS.sizes()[:2] for users in (1, 4, 16)]
    many = msgspec.structs.replace(first, users=64)
    long = msgspec.structs.replace(many, output_tokens=600)
    assert seconds(BOUNDS, many, seen) < seconds(BOUNDS, long, seen)

    lefts = [seconds_left(BOUNDS, first, seen[:count]) for count in (2, 4, 6)]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[-1] > 0


@pytest.mark.parametrize("users", [1, 2, 50])
def test_a_held_load_keeps_both_promises(users: int):
    """TTFT and TPOT of the mean request."""
    one = point(users)
    assert one.held(SLO) == (one.tpot_s <= SLO.tpot_s)
    assert not msgspec.structs.replace(one, ttft_s=1.1).held(SLO)

"""Which load is measured next, and when it is enough: from what was measured, and nothing else.

So a measurement that was broken off goes on where it was. Pure; knows no backend.

At each size: one user alone, then more until the promise breaks, then in between. The first sizes
are spread over short and long prompts and answers; then comes the size nearest to where the fit and
its points differ most. It ends when another size moves n* of no size by more than `SETTLED`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.measure.load import Load, LoadPoint, Size
from loadtest.measure.subject import errors
from planner.engine.profiles import Profile
from planner.slo import Slo

LONGEST_INPUT, LONGEST_OUTPUT = 4096, 600  # longer ones take minutes each and add nothing
SHORTEST = 64
FIRST = 5  # sizes before the fit is asked which is next
SETTLED = 0.02
NEAR = 0.05  # of the TPOT target: near enough to n*
STEP = 4  # by how much users are multiplied at most
ROOM = 0.9  # of the memory: with more an engine preempts now and then, and no formula has that
FULL = 1.1  # less growth of the batch at half as many users more: the backend is full

Fitted = Callable[[Sequence[LoadPoint]], Profile | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the loads may be. longest: tokens of one request. seats: most users. kv_tokens: that fit
    into the backend's memory; `None`: unknown."""

    slo: Slo
    longest: int
    seats: int
    kv_tokens: int | None

    def sizes(self) -> tuple[Size, ...]:
        """The sizes that may be measured, in the order of the first ones: far apart."""
        inputs = _steps(min(LONGEST_INPUT, self.longest // 2), 4)
        outputs = _steps(min(LONGEST_OUTPUT, self.longest // 4), 3)
        first = [(1, 1), (0, 2), (2, 0), (3, 1), (0, 0)]
        rest = [(i, o) for i in range(4) for o in range(3) if (i, o) not in first]
        return tuple(dict.fromkeys((inputs[i], outputs[o]) for i, o in first + rest))


def most_users(size: Size, seats: int, kv_tokens: int | None) -> int:
    """The most users: seats, and what fits into the memory, with room, answers half grown."""
    if kv_tokens is None:
        return seats
    return max(1, min(seats, int(ROOM * kv_tokens / (size[0] + size[1] / 2))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enough:
    """Nothing more is to be measured. why: for people."""

    why: str


def next_load(bounds: Bounds, measured: Sequence[LoadPoint], fitted: Fitted) -> Load | Enough:
    """The next load. fitted: the profile of what was measured, or `None` while it is too little."""
    done: list[Size] = []
    profile = fitted(measured)
    for size in dict.fromkeys(one.load.size for one in measured):
        users = next_users(bounds, size, measured, profile)
        if users is not None:
            return Load(input_tokens=size[0], output_tokens=size[1], users=users)
        done.append(size)
    left = [size for size in bounds.sizes() if size not in done]
    if profile is not None and len(done) >= FIRST:
        moved = move(bounds, measured, fitted)
        if moved is not None and moved <= SETTLED:
            return Enough(why=f"the last size moved n* of no size by more than {SETTLED:.0%}")
        left = _by_need(left, errors(profile, measured))
    if not left:
        return Enough(why="all sizes are measured")
    return Load(input_tokens=left[0][0], output_tokens=left[0][1], users=1)


def next_users(
    bounds: Bounds, size: Size, measured: Sequence[LoadPoint], profile: Profile | None
) -> int | None:
    """How many users are measured next at one size; `None`: it is done."""
    seen = {one.load.users: one for one in measured if one.load.size == size}
    if 1 not in seen:
        return 1
    broken = min((n for n, one in seen.items() if not one.held(bounds.slo)), default=None)
    low = max((n for n in seen if broken is None or n < broken), default=0)
    if broken is None:
        return _more(bounds, size, seen, profile)
    high, target_s = seen[broken], bounds.slo.tpot_s
    near = min(abs(one.tpot_s / target_s - 1) for one in seen.values())
    if broken - low <= max(1, low // 10) or near <= NEAR or high.tpot_s <= target_s:
        return None  # too long a wait for the first token says nothing of how fast tokens come
    slope = (high.tpot_s - seen[low].tpot_s) / (broken - low)
    users = low + round((target_s - seen[low].tpot_s) / slope)
    return min(max(users, low + 1), broken - 1)


def _more(
    bounds: Bounds, size: Size, seen: dict[int, LoadPoint], profile: Profile | None
) -> int | None:
    """More users than any before, while the promise holds."""
    users, most = sorted(seen), most_users(size, bounds.seats, bounds.kv_tokens)
    top = users[-1]
    if top >= most:
        return None
    before = users[-2] if len(users) > 1 else None
    if before and top >= 1.5 * before and seen[top].decoding < FULL * seen[before].decoding:
        return None
    guess = 2 * top
    if profile is not None:
        found = n_star(profile, bounds.slo, [size])[0]
        # Half of n* first, then n* itself: two points where the promise breaks. If it should have
        # broken already, it is not far.
        guess = round(found / 2 if top < found / 3 else max(found, 1.25 * top))
    return min(max(guess, top + 1), STEP * max(top, 4), most)


def n_star(profile: Profile, slo: Slo, sizes: Sequence[Size]) -> list[float]:
    """n* of the sizes, by the planner's own formula."""
    inputs, outputs = np.array(sizes, dtype=float).T
    return [float(value) for value in profile.capacity(inputs, outputs, slo).n_star]


def move(bounds: Bounds, measured: Sequence[LoadPoint], fitted: Fitted) -> float | None:
    """By how much the size measured last moved n*, the most over all sizes; `None`: unknown."""
    order = list(dict.fromkeys(one.load.size for one in measured))
    now = fitted(measured)
    moves = []
    for count in (1, 2):
        before = fitted([one for one in measured if one.load.size not in order[-count:]])
        if before is None or now is None:
            return None
        sizes = bounds.sizes()
        pairs = zip(n_star(before, bounds.slo, sizes), n_star(now, bounds.slo, sizes), strict=True)
        moves.append(max(abs(old - new) / max(old, new, 1.0) for old, new in pairs))
    return max(moves)


def seconds(bounds: Bounds, load: Load, measured: Sequence[LoadPoint]) -> float:
    """About how long a load takes: two and a half times its longest request, four of one user."""
    alone = [one for one in measured if one.load.users == 1] or list(measured)
    if not alone:
        return 0.0
    fastest_s = min(one.tpot_s for one in alone)
    per_token_s = fastest_s if load.users == 1 else (fastest_s + bounds.slo.tpot_s) / 2
    return (5.0 if load.users == 1 else 2.5) * load.output_tokens * per_token_s


def seconds_left(bounds: Bounds, upcoming: Load, measured: Sequence[LoadPoint]) -> float:
    """About how long the rest takes if the fit settles with the fewest sizes, or the next one."""
    sizes = bounds.sizes()
    begun = {one.load.size for one in measured} | {upcoming.size}
    ahead = [size for size in sizes if size not in begun][: max(0, FIRST + 1 - len(begun))]
    here = sum(one.load.size == upcoming.size for one in measured)
    loads = [(upcoming.size, 10**6 if here else 1)] * max(1, 5 - here)
    loads += [(size, users) for size in ahead for users in (1, 2, 2, 2, 2)]
    return sum(
        seconds(bounds, Load(input_tokens=i, output_tokens=o, users=users), measured)
        for (i, o), users in loads
    )


def _by_need(left: list[Size], off: dict[Size, float]) -> list[Size]:
    """Sizes by how near they are to where the fit is worst; ties as before."""
    worst = max(off, key=lambda size: off[size])

    def distance(size: Size) -> float:
        return math.hypot(math.log(size[0] / worst[0]), math.log(size[1] / worst[1]))

    return sorted(left, key=distance)


def _steps(top: int, count: int) -> list[int]:
    """Counts in equal ratios, up to `top`."""
    low = min(SHORTEST * 2 if count > 3 else SHORTEST, max(2, top // 2))
    return [round(low * (top / low) ** (k / (count - 1))) for k in range(count)]

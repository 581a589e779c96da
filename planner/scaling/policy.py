"""How many backends to have at each look: up at once, down late, and no two pools for one load.

Between what a lower quantile of the forecast needs and what the upper one needs nothing is
changed: noise moves both, but not across that band. Times are seconds since 1970. Must not know
demand, prices, nor how replicas are started.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import IntArray

DOWN_S = 600.0  # what was not needed for so long may go
SMALL_DOWN_S = 1800.0  # and so long, where it is little
SMALL_BACKENDS, SMALL_SHARE = 1, 0.1  # at most one backend, or at most this share of the pool


class Hysteresis:
    """A `CountPolicy` that remembers what was needed in the last half hour.

    Pools of one group serve the same load, so that one may replace another.
    """

    def __init__(
        self,
        pools: int,
        *,
        groups: Sequence[int] | None = None,
        down_s: float = DOWN_S,
        small_down_s: float = SMALL_DOWN_S,
        hold_s: float = DOWN_S,
    ) -> None:
        """pools: P. groups: by pool, number of its group; default: one for all. down_s,
        small_down_s: how long a surplus, and a small one, must have lasted. hold_s: seconds after
        a pool grew in which it does not shrink. Raises InvalidValue for other groups."""
        numbers = np.zeros(pools, dtype=np.int64) if groups is None else np.array(groups)
        if numbers.shape != (pools,):
            raise InvalidValue(f"groups: one number for each of {pools} pools: {groups}")
        self._groups: IntArray = numbers
        self._down_s, self._small_down_s, self._hold_s = down_s, max(down_s, small_down_s), hold_s
        self._needed: deque[tuple[float, IntArray]] = deque()
        self._since_s: float | None = None  # of the first look
        self._grew_s = np.full(pools, -np.inf)

    def decide(
        self,
        now_s: float,
        needed: Sequence[int],
        ready: Sequence[int],
        pending: Sequence[int],
        *,
        holds: bool | Sequence[bool] = False,
        more: Sequence[int] | None = None,
    ) -> tuple[int, ...]:
        """As `CountPolicy` has it. Raises InvalidValue for counts of other pools."""
        counts = (needed, ready, pending, needed if more is None else more)
        wanted, serving, coming, beside = (np.array(c, dtype=np.int64) for c in counts)
        if any(len(c) != len(self._groups) for c in counts):
            raise InvalidValue(f"one count for each of {len(self._groups)} pools")
        enough = np.broadcast_to(np.array(holds, dtype=bool), self._groups.shape)
        self._remember(now_s, wanted)
        have = serving + coming
        # A surplus that lasts, beside a lack that lasts: the cheapest fleet has become another one.
        surplus = have - self._most(now_s, have)
        lack = np.maximum(self._least(now_s) - have, 0)
        target = have.copy()
        for group in np.unique(self._groups).tolist():
            mine = self._groups == group
            up = np.maximum(beside - have, 0)
            if bool(enough[mine].all()):
                up = lack if bool((surplus[mine] > 0).any()) else np.zeros_like(up)
            target[mine] += up[mine]
            if not up[mine].any() and not coming[mine & (surplus <= 0)].any():
                held = now_s - self._grew_s < self._hold_s
                target[mine] -= np.where(held, 0, surplus)[mine]
        self._grew_s[target > have] = now_s
        return tuple(int(count) for count in target)

    def _remember(self, now_s: float, needed: IntArray) -> None:
        if self._since_s is None or (self._needed and now_s < self._needed[-1][0]):
            self._since_s = now_s  # the first look, or a clock that was set back
            self._needed.clear()
        self._needed.append((now_s, needed))
        while self._needed[0][0] < now_s - self._small_down_s:
            self._needed.popleft()

    def _most(self, now_s: float, have: IntArray) -> IntArray:
        """(P,) how many of the present backends must stay, by what was needed lately."""
        lately, longer = self._within(now_s, self._down_s), self._within(now_s, self._small_down_s)
        if lately is None:
            return have
        large = have - lately.max(axis=0) > np.maximum(SMALL_BACKENDS, SMALL_SHARE * have)
        small = have if longer is None else longer.max(axis=0)
        return np.minimum(np.where(large, lately.max(axis=0), small), have)

    def _least(self, now_s: float) -> IntArray:
        """(P,) what was needed at every look of the last time."""
        lately = self._within(now_s, self._down_s)
        return np.zeros_like(self._groups) if lately is None else lately.min(axis=0)

    def _within(self, now_s: float, seconds: float) -> IntArray | None:
        """(N, P) what was needed in the last seconds; `None` if not so long is known."""
        if self._since_s is None or now_s - self._since_s < seconds:
            return None
        return np.array([counts for at_s, counts in self._needed if at_s >= now_s - seconds])

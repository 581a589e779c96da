"""Whose turn it is: the plan's shares of each bucket, by smooth weighted round robin. Pure."""

from collections.abc import Sequence

OWED = 8.0  # turns that a pool may be given later, or have had before, at most
Slices = Sequence[tuple[tuple[int, float], ...]]


class Rotation:
    """The turns of every bucket.

    Smooth weighted round robin as in nginx: every pool gains its weight, the pool with the most
    credit serves and pays 1. Shares are exact over any window, without bursts to one pool.
    """

    def __init__(self, slices: Slices, pools: int) -> None:
        """slices: (B,) tuples of (pool, weight). pools: their number."""
        self._slices = slices
        self._credit = [[0.0] * pools for _ in slices]

    def take(self, bucket: int) -> int | None:
        """The pool whose turn it is; `None` if the plan gives the bucket to no pool."""
        slices = self._slices[bucket]
        if len(slices) == 1:  # most buckets; their credit would always be 0
            return slices[0][0]
        credit = self._credit[bucket]
        richest: int | None = None
        for pool, weight in slices:
            credit[pool] += weight
            if richest is None or credit[pool] > credit[richest]:
                richest = pool
        if richest is not None:
            credit[richest] -= 1.0
        return richest

    def give_back(self, bucket: int, taken: int) -> None:
        """Undo `take`: the request was not placed and will ask again."""
        slices = self._slices[bucket]
        if len(slices) == 1:
            return
        credit = self._credit[bucket]
        credit[taken] += 1.0
        for pool, weight in slices:
            credit[pool] -= weight

    def may_pass_on(self, bucket: int, taken: int, to: int) -> bool:
        """Whether the shares allow another of the bucket's pools to serve in place of the one whose
        turn it is: neither then has had, or is owed, too many turns."""
        slices = self._slices[bucket]
        if len(slices) < 2 or to not in [pool for pool, _ in slices]:
            return False
        credit = self._credit[bucket]
        return credit[taken] + 1.0 <= OWED and credit[to] - 1.0 >= -OWED

    def pass_on(self, bucket: int, taken: int, served: int) -> None:
        """Another pool has served the request, because the one whose turn it was cannot hold it. It
        has the next turn instead, and the other one fewer, so that the shares of the bucket are
        kept as far as its requests allow."""
        if len(self._slices[bucket]) > 1:
            credit = self._credit[bucket]
            credit[taken] = min(credit[taken] + 1.0, OWED)
            credit[served] = max(credit[served] - 1.0, -OWED)

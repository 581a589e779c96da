"""How many backends a pool is to have, and what has to be ordered for that. Pure.

Times are seconds on one monotonic clock.
"""

from dataclasses import dataclass

from planner.scaling.sleeping import Division

TRIES = 3  # orders in a row that could not be brought; then it counts as a failed launch
UNKNOWN = -1  # of what was accepted: no wish is the same
MOST_PATIENCE = 8.0  # how much longer than usual a launch may take in a pool where others hung


class Aim:
    """One pool's.

    wish: backends that it is to have; `None` before the first look. accepted: of the last order
    that was accepted; `None`: there was none, what runs was not ordered. needed: of the cheapest
    fleet for the forecast. division: how many are to be awake and how many asleep; `None`: none is
    to sleep, and the wish is all; else the wish is what has to be awake or on its way so that there
    are so many. held: why the wish is not what is needed; idle: why nothing is ordered
    though another number is wished than there is; `None`: neither is so. failures: orders in a row
    that could not be brought. patience: of launches. why: it is needed, a line.
    """

    __slots__ = (
        "_key", "_keys", "_surplus_s", "accepted", "division", "failures", "held", "idle", "needed",
        "patience", "why", "wish",
    )  # fmt: skip

    def __init__(self) -> None:
        self.wish: int | None = None
        self.accepted: int | None = None
        self.division: Division | None = None
        self.needed = 0
        self.held: str | None = None
        self.idle: str | None = None
        self.failures = 0
        self.patience = 1.0
        self.why = ""
        self._surplus_s: float | None = None
        self._key: tuple[int, str] | None = None
        self._keys = 0

    def __repr__(self) -> str:
        return f"<Aim {self.wish}, accepted {self.accepted}>"

    def key(self, pool: str, backends: int, run: str) -> str:
        """The key of an order: the same as before if that order was not accepted and wished the
        same. run: of this process, so that no two gateways have the same keys."""
        if self._key is None or self._key[0] != backends:
            self._keys += 1
            self._key = backends, f"{pool}-{run}-{self._keys}"
        return self._key[1]

    @property
    def ordered(self) -> int | None:
        """Backends of the last order that was accepted; `None`: none was, or it is not known."""
        return None if self.accepted == UNKNOWN else self.accepted

    def took(self, backends: int) -> None:
        """An order was accepted."""
        self.accepted, self.failures, self._key = backends, 0, None

    def lose(self) -> None:
        """An order may have been brought, or not: the next look orders again."""
        self.accepted = UNKNOWN

    def hung(self) -> None:
        """A launch hangs: perhaps starts take longer than anybody thinks."""
        self.patience = min(MOST_PATIENCE, 2.0 * self.patience)

    def move(
        self, there: int, unseen: int, *, most: int, beside: int, hold_s: float, now_s: float
    ) -> "Move | None":
        """What to order; `None`: nothing.

        there: backends that count, with those that were launched and are not ready. unseen:
        launches without a backend. most: that may run. beside: backends that run and do not count,
        because they are drained by others, long down or asleep: they are in the number that is
        ordered, so that what replaces them does not wait until they are gone. hold_s: for how long
        there must be more than were ordered last, before they are stopped that nobody here has
        started.
        """
        self.idle = None
        if self.wish is None:
            return None
        coming = there + unseen
        wish = self.wish
        if wish > coming and wish + beside > most:
            wish = max(coming, most - beside)
            self.idle = f"{beside} that do not count are to go first, {most} may run"
        backends = wish + beside
        foreign = wish < coming and self.accepted == backends and not unseen
        if not foreign:
            self._surplus_s = None
        if wish > coming:
            return Move(backends=backends, start=wish - coming)
        if wish == coming:
            differs = self.accepted is not None and self.accepted != backends
            return Move(backends=backends) if differs else None
        if foreign:
            self._surplus_s = now_s if self._surplus_s is None else self._surplus_s
            if now_s - self._surplus_s < hold_s:
                self.idle = "more than were ordered last have come by themselves"
                return None
        return Move(backends=backends, stop=coming - wish - min(unseen, coming - wish))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """backends: to order. start: of these to launch. stop: backends to drain and stop. Both 0:
    launches are called off, or only the number that was ordered last is another."""

    backends: int
    start: int = 0
    stop: int = 0


def clamped(wished: int, *, needed: int, coming: int, least: int, most: int, may_stop: bool) -> int:
    """The number to wish. wished: by the policy over time, which may remember more than can be had:
    more than there are is wished only as far as it is needed. coming: that are there or ordered.
    may_stop: whether fewer than these may be wished."""
    up = min(wished, max(needed, coming))
    if not may_stop:
        up = max(up, coming)
    return min(max(up, least), most)

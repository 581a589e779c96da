"""What was ordered and has not come: each counts once, until it is ready, fails or hangs. Pure.

A backend that is new in its pool is taken for the oldest launch of that pool that was not seen yet;
where there is none, it came by itself. Times are seconds on one monotonic clock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One backend of a pool at a look. up: whether it answers probes. ready: whether it takes as
    much as it ever does."""

    name: str
    up: bool
    ready: bool


class Launch:
    """One backend that was ordered. backend: its name since its URL was found, else `None`."""

    __slots__ = ("backend", "ordered_s", "pool", "seen_s", "up_s")

    def __init__(self, pool: str, ordered_s: float) -> None:
        self.pool = pool
        self.ordered_s = ordered_s
        self.backend: str | None = None
        self.seen_s: float | None = None
        self.up_s: float | None = None

    def __repr__(self) -> str:
        return f"<Launch in {self.pool}, {self.phase}>"

    @property
    def phase(self) -> str:
        """What happened last: `ordered`, `seen` or `up`."""
        if self.backend is None:
            return "ordered"
        return "seen" if self.up_s is None else "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedBackend:
    """A launch that came to its end. seen_s, up_s, ready_s: since what came before; `None` where
    the moment before was not seen. whole_s: since the order."""

    pool: str
    backend: str
    seen_s: float | None
    up_s: float | None
    ready_s: float | None
    whole_s: float


class Launches:
    """The launches of all pools."""

    def __init__(self) -> None:
        self._open: list[Launch] = []
        self._known: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Launches, {len(self._open)} open>"

    def order(self, pool: str, number: int, now_s: float) -> None:
        """So many more were ordered."""
        self._open += [Launch(pool, now_s) for _ in range(number)]

    def cancel(self, pool: str, number: int) -> int:
        """Call off so many, those first that are farthest from their end; return how many were
        called off that were not seen yet."""
        unseen = 0
        for launch in sorted(self.of(pool), key=_progress)[:number]:
            self._open.remove(launch)
            unseen += launch.backend is None
        return unseen

    def of(self, pool: str) -> list[Launch]:
        """The open ones of a pool, oldest first."""
        return [launch for launch in self._open if launch.pool == pool]

    def pending(self, pool: str) -> int:
        """How many of a pool are open."""
        return len(self.of(pool))

    def unseen(self, pool: str) -> int:
        """How many of these have no backend yet."""
        return sum(launch.backend is None for launch in self.of(pool))

    def starting(self, pool: str) -> set[str]:
        """Names of the backends that are launches still."""
        return {launch.backend for launch in self.of(pool) if launch.backend is not None}

    def look(self, pool: str, sights: Sequence[Sight], now_s: float) -> list[StartedBackend]:
        """Take note of the backends that a pool has; return those that are ready for the first
        time. At the first look at a pool all are taken for old."""
        names = {sight.name for sight in sights}
        known = self._known.get(pool, names)
        self._known[pool] = names
        launches = self.of(pool)
        for launch in launches:
            if launch.backend is not None and launch.backend not in names:
                # It left before it was ready; what starts it will start another.
                launch.backend = launch.seen_s = launch.up_s = None
        unseen = (launch for launch in launches if launch.backend is None)
        for sight in sights:
            if sight.name not in known and (found := next(unseen, None)) is not None:
                found.backend, found.seen_s = sight.name, now_s
        by_name = {sight.name: sight for sight in sights}
        return list(self._ended(launches, by_name, now_s))

    def _ended(
        self, launches: Sequence[Launch], sights: dict[str, Sight], now_s: float
    ) -> Iterator[StartedBackend]:
        for launch in launches:
            if launch.backend is None:
                continue
            sight = sights[launch.backend]
            if sight.up and launch.up_s is None:
                launch.up_s = now_s
            if sight.ready:
                self._open.remove(launch)
                yield _started(launch, launch.backend, now_s)

    def overdue(self, pool: str, limit_s: float, now_s: float) -> list[Launch]:
        """Take out those that were ordered longer ago than this: they hang."""
        late = [launch for launch in self.of(pool) if now_s - launch.ordered_s > limit_s]
        for launch in late:
            self._open.remove(launch)
        return late

    def forget(self, pools: Sequence[str]) -> None:
        """Keep only these pools."""
        self._open = [launch for launch in self._open if launch.pool in pools]
        self._known = {pool: names for pool, names in self._known.items() if pool in pools}


def _progress(launch: Launch) -> tuple[int, float]:
    """Launches in this order are called off: those without a backend first, the newest of them."""
    return ("ordered", "seen", "up").index(launch.phase), -launch.ordered_s


def _started(launch: Launch, backend: str, now_s: float) -> StartedBackend:
    seen_s, up_s = launch.seen_s, launch.up_s
    return StartedBackend(
        pool=launch.pool,
        backend=backend,
        seen_s=None if seen_s is None else seen_s - launch.ordered_s,
        up_s=None if seen_s is None or up_s is None else up_s - seen_s,
        ready_s=None if up_s is None else now_s - up_s,
        whole_s=now_s - launch.ordered_s,
    )

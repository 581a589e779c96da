"""What was ordered and has not come: each counts once, until it is ready, fails or hangs. Pure.

A backend that is new in its pool is taken for the oldest launch of that pool that was not seen yet;
where there is none, it came by itself. Times are seconds on one monotonic clock.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One backend of a pool at a look. up: whether it answers probes. ready: whether it takes as
    much as it ever does."""

    name: str
    up: bool
    ready: bool


class Launch:
    """One backend that was ordered. key: of the order. backend: its name since its URL was found,
    else `None`. woken: whether it was there and slept."""

    __slots__ = ("backend", "key", "ordered_s", "pool", "seen_s", "up_s", "woken")

    def __init__(self, pool: str, ordered_s: float, key: str = "") -> None:
        self.pool, self.key = pool, key
        self.ordered_s = ordered_s
        self.backend: str | None = None
        self.woken = False
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
    """A launch that came to its end. woken: whether it had only slept. seen_s, up_s, ready_s: since
    what came before; `None` where the moment before was not seen. whole_s: since the order."""

    pool: str
    backend: str
    woken: bool
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

    def order(self, pool: str, number: int, now_s: float, key: str = "") -> None:
        """So many more were ordered. key: of the order."""
        self._open += [Launch(pool, now_s, key) for _ in range(number)]

    def wake(self, pool: str, backend: str, now_s: float) -> None:
        """A backend that sleeps was told to wake up."""
        launch = Launch(pool, now_s)
        launch.backend, launch.woken = backend, True
        self._open.append(launch)

    def call_off(self, pool: str, number: int) -> None:
        """So many fewer were ordered: the newest of those that were not seen yet."""
        unseen = [launch for launch in self.of(pool) if launch.backend is None]
        for launch in unseen[::-1][:number]:
            self._open.remove(launch)

    def withdraw(self, key: str) -> int:
        """An order was not accepted; return how many launches it was."""
        own = [launch for launch in self._open if launch.key == key and launch.backend is None]
        for launch in own:
            self._open.remove(launch)
        return len(own)

    def rename(self, before: str, key: str) -> None:
        """An order took the place of another one, with its launches."""
        for launch in self._open:
            if launch.key == before:
                launch.key = key

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

    def look(
        self, pool: str, sights: Sequence[Sight], now_s: float, aside: Collection[str] = ()
    ) -> list[StartedBackend]:
        """Take note of the backends that a pool has; return those that are ready for the first
        time. At the first look at a pool all are taken for old. aside: backends that are drained:
        they are not new when they come back."""
        names = {sight.name for sight in sights}
        known = self._known.get(pool, names)
        self._known[pool] = names.union(aside)
        launches = self.of(pool)
        for launch in launches:
            if launch.backend is not None and launch.backend not in names:
                if launch.woken:
                    self._open.remove(launch)
                    continue
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
            if launch.backend is None or launch.backend not in sights:
                continue
            sight = sights[launch.backend]
            if sight.up and launch.up_s is None:
                launch.up_s = now_s
            if sight.ready:
                self._open.remove(launch)
                yield _started(launch, launch.backend, now_s)

    def overdue(
        self, pool: str, limit_s: float, now_s: float, *, woken: bool = False
    ) -> list[Launch]:
        """Take out those that were ordered, or woken, longer ago than this: they hang."""
        own = [launch for launch in self.of(pool) if launch.woken is woken]
        late = [launch for launch in own if now_s - launch.ordered_s > limit_s]
        for launch in late:
            self._open.remove(launch)
        return late

    def forget(self, pools: Sequence[str]) -> None:
        """Keep only these pools."""
        self._open = [launch for launch in self._open if launch.pool in pools]
        self._known = {pool: names for pool, names in self._known.items() if pool in pools}


def _started(launch: Launch, backend: str, now_s: float) -> StartedBackend:
    seen_s, up_s = launch.seen_s, launch.up_s
    return StartedBackend(
        pool=launch.pool,
        backend=backend,
        woken=launch.woken,
        seen_s=None if seen_s is None else seen_s - launch.ordered_s,
        up_s=None if seen_s is None or up_s is None else up_s - seen_s,
        ready_s=None if up_s is None else now_s - up_s,
        whole_s=now_s - launch.ordered_s,
    )

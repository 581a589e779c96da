"""Which backends of a pool count as there: not those that are drained, nor those long down.

Reads the fleet; changes nothing. Times are seconds on one monotonic clock.
"""

from collections.abc import Iterable, Sequence

from gateway.actuation.launches import Launches, Sight
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet


class Presence:
    """The backends of all pools, as of the last look.

    lost_s: one that is down for so long does not count, unless it is a launch that is awaited.
    """

    def __init__(self, fleet: Fleet, launches: Launches, lost_s: float) -> None:
        self._fleet, self._launches = fleet, launches
        self.lost_s = lost_s
        self._now_s = 0.0
        self._down_s: dict[str, float] = {}  # since when, by name

    def __repr__(self) -> str:
        return f"<Presence in {self._fleet!r}>"

    def look(self, now_s: float) -> None:
        """Note which backends are down now."""
        backends, self._now_s = self._fleet.backends, now_s
        down = [backend.name for backend in backends if not backend.healthy]
        self._down_s = {name: self._down_s.get(name, now_s) for name in down}

    def there(self, pool: str) -> list[Backend]:
        """The backends that count."""
        awaited = self._launches.starting(pool)
        return [b for b in self._pool(pool) if b.name in awaited or not (b.asleep or self._lost(b))]

    def coming(self, pool: str) -> int:
        """How many there are, with those that were ordered and have not come."""
        return len(self.there(pool)) + self._launches.unseen(pool)

    def counts(self, pools: Iterable[str]) -> dict[str, int]:
        """The same by pool."""
        return {pool: self.coming(pool) for pool in pools}

    def sights(self, pool: str) -> list[Sight]:
        """For `Launches.look`: all that are not drained."""
        return [
            Sight(
                name=backend.name,
                up=backend.healthy,
                ready=backend.healthy
                and not backend.asleep
                and backend.cold_until_s <= self._now_s,
            )
            for backend in self._pool(pool)
        ]

    def _lost(self, backend: Backend) -> bool:
        since_s = self._down_s.get(backend.name)
        return since_s is not None and self._now_s - since_s >= self.lost_s

    def _pool(self, pool: str) -> Sequence[Backend]:
        known = pool in self._fleet.membership.pools
        return self._fleet.pool(pool) if known else ()

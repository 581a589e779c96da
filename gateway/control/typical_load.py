"""How much load one sequence of another client is, of which nothing else is known. No I/O."""

from collections.abc import Callable, Iterator

from gateway.routing.backend import Backend
from gateway.routing.table import RoutingTable

ENOUGH = 4  # sequences of ours at a backend, whose mean stands for those of others


class TypicalLoads:
    """The load of a sequence: the mean of ours that are there, or of the pool as planned."""

    def __init__(self, table: Callable[[], RoutingTable]) -> None:
        """table: returns the one in force."""
        self._table = table
        self._of: RoutingTable | None = None
        self._by_pool: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<TypicalLoads {self._by_pool!r}>"

    def load(self, backend: Backend) -> float:
        """Σ 1/n* that a sequence at a backend adds; 0 if neither is known."""
        if backend.in_flight >= ENOUGH and backend.load > 0.0:
            return backend.load / backend.in_flight
        table = self._table()
        if table is not self._of:
            self._of, self._by_pool = table, _planned(table)
        return self._by_pool.get(backend.pool, 0.0)


def _planned(table: RoutingTable) -> dict[str, float]:
    """By pool: the mean over the buckets that the plan sends there, by their own class; where it
    sends none, over all that the pool can serve."""
    return {
        name: _mean(list(_sent(table, pool)) or list(_served(table, pool)))
        for pool, name in enumerate(table.pools)
    }


def _mean(loads: list[float]) -> float:
    return sum(loads) / len(loads) if loads else 0.0


def _sent(table: RoutingTable, pool: int) -> Iterator[float]:
    for bucket, slices in enumerate(table.slices):
        if any(number == pool for number, _ in slices):
            yield table.slots[bucket][pool][table.own[bucket]]


def _served(table: RoutingTable, pool: int) -> Iterator[float]:
    for bucket, row in enumerate(table.feasible):
        if row[pool] and table.slots[bucket][pool]:
            yield table.slots[bucket][pool][table.own[bucket]]

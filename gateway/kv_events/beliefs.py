"""Has the index of prompts' beginnings forget what an engine no longer has, as its events say.

Only the clock of a backend's row is put forward, in the memory that all workers share: what they do
for each request stays as it is. A write may be lost to one of a worker at the same moment, so what
is known is written again at each look.
"""

from collections.abc import Callable, Collection

from gateway.routing.affinity import LEAST_FREE
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.routing.prefix_index import TICK_BITS, PrefixIndex
from gateway.routing.table import RoutingTable

TICK = 1 << TICK_BITS  # tokens, within which the clock tells no before and after


class Beliefs:
    """What is believed of all backends that publish events."""

    def __init__(
        self, fleet: Fleet, index: PrefixIndex, *, table: Callable[[], RoutingTable]
    ) -> None:
        """index: that of all workers. table: returns the one in force."""
        self._fleet = fleet
        self._index = index
        self._table = table
        self._edges: dict[str, int] = {}  # by backend: up to which nothing is trusted

    def __repr__(self) -> str:
        return f"<Beliefs of {len(self._edges)} backends>"

    def noted(self, backend: Backend) -> int:
        """The time of a backend's clock at which what its engine stores now was noted. Prompts wait
        and are computed before they are stored, and some engines store a prompt at its end: so
        what is under way is taken for newer."""
        running = int(min(1.0, backend.memory) * self._room(backend))
        return max(0, self.given(backend) - running)

    def given(self, backend: Backend) -> int:
        """Tokens that its engine was given to keep, by the gateway, as its clock counts them; 0 if
        it has left."""
        row = self._row(backend)
        return 0 if row is None else self._index.clock(row)

    def gained(self, backend: Backend, before: int) -> int:
        """Tokens that its engine was given since its clock was this, not long ago; 0 if the clock
        was put forward meanwhile because something was forgotten, which is by much more."""
        gained = self.given(backend) - before
        return gained if 0 < gained < self._span(backend) / 2 else 0

    def forget(self, backend: Backend) -> None:
        """Its engine has nothing that was noted until now."""
        self.disbelieve(backend, self.given(backend) + TICK)

    def disbelieve(self, backend: Backend, edge: int) -> None:
        """Its engine has nothing that was noted before this time of its clock."""
        edge = max(edge, self._edges.get(backend.name, 0))
        self._edges[backend.name] = edge
        self._put_forward(backend, edge)

    def look(self, backends: Collection[Backend]) -> None:
        """Write again what is known of these backends, and forget that of others."""
        names = {backend.name for backend in backends}
        self._edges = {name: edge for name, edge in self._edges.items() if name in names}
        for backend in backends:
            edge = self._edges.get(backend.name)
            if edge is not None:
                self._put_forward(backend, edge)

    def _put_forward(self, backend: Backend, edge: int) -> None:
        row = self._row(backend)
        if row is None:
            return
        # As each worker trusts it, or what is newer would be forgotten too.
        self._index.span(row, self._span(backend))
        self._index.disbelieve(row, edge)

    def _span(self, backend: Backend) -> float:
        """Tokens for which a worker trusts what it noted: see `Affinity`."""
        return self._room(backend) * max(LEAST_FREE, 1.0 - backend.memory)

    def _room(self, backend: Backend) -> int:
        """Tokens that its engine has room for, as all workers think."""
        table = self._table()
        known = backend.pool in table.pools
        return table.kv_tokens[table.pools.index(backend.pool)] if known else 0

    def _row(self, backend: Backend) -> int | None:
        try:
            return self._fleet.row(backend)
        except KeyError:
            return None

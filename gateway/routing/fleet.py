"""All backends known now, by pool. Living state: outlives every table.

A fleet follows a `Membership`: what it gains and loses at run time, it gains and loses in every
process. Knows no source of backends and no connection.
"""

from collections.abc import Mapping, Sequence

from gateway.routing.backend import Backend
from gateway.routing.membership import Membership, first


class Fleet:
    """Backends by pool, live or not, in the order of their membership.

    membership: what the fleet follows.
    """

    def __init__(self, membership: Membership) -> None:
        self.membership = Membership(version=-1, members=(), pools={})
        self._by_name: dict[str, Backend] = {}
        self._pools: dict[str, tuple[Backend, ...]] = {}
        self.apply(membership)

    @classmethod
    def of(cls, urls: Mapping[str, Sequence[str]]) -> "Fleet":
        """A fleet of these base URLs by pool. Backends are named `pool-0`, `pool-1`, …"""
        return cls(first(urls))

    def __repr__(self) -> str:
        return f"<Fleet {', '.join(f'{p}: {len(b)}' for p, b in self._pools.items())}>"

    def pool(self, name: str) -> tuple[Backend, ...]:
        return self._pools[name]

    @property
    def backends(self) -> tuple[Backend, ...]:
        return tuple(self._by_name.values())

    def row(self, backend: Backend) -> int:
        """The place of a backend in arrays that processes share."""
        return self._rows[backend.name]

    def running(self, pools: Sequence[str]) -> tuple[int, ...]:
        """(P,) how many backends each of these pools has now, live or not."""
        return tuple(len(self._pools[pool]) for pool in pools)

    def apply(self, membership: Membership) -> tuple[tuple[Backend, ...], tuple[Backend, ...]]:
        """Follows a membership; the backends that are new, and those that are gone.

        Those that stay keep all that is known of them. New ones count as down until they were
        probed, but for the first ones, which are probed before anything is served. One that is gone
        gets no new request; its leases are released as their requests end.
        """
        before, is_first = self._by_name, self.membership.version < 0
        self._by_name = {
            m.name: before.get(m.name) or Backend(name=m.name, pool=m.pool, url=m.url)
            for m in membership.members
        }
        self._rows = {m.name: m.row for m in membership.members}
        self._pools = {
            pool: tuple(b for b in self._by_name.values() if b.pool == pool)
            for pool in membership.pools
        }
        self.membership = membership
        new = tuple(b for name, b in self._by_name.items() if name not in before)
        for backend in new:
            backend.probed(is_first)
        gone = tuple(b for name, b in before.items() if name not in self._by_name)
        return new, gone

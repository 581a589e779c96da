"""The backends of one process, by pool. Outlives every table.

A fleet follows a `Membership`, so that backends come and go at run time in every process alike.
Knows neither where memberships come from nor any connection.
"""

from collections.abc import Mapping, Sequence

from gateway.routing.backend import Backend
from gateway.routing.membership import LEAVING, Membership, first


class Fleet:
    """Backends by pool, live or not, in the order of the membership.

    max_ejection_share: of a pool's healthy backends, how many may rest because of failed requests.
    warmup_s: seconds in which a backend that comes up gets more and more requests. lacking: names
    of the backends that do not have an adapter, by its name; empty where all have all.
    """

    def __init__(self, membership: Membership) -> None:
        self.max_ejection_share = 0.34
        self.warmup_s = 0.0
        self.membership = Membership(version=-1, members=(), pools={})
        self.lacking: dict[str, frozenset[str]] = {}
        self._kin: dict[str, list[Backend]] = {}  # backends of one URL, where there are several
        self._by_name: dict[str, Backend] = {}
        self._pools: dict[str, tuple[Backend, ...]] = {}
        self.apply(membership)

    @classmethod
    def of(cls, urls: Mapping[str, Sequence[str]]) -> "Fleet":
        """A fleet of these base URLs by pool; backends are named `POOL-0`, `POOL-1`, …"""
        return cls(first(urls))

    def __repr__(self) -> str:
        return f"<Fleet {', '.join(f'{p}: {len(b)}' for p, b in self._pools.items())}>"

    def pool(self, name: str) -> tuple[Backend, ...]:
        """The backends of a pool that may get requests, live or not: without those drained."""
        return self._pools[name]

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All, those that are drained too."""
        return tuple(self._by_name.values())

    def row(self, backend: Backend) -> int:
        """The index of a backend in arrays that the processes share."""
        return self._rows[backend.name]

    def running(self, pools: Sequence[str]) -> tuple[int, ...]:
        """(P,) number of backends of each pool that are not drained, live or not."""
        return tuple(len(self._pools[pool]) for pool in pools)

    def ready(self, pools: Sequence[str], now_s: float) -> tuple[int, ...]:
        """(P,) number of backends of each pool that can take as much as they ever do: that are up
        as far as is known, and warm. One that rests for failed requests comes back in seconds and
        counts."""
        return tuple(sum(b.cold_until_s <= now_s for b in self._reachable(pool)) for pool in pools)

    def probed(self, backend: Backend, up: bool, now_s: float) -> None:
        """Note the result of a probe. A backend that comes up warms up, unless fewer than half of
        its pool are warm: they could not carry the others' load meanwhile."""
        if up and not backend.healthy:
            self._warm_up(backend, now_s)
        backend.probed(up)

    def sleeps(self, backend: Backend, asleep: bool, now_s: float) -> None:
        """Note what a backend's engine says of itself. One that wakes warms up, as one that comes
        up: its caches are empty."""
        if backend.asleep and not asleep:
            self._warm_up(backend, now_s)
        backend.asleep = asleep

    def _warm_up(self, backend: Backend, now_s: float) -> None:
        pool = self._pools.get(backend.pool, ())
        if self.warmup_s and 2 * self._warm(pool, now_s) >= len(pool):
            backend.warm_up(now_s, self.warmup_s)

    def may_rest(self, backend: Backend) -> bool:
        """Whether a backend may get no requests for a while because of failed requests.

        One client's bad requests make every backend fail that gets them, so failures alone never
        take more than `max_ejection_share` of a pool's healthy backends out, or one if that is
        less, and none of one. (Envoy has `max_ejection_percent` for this.)
        """
        others = [b for b in self._reachable(backend.pool) if b is not backend]
        return sum(other.resting for other in others) < self._most_resting(len(others) + 1)

    def elsewhere(self, backend: Backend) -> bool:
        """Whether another backend of its pool can serve what a backend has not begun."""
        return any(b is not backend and not b.resting for b in self._reachable(backend.pool))

    def recall(self, now_s: float) -> None:
        """Let backends that rest or are cold get requests where too many do for the number that is
        left, because others went down or left since. Called several times a second."""
        for name, pool in self._pools.items():
            if any(b.breaker.tripped for b in pool):
                reachable = self._reachable(name)
                resting = [b for b in reachable if b.breaker.tripped]
                for backend in resting[self._most_resting(len(reachable)) :]:
                    backend.breaker.recall()
            cold = [b for b in pool if b.cold_until_s > now_s]
            if cold:
                lacking = (len(pool) + 1) // 2 - self._warm(pool, now_s)
                for backend in cold[: max(0, lacking)]:
                    backend.cold_until_s = 0.0

    def peers(self, backend: Backend, now_s: float) -> tuple[float, float]:
        """Failed and all answers lately of the other backends in a backend's pool."""
        failed = answers = 0.0
        for other in self._pools.get(backend.pool, ()):
            if other is not backend:
                counts = other.breaker.rate.counts(now_s)
                failed += counts[0]
                answers += counts[1]
        return failed, answers

    def _warm(self, pool: Sequence[Backend], now_s: float) -> int:
        return sum(b.live(now_s) and b.cold_until_s <= now_s for b in pool)

    def _reachable(self, pool: str) -> list[Backend]:
        """The backends of a pool that are up and awake as far as is known, whatever they
        answer."""
        return [
            b
            for b in self._pools.get(pool, ())
            if b.healthy and not b.asleep and not (b.breaker.tripped and b.breaker.unreachable)
        ]

    def _most_resting(self, reachable: int) -> int:
        """How many of so many backends may rest at once."""
        if reachable < 2 or not self.max_ejection_share:
            return 0
        return max(1, int(self.max_ejection_share * reachable))

    def apply(self, membership: Membership) -> tuple[tuple[Backend, ...], tuple[Backend, ...]]:
        """Follow a membership; return the backends that are new and those that left.

        A backend that stays keeps its state. A new one is down until its first probe, except at the
        start, where all are probed before the port opens. One that left gets no new requests; its
        leases are released as their requests end.
        """
        before, is_first = self._by_name, self.membership.version < 0
        self._by_name = {
            m.name: before.get(m.name) or Backend(name=m.name, pool=m.pool, url=m.url)
            for m in membership.members
        }
        self._rows = {m.name: m.row for m in membership.members}
        self.lacking = {
            adapter: frozenset([m.name for m in membership.members if adapter in m.lacks])
            for adapter in {name for m in membership.members for name in m.lacks}
        }
        drained = {m.name: m.drained for m in membership.members if m.drained}
        self._pools = {
            pool: tuple(
                b for b in self._by_name.values() if b.pool == pool and b.name not in drained
            )
            for pool in membership.pools
        }
        for name, backend in self._by_name.items():
            backend.leaving = drained.get(name) == LEAVING
        self.membership = membership
        self._group()
        # By name and not by URL: a URL that left and came back is another backend, because leases
        # of the first one may still end.
        new = tuple(b for name, b in self._by_name.items() if name not in before)
        for backend in new:
            backend.probed(is_first)
        gone = tuple(b for name, b in before.items() if name not in self._by_name)
        return new, gone

    def mix(self) -> None:
        """After the totals of all backends were set, each to those of its own leases: let those of
        one URL have the totals of all of them."""
        for kin in self._kin.values():
            sums = [(b.in_flight, max(b.loads), b.memory, b.pending_s) for b in kin]
            for number, backend in enumerate(kin):
                for other, held in enumerate(sums):
                    if other != number:
                        backend.lend(*held)

    def _group(self) -> None:
        """Let the backends of one URL be one engine: two pools may serve two models there."""
        before, self._kin = self._kin, {}
        members: dict[str, list[Backend]] = {}
        for backend in self._by_name.values():
            members.setdefault(backend.url, []).append(backend)
        for url, own in members.items():
            kin = before.get(url)
            if kin is None and len(own) == 1:
                continue
            kin = self._kin[url] = [] if kin is None else kin
            for backend in own:
                if backend not in kin:
                    backend.join(kin)
            kin[:] = own  # those that left take nothing more; what they hold they will tell

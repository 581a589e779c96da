"""One change of the fleet, in the order in which no pool is ever empty. Knows no plan."""

import logging
from collections.abc import Callable, Mapping, Sequence

from gateway.control.health import Health
from gateway.proxy.probe import Probe
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Drained, Membership, changed, draining, lacking
from gateway.workers.plane import DataPlane

log = logging.getLogger("cuvee")


def begin(fleet: Fleet, urls: Mapping[str, Sequence[str]]) -> None:
    """Give a fleet that does not serve yet these backends, by pool; a pool that is not named keeps
    its own. All are probed before the port opens. Raises ConfigError as `changed` does."""
    new, _ = fleet.apply(changed(fleet.membership, urls))
    for backend in new:
        backend.probed(True)


class Rollout:
    """Brings backends and pools into service, and takes others out of it."""

    def __init__(self, fleet: Fleet, plane: DataPlane, health: Health, probe: Probe) -> None:
        self._fleet = fleet
        self._plane = plane
        self._health = health
        self._probe = probe

    def note(self, lacks: Mapping[str, tuple[str, ...]]) -> None:
        """These backends lack these adapters from now on, by their names; the others lack none."""
        before = self._fleet.membership
        membership = lacking(before, lacks)
        if membership is not before:
            self._plane.apply(membership)

    def drain(self, drained: Mapping[str, Drained]) -> bool:
        """These backends are drained from now on, by their names, and the others not; whether that
        differs from before."""
        before = self._fleet.membership
        membership = draining(before, drained)
        if membership is not before:
            self._plane.apply(membership)
        return membership is not before

    def next(
        self, urls: Mapping[str, Sequence[str]], pools: Sequence[str] | None = None
    ) -> Membership:
        """The next membership; see `changed`. Changes nothing."""
        in_use = self._plane.rows_in_use()
        return changed(self._fleet.membership, urls, pools=pools, in_use=in_use)

    async def move(
        self,
        urls: Mapping[str, Sequence[str]],
        pools: Sequence[str] | None = None,
        *,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Add the backends that are new, and probe them; then take the others away.

        urls, pools: see `changed`. between: called while the fleet has the old and the new ones.
        Raises ConfigError, and changes nothing, for a change that cannot be made.
        """
        before = self._fleet.membership
        wanted = self.next(urls, pools).urls()
        await self._add(wanted)
        between()
        self._plane.apply(self.next(wanted, tuple(wanted)))
        staying = {(member.pool, member.url) for member in self._fleet.membership.members}
        for member in before.members:
            if (member.pool, member.url) not in staying:
                self._probe.forget(member.pool, member.url)
        log.info("backends: %s", ", ".join(f"{p} {len(u)}" for p, u in wanted.items()))

    async def _add(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Add these pools and backends to the present ones, and probe them."""
        present = self._fleet.membership.urls()
        both = {
            pool: tuple(dict.fromkeys((*present.get(pool, ()), *wanted.get(pool, ()))))
            for pool in dict.fromkeys((*present, *wanted))
        }
        if both != present:
            self._plane.apply(self.next(both, tuple(both)))
            await self._health.probe_all()

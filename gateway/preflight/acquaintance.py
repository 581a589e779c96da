"""Asks each backend who it is, once it is well: which models it serves, and what its limits are.

One that serves another model than the configuration says passes its probes, and all its requests
fail. So it counts as down until it serves the right one. One that lacks an adapter gets no requests
for it, and is asked again now and then: adapters can be loaded into an engine that runs. Owns what
backends have told; knows no plan.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from gateway.config.load import Loaded
from gateway.preflight.inquiry import ask, expected, expected_in
from gateway.preflight.limits import limits, path
from gateway.preflight.verdict import Expected
from gateway.preflight.verdict import Verdict as Answered
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.probe import Probe, Verdict
from gateway.routing.backend import Backend
from planner.engine.limits import EngineLimits

log = logging.getLogger("cuvee")

IGNORES_NAMES = "tgi"  # an engine that serves its model under every name
AGAIN = 5  # rounds of probes after which a backend that lacks something is asked again


class Known(NamedTuple):
    """What a backend has told. lacks: adapters, by the names that clients use."""

    expected: Expected
    limits: EngineLimits
    lacks: tuple[str, ...] = ()


class Acquaintance:
    """Probes backends, and asks those that come up; an async context manager."""

    def __init__(
        self,
        loaded: Loaded,
        probe: Probe,
        *,
        on_limits: Callable[[Mapping[str, EngineLimits]], None],
    ) -> None:
        """on_limits: called with the limits of each pool's engines when they have changed."""
        self._probe = probe
        self._on_limits = on_limits
        self._known: dict[str, Known] = {}
        self._had: set[str] = set()  # adapters that some backend had
        self._rounds = 0
        self._told: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()
        self._limits: dict[str, EngineLimits] = {}
        self.configure(loaded)
        self._connection_pools = ConnectionPools(connect_timeout_s=2 * self._timeout_s)

    def __repr__(self) -> str:
        return f"<Acquaintance with {', '.join(self._known) or 'nobody'}>"

    async def __aenter__(self) -> "Acquaintance":
        await self._connection_pools.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection_pools.__aexit__(*_)

    def configure(self, loaded: Loaded, coming: Loaded | None = None) -> None:
        """Compare with this configuration from now on. Backends of which it says something else
        than before are asked again. coming: another one, whose new backends are probed already."""
        both = (*(() if coming is None else expected(coming)), *expected(loaded))
        self._expected = {(one.pool, one.url.rstrip("/")): one for one in both}
        # Of backends that are not in the file: those were found, or applied by a program.
        pools = {} if coming is None else expected_in(coming)
        self._by_pool = pools | expected_in(loaded)
        self._timeout_s = loaded.config.gateway.health_timeout_s

    def settle(self, names: Collection[str]) -> None:
        """After a round of probes: forget all backends but these, and tell the limits of pools if
        they have changed. Those of a pool of which no backend is known stay as they were: it will
        come back as it was."""
        for name in [name for name in self._told if name not in names]:
            del self._told[name]
        for name in [name for name in self._known if name not in names]:
            self._forget(name)
        self._rounds += 1
        now = dict[str, EngineLimits]()
        for one, own, _ in self._known.values():
            now[one.pool] = own.least(now[one.pool]) if one.pool in now else own
        if any(self._limits.get(pool) != own for pool, own in now.items()):
            self._limits |= now
            self._on_limits(dict(self._limits))

    @property
    def lacks(self) -> dict[str, tuple[str, ...]]:
        """The adapters that backends lack, by the backend's name. Of one that no backend has, their
        engines are left to say so."""
        found = {
            name: tuple(adapter for adapter in known.lacks if adapter in self._had)
            for name, known in self._known.items()
        }
        return {name: lacks for name, lacks in found.items() if lacks}

    async def well(self, backend: Backend) -> Verdict:
        """Whether a backend can serve, by its health path, and by what it says of itself."""
        up, reason = await self._probe.well(backend)
        if up is False:  # when it comes back it may be another
            self._forget(backend.name)
        if not up:
            return up, reason
        one = self._expects(backend)
        known = self._known.get(backend.name)
        if one is None:
            return up, reason
        if known is not None and known.expected == one:
            again = known.lacks and self._rounds % AGAIN == 0
            if not again:
                return up, reason
        return await self._meet(backend, one, reason)

    def _expects(self, backend: Backend) -> Expected | None:
        """What a backend should be; `None` of a pool that is gone."""
        listed = self._expected.get((backend.pool, backend.url))
        if listed is not None:
            return listed
        pool = self._by_pool.get(backend.pool)
        return None if pool is None else pool._replace(url=backend.url)

    async def _meet(self, backend: Backend, one: Expected, reason: str) -> Verdict:
        engine = one.upstream.engine
        pools, timeout_s = self._connection_pools, self._timeout_s
        extra = (path(engine),)
        try:
            found, answers = await ask(pools, one, key=None, timeout_s=timeout_s, extra=extra)
        except Exception:  # a fault of ours must not take a backend away that is well
            log.exception("backend %s could not be asked what it serves", backend.name)
            return True, reason
        if found.other and engine != IGNORES_NAMES:
            # Health tells it of a backend that was up until now.
            if not backend.healthy and self._told.get(backend.name) != found.text:
                log.warning("backend %s (%s) is down: it %s", backend.name, backend.url, found.text)
            self._told[backend.name] = found.text
            return False, f"it {found.text}"
        if found.kind == "mismatch":
            self._tell(backend, found.text + ("; others get its requests" * bool(found.missing)))
        elif any(answer.status in (401, 403) for answer in answers) and not one.upstream.forwards:
            self._tell(backend, f"{found.text} (api_key_file or api_key_env of its pool)")
        self._warn(one, found)
        own = EngineLimits(context=found.context)
        if answers[-1].status == 200:
            own = own.least(limits(engine, answers[-1].body))
        self._known[backend.name] = Known(one, own, self._lacks(one, found))
        return True, reason

    def _lacks(self, one: Expected, found: Answered) -> tuple[str, ...]:
        """The adapters that a backend lacks; notes those that it has."""
        if one.upstream.engine == IGNORES_NAMES or found.kind == "unknown":
            return ()
        own = {a: name for a, name in one.upstream.names.items() if name in one.adapters}
        self._had |= {adapter for adapter, name in own.items() if name not in found.missing}
        return tuple(adapter for adapter, name in own.items() if name in found.missing)

    def _tell(self, backend: Backend, text: str) -> None:
        """Log what is to be known of a backend that may serve, once."""
        if self._told.get(backend.name) != text:
            self._told[backend.name] = text
            log.warning("backend %s of pool %s: %s", backend.url, backend.pool, text)

    def _warn(self, one: Expected, found: Answered) -> None:
        """Say once for each pool and version that the profile is of another version."""
        about = one.pool, found.warning
        if found.warning and about not in self._said:
            self._said.add(about)
            log.warning("backend %s of pool %s %s", one.url, one.pool, found.warning)

    def _forget(self, name: str) -> None:
        known = self._known.pop(name, None)
        if known is not None:
            self._connection_pools.forget(known.expected.url)

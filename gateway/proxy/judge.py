"""Judges backends by what became of requests there. Knows no client and no connection."""

import logging
from collections.abc import Callable

from gateway.errors import ConnectFailed, UpstreamError, Vacated
from gateway.proxy.attempts import Attempts
from gateway.proxy.engines import EngineRefusal
from gateway.routing.backend import Backend, Lease
from gateway.routing.breaker import ANYONE
from gateway.routing.fleet import Fleet

log = logging.getLogger("cuvee")


class Judge:
    """Tells the breakers of a fleet what failed and whose fault it may be."""

    def __init__(
        self,
        fleet: Fleet,
        on_failure: Callable[[str, str, bool], None],
        clock: Callable[[], float],
    ) -> None:
        """on_failure: called with the name of a backend that failed a request, the kind of failure,
        and whether the backend must rest because of it."""
        self._fleet = fleet
        self._on_failure = on_failure
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Judge of {self._fleet!r}>"

    def blame(
        self, lease: Lease, error: UpstreamError, caller: str, *, counts: bool = True
    ) -> None:
        """Note at the backend that it is full, or that it failed; nothing for a client's mistake,
        or what may be one. A backend that must rest is logged.

        caller: id of the caller. counts: whether it counts against the backend.
        """
        if isinstance(error, Vacated):
            return
        if isinstance(error, EngineRefusal) and error.admission:
            lease.backend.refused(self._clock(), error.pause_s, lease.width)
            self._on_failure(lease.backend.name, error.kind, False)
        elif not isinstance(error, EngineRefusal) or error.status >= 500:
            if counts or isinstance(error, ConnectFailed):
                self._count(lease.backend, error, caller)
            else:
                self._on_failure(lease.backend.name, error.kind, False)

    def convict(self, attempts: Attempts) -> None:
        """Another backend has served the request: it was not to blame where it failed before."""
        for backend in attempts.blamed:
            backend.breaker.proved()
        for lease, error in attempts.suspects:
            self._count(lease.backend, error, ANYONE)

    def _count(self, backend: Backend, error: UpstreamError, caller: str) -> None:
        """Count a failure of a backend."""
        unreachable, now_s = isinstance(error, ConnectFailed), self._clock()
        pause_s = backend.breaker.failed(
            now_s,
            unreachable=unreachable,
            may_open=unreachable or self._fleet.may_rest(backend),
            caller=ANYONE if unreachable else caller,
            peers=self._fleet.peers(backend, now_s),
        )
        self._on_failure(backend.name, error.kind, pause_s is not None)
        if pause_s is not None:
            log.warning("backend %s gets no requests for %g s: %s", backend.name, pause_s, error)

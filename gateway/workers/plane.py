"""The data plane as the control plane sees it: one worker in this process, or several in others.

Knows neither kind.
"""

from typing import Protocol

from gateway.routing.backend import Backend
from gateway.routing.membership import Membership
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges


class DataPlane(Protocol):
    """Serves requests while it is open; an async context manager.

    host, port: where it listens. table: what is in force; assigned to put another one in force.
    replaced: workers that died and were replaced since the start.
    """

    host: str
    port: int
    table: RoutingTable
    replaced: int

    async def __aenter__(self) -> "DataPlane": ...

    async def __aexit__(self, *_: object) -> None:
        """Takes no new requests, lets running ones finish, and ends."""

    def apply(self, membership: Membership) -> None:
        """Serves with these backends from now on."""

    def rows_in_use(self) -> frozenset[int]:
        """Rows of backends that left, which some worker may still write to."""

    def drain(self) -> StatsDelta:
        """What happened since the last call."""

    def gauges(self) -> dict[int, WorkerGauges]:
        """What each worker that serves carries now, by its number."""

    def leave(self) -> None:
        """Answers probes as not ready from now on, but still serves, so that balancers notice."""

    def on_probed(self) -> None:
        """All backends were probed: one may be back, or have room again."""

    def backend_lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""

"""The protocol of the data plane, as the control plane sees it.

`Worker` implements it in the same process, `Supervisor` with several worker processes.
"""

from collections import deque
from typing import Protocol

from gateway.access.key_board import KeyBoard
from gateway.config.serving import ServingConfig
from gateway.routing.backend import Backend
from gateway.routing.estimator_schema import Lesson
from gateway.routing.membership import Membership
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges


class DataPlane(Protocol):
    """Serves requests while it is open; an async context manager.

    table: the one in force; assign another to put it in force. replaced: worker processes that died
    and were replaced since the start. pids: (N,) ids of the worker processes, `None` where one is
    being replaced; empty where this process serves itself. recent: lessons of a sample of the last
    requests. board: what the keys of clients have used.
    """

    board: KeyBoard
    table: RoutingTable
    replaced: int
    recent: deque[Lesson]

    @property
    def pids(self) -> tuple[int | None, ...]: ...

    async def __aenter__(self) -> "DataPlane": ...

    async def __aexit__(self, *_: object) -> None:
        """Take no new requests, let running ones finish, then end."""

    def configure(self, config: ServingConfig, table: RoutingTable) -> None:
        """Serve by this configuration and its table from now on; the fleet has all its pools.
        `drain` first: what was counted until now is by the old numbers of buckets."""

    def apply(self, membership: Membership) -> None:
        """Serve with the backends of this membership from now on."""

    def rows_in_use(self) -> frozenset[int]:
        """Rows of backends that left, to which some worker may still write."""

    def drain(self) -> StatsDelta:
        """Return the statistics since the last call."""

    def gauges(self) -> dict[int, WorkerGauges]:
        """The gauges of each worker that serves, by its number."""

    def leave(self) -> None:
        """Report not ready from now on, but go on serving, so that balancers have time to
        notice."""

    def kill(self) -> None:
        """End all other processes now; called when this process itself is about to end."""

    def on_probed(self) -> None:
        """All backends were probed: one may be up again, or have room."""

    def backend_lost(self, backend: Backend) -> None:
        """Several probes of a backend failed: end the wait of requests for its first byte."""

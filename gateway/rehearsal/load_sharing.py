"""How routers of one fleet learn of each other's load as virtual time passes."""

from typing import Protocol

from gateway.routing.router import Router
from gateway.routing.table import RoutingTable


class LoadSharing(Protocol):
    """What several gateways do by a store, or workers by an array."""

    def routers(self, table: RoutingTable, urls: dict[str, tuple[str, ...]]) -> list[Router]:
        """A router for each worker or gateway, on a fleet of its own of these backends."""

    def advance(self, now_s: float) -> None:
        """It is so late now."""

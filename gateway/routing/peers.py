"""What a router needs to know of others that use the same backends. The seam for a carrier.

Workers of one machine see each other through an array in shared memory (`shared_load`); a store
that several gateways share would stand behind the same protocol. Knows no carrier.
"""

from typing import Protocol


class Peers(Protocol):
    """The load that other routers put on the fleet."""

    def refresh(self, now_s: float) -> None:
        """Bring the fleet's totals up to date: in flight, load and pending prefill of every
        backend, and which backends are down. Called before every decision: it must be cheap, and
        may do nothing while what was read is fresh enough."""

    def track(self) -> None:
        """The fleet's membership has changed: publish and read its present backends."""

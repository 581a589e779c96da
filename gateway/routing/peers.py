"""The protocol by which routers that share backends learn each other's load.

Workers of one machine implement it with an array in shared memory (`shared_load`); gateways on
several machines would implement it with a store that they share.
"""

from typing import Protocol

from gateway.routing.shared_queue import QueueView


class Peers(Protocol):
    """The load that other routers have on the same fleet.

    Before the first `refresh`, and in `track` for new ones, every backend must be given a place for
    this router's own load (`Backend.publish_to`): `Backend.set_totals` adds what stands there.

    queue: view on the queues of the other routers, if they have any.
    """

    queue: QueueView | None

    def refresh(self, now_s: float) -> None:
        """Update the fleet's totals: in flight, load and pending prefill of every backend, and
        which backends are down. Called before every decision, so it must be cheap; it may do
        nothing while the last values are fresh enough."""

    def track(self) -> None:
        """The membership changed: publish and read the load of the backends of now."""

"""What all client connections of a listener share, as they know it."""

from typing import Any, Protocol

from gateway.errors import GatewayError
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.request import ClientLimits, Request


class Server(Protocol):
    """What all client connections of a listener share.

    closing: whether the listener closes, so that no connection is kept alive. connections: the
    open ones, each a `ClientConnection`. budget: for the bodies of all of them.
    """

    limits: ClientLimits
    budget: BodyBudget
    closing: bool
    connections: set[Any]

    def make_room(self, newest: Any) -> None:
        """Close some connections: there are more than `limits.connections`."""

    def refused(self, error: GatewayError) -> None:
        """Note that what a client sent was no request that could be served."""

    def serve(self, client: Any, request: Request) -> None:
        """Serve a request; `client.finish()` must be called once, now or later."""

"""Timeouts of all requests under way, and keep-alive comments. Knows no router and no connection.

A check of all requests several times a second costs less than a timer for each request.
"""

from math import inf
from typing import Final

from gateway.config.schema import GatewaySection
from gateway.errors import Draining, UpstreamTimeout
from gateway.proxy.active import ActiveRequest
from gateway.proxy.responses import stream_head
from gateway.routing.backend import Backend

KEEP_ALIVE: Final = b": keep-alive\n\n"


class Timeouts:
    """Ends requests that take too long; sends comments to clients whose stream has not begun."""

    def __init__(self, settings: GatewaySection) -> None:
        # In order of arrival: a set would end those that are due at once in a chance order.
        self._active: dict[ActiveRequest, None] = {}
        self.configure(settings)

    def __repr__(self) -> str:
        return f"<Timeouts with {len(self._active)} requests>"

    def configure(self, settings: GatewaySection) -> None:
        """Use these settings from now on."""
        self._idle_s = settings.idle_timeout_s
        self._ping_s = settings.sse_keepalive_s or inf

    @property
    def requests(self) -> tuple[ActiveRequest, ...]:
        """All requests under way."""
        return tuple(self._active)

    def begin(self, active: ActiveRequest) -> None:
        """Watch a request until `end`."""
        self._active[active] = None
        if active.llm_request.stream:
            active.ping_s = active.arrival_s + self._ping_s

    def end(self, active: ActiveRequest) -> None:
        """Stop watching a request."""
        self._active.pop(active, None)

    def tick(self, now_s: float) -> None:
        """End what is overdue; called several times a second."""
        for active in tuple(self._active):
            if active.ping_s <= now_s:
                self._ping(active, now_s)
            if active.due_s <= now_s:
                self._overdue(active, now_s)

    def backend_lost(self, backend: Backend) -> None:
        """End the wait of all requests that wait for this backend's first byte, so that they are
        tried at another one.

        vLLM on SIGTERM leaves requests open without a byte until the client gives up.
        """
        for active in tuple(self._active):
            if active.waiting and active.lease is not None and active.lease.backend is backend:
                active.fiber.cancel(UpstreamTimeout("The backend no longer answers."))

    def end_all(self) -> None:
        """The gateway ends now: tell the clients of all requests, by an error, which is more than
        the reset of their connection would tell them."""
        for active in tuple(self._active):
            active.fiber.cancel(Draining())

    def _ping(self, active: ActiveRequest, now_s: float) -> None:
        """Send a comment, so that neither the client nor a balancer in between closes the idle
        connection."""
        active.ping_s = now_s + self._ping_s
        if active.committed:
            active.client.write(KEEP_ALIVE)
        else:
            active.client.start(stream_head(None, active), KEEP_ALIVE)
            active.committed = True

    def _overdue(self, active: ActiveRequest, now_s: float) -> None:
        """End a request whose timeout passed, unless its stream went on since, or waits for its
        client."""
        relay, idle_s = active.relay, self._idle_s
        if relay is None:
            active.fiber.cancel(UpstreamTimeout("The backend did not answer in time."))
        elif relay.stalled:
            active.due_s = now_s + idle_s
        elif relay.last_s + idle_s > now_s:
            active.due_s = relay.last_s + idle_s
        else:
            active.fiber.cancel(UpstreamTimeout(f"The backend was silent for {idle_s:g} s."))

"""All requests under way, and when each of them times out. Knows no router and no connection.

One look at all of them several times a second costs less than a timer for each request.
"""

from math import inf
from typing import Final

from gateway.config.schema import GatewaySection
from gateway.errors import UpstreamTimeout
from gateway.proxy.active import ActiveRequest
from gateway.proxy.responses import stream_head
from gateway.routing.backend import Backend

KEEP_ALIVE: Final = b": keep-alive\n\n"


class Timeouts:
    """Ends requests that take too long, and sends keep-alive comments to clients that wait."""

    def __init__(self, settings: GatewaySection) -> None:
        self._idle_s = settings.idle_timeout_s
        self._ping_s = settings.sse_keepalive_s or inf
        self._active: set[ActiveRequest] = set()

    def __repr__(self) -> str:
        return f"<Timeouts with {len(self._active)} requests>"

    def begin(self, active: ActiveRequest) -> None:
        """Watches a request. A stream that does not begin soon gets comments meanwhile."""
        self._active.add(active)
        if active.llm_request.stream:
            active.ping_s = active.arrival_s + self._ping_s

    def end(self, active: ActiveRequest) -> None:
        self._active.discard(active)

    def tick(self, now_s: float) -> None:
        """Called several times a second."""
        for active in tuple(self._active):
            if active.ping_s <= now_s:
                self._ping(active, now_s)
            if active.due_s <= now_s:
                self._overdue(active, now_s)

    def backend_lost(self, backend: Backend) -> None:
        """Ends the wait for the first byte of a backend that is gone: the requests try elsewhere.

        vLLM on SIGTERM leaves requests open without a byte until the client gives up.
        """
        for active in tuple(self._active):
            if active.waiting and active.lease is not None and active.lease.backend is backend:
                active.fiber.cancel(UpstreamTimeout("The backend no longer answers."))

    def _ping(self, active: ActiveRequest, now_s: float) -> None:
        """Sends a comment to a client whose answer takes long to begin, so that neither the client
        nor a balancer in between closes the connection."""
        active.ping_s = now_s + self._ping_s
        if active.committed:
            active.client.write(KEEP_ALIVE)
        else:
            active.client.start(stream_head(None, active), KEEP_ALIVE)
            active.committed = True

    def _overdue(self, active: ActiveRequest, now_s: float) -> None:
        """Ends a request whose time is up, unless its stream went on since, or waits for its
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

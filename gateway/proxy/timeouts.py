"""All requests under way, and when patience with one is over. Knows no router and no connection.

One look at all of them several times a second costs less than a timer for each.
"""

from math import inf
from typing import Final

from gateway.config.schema import GatewaySection
from gateway.errors import UpstreamTimeout
from gateway.proxy.active import Watch
from gateway.proxy.responses import stream_head
from gateway.routing.backend import Backend

KEEP_ALIVE: Final = b": keep-alive\n\n"


class Patience:
    """Ends what takes too long and comforts those who wait."""

    def __init__(self, settings: GatewaySection) -> None:
        self._idle_s = settings.idle_timeout_s
        self._ping_s = settings.sse_keepalive_s or inf
        self._watches: set[Watch] = set()

    def __repr__(self) -> str:
        return f"<Patience with {len(self._watches)} requests>"

    def begin(self, watch: Watch) -> None:
        """A request is under way. A stream that does not begin soon gets comments meanwhile."""
        self._watches.add(watch)
        if watch.ask.stream:
            watch.ping_s = watch.arrival_s + self._ping_s

    def end(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def tick(self, now_s: float) -> None:
        """Called several times a second."""
        for watch in tuple(self._watches):
            if watch.ping_s <= now_s:
                self._ping(watch, now_s)
            if watch.due_s <= now_s:
                self._overdue(watch, now_s)

    def lost(self, backend: Backend) -> None:
        """A backend is gone: what waits for its first byte gives up on it and tries elsewhere.

        vLLM on SIGTERM leaves requests open without a byte until the client gives up.
        """
        for watch in tuple(self._watches):
            if watch.waiting and watch.lease is not None and watch.lease.backend is backend:
                watch.strand.cancel(UpstreamTimeout("The backend no longer answers."))

    def _ping(self, watch: Watch, now_s: float) -> None:
        """A comment to a client whose answer takes long to begin, so that nobody hangs up."""
        watch.ping_s = now_s + self._ping_s
        if watch.committed:
            watch.client.write(KEEP_ALIVE)
        else:
            watch.client.start(stream_head(None, watch), KEEP_ALIVE)
            watch.committed = True

    def _overdue(self, watch: Watch, now_s: float) -> None:
        """Time is up, unless a stream was heard of since, or waits for its client."""
        relay, idle_s = watch.relay, self._idle_s
        if relay is None:
            watch.strand.cancel(UpstreamTimeout("The backend did not answer in time."))
        elif relay.stalled:
            watch.due_s = now_s + idle_s
        elif relay.last_s + idle_s > now_s:
            watch.due_s = relay.last_s + idle_s
        else:
            watch.strand.cancel(UpstreamTimeout(f"The backend was silent for {idle_s:g} s."))

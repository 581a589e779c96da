"""Timeouts of all requests under way, keep-alive comments, and backends that fell silent. Knows no
router and no connection.

A check of all requests several times a second costs less than a timer for each request.
"""

import logging
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from gateway.config.schema import GatewaySection
from gateway.config.upstream import Upstream
from gateway.errors import Draining, UpstreamTimeout, Vacated
from gateway.proxy.active import ActiveRequest
from gateway.proxy.responses import stream_head
from gateway.routing.backend import Backend

log = logging.getLogger("cuvee")

KEEP_ALIVE: Final = b": keep-alive\n\n"
# A stream that is silent while others of its backend go on gets so many times the timeout: engines
# buffer the arguments of a tool call until they are whole.
ALONE: Final = 10.0
# A backend rests when none of its streams has gone on for so long and one of a peer has. Far above
# the time of a token, and of a long prefill in between.
SILENT_S: Final = 5.0
FIRST_S: Final = 10.0  # how much longer a first token may take, where nothing else is to be heard
GONE_S: Final = 2.0  # silence that ends a stream of a backend that probes do not reach


class Timeouts:
    """Ends requests that take too long; sends comments to clients that hear nothing else; lets
    backends rest that do not go on."""

    def __init__(
        self,
        settings: GatewaySection,
        may_rest: Callable[[Backend], bool],
        elsewhere: Callable[[Backend], bool] | None = None,
    ) -> None:
        """may_rest: whether a backend may get no requests for a while. elsewhere: whether others of
        its pool can serve what it has not begun; `None`: never."""
        # In order of arrival: a set would end those that are due at once in a chance order.
        self._active: dict[ActiveRequest, None] = {}
        self._may_rest, self._elsewhere = may_rest, elsewhere
        self._silent: set[Backend] = set()
        self.configure(settings)

    def __repr__(self) -> str:
        return f"<Timeouts with {len(self._active)} requests>"

    def configure(
        self, settings: GatewaySection, upstreams: Mapping[str, Upstream] | None = None
    ) -> None:
        """Use these settings from now on. upstreams: by pool, which may have limits of their
        own."""
        own = (upstreams or {}).items()
        self._idle_by_pool = {p: u.idle_timeout_s for p, u in own if u.idle_timeout_s is not None}
        self._first_by_pool = {
            p: u.first_byte_timeout_s for p, u in own if u.first_byte_timeout_s is not None
        }
        self._unary_s = settings.unary_timeout_s
        self._idle_s, self._first_byte_s = settings.idle_timeout_s, settings.first_byte_timeout_s
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

    def follow(self, active: ActiveRequest, now_s: float) -> None:
        """Watch the stream of a request, which has begun, until `unfollow`."""
        active.due_s, active.ping_s = now_s + self._idle_limit_s(active), now_s + self._ping_s

    def unfollow(self, active: ActiveRequest) -> None:
        """The stream has ended."""
        active.due_s = active.ping_s = inf

    def end(self, active: ActiveRequest) -> None:
        """Stop watching a request."""
        self._active.pop(active, None)

    def tick(self, now_s: float) -> None:
        """End what is overdue; called several times a second."""
        heard_s: dict[Backend, float] = {}
        asked_s: dict[Backend, float] = {}
        overdue, vacant = [], []
        for active in tuple(self._active):
            if active.lease is not None and active.due_s < inf:
                backend = active.lease.backend
                self._hear(active, backend, heard_s, asked_s)
                if backend.leaving and active.waiting and active.llm_request.stream:
                    vacant.append(active)
            if active.ping_s <= now_s:
                self._ping(active, now_s)
            if active.due_s <= now_s:
                overdue.append(active)
        for active in overdue:
            self._overdue(active, now_s, heard_s)
        for active in vacant:
            self._vacate(active)
        if heard_s or self._silent:
            self._rest(heard_s, asked_s)

    def backend_lost(self, backend: Backend) -> None:
        """End the wait of all requests that wait for this backend's first byte, so that they are
        tried at another one, and soon those of its streams that are silent.

        vLLM on SIGTERM leaves requests open without a byte until the client gives up.
        """
        for active in tuple(self._active):
            if active.lease is None or active.lease.backend is not backend:
                continue
            if active.waiting:
                active.fiber.cancel(UpstreamTimeout("The backend no longer answers."))
            elif active.relay is not None and active.due_s < inf:
                active.due_s = 0.0  # the next tick looks at it

    def end_all(self) -> None:
        """The gateway ends now: tell the clients of all requests, by an error, which is more than
        the reset of their connection would tell them."""
        for active in tuple(self._active):
            active.fiber.cancel(Draining())

    def _ping(self, active: ActiveRequest, now_s: float) -> None:
        """Send a comment, so that neither the client nor a balancer in between closes the idle
        connection; not where the stream goes on, or inside an event."""
        relay = active.relay
        if relay is not None and (relay.stalled or relay.last_s + self._ping_s > now_s):
            active.ping_s = (now_s if relay.stalled else relay.last_s) + self._ping_s
            return
        active.ping_s = now_s + self._ping_s
        if relay is not None and relay.meter.torn:
            return
        if active.committed:
            active.client.write(KEEP_ALIVE)
        else:
            active.client.start(stream_head(None, active), KEEP_ALIVE)
            active.committed = True

    def _vacate(self, active: ActiveRequest) -> None:
        """Have a stream begin elsewhere whose backend ends soon. What does not stream may end there
        in time; if not, it is tried again when the backend cuts it."""
        lease, elsewhere = active.lease, self._elsewhere
        if lease is None or elsewhere is None or not active.waiting or not active.repeatable:
            return
        if elsewhere(lease.backend):
            active.fiber.cancel(Vacated("The backend ends soon."))

    def _overdue(self, active: ActiveRequest, now_s: float, heard_s: dict[Backend, float]) -> None:
        """End a request whose timeout passed, unless its stream went on since, or waits for its
        client. heard_s: when each backend's streams went on last."""
        relay, lease, idle_s = active.relay, active.lease, self._idle_limit_s(active)
        limit_s = idle_s
        if relay is None or lease is None:
            if active.upload is not None and active.upload.excuses:
                active.due_s = now_s + self._unary_s
                return
            active.fiber.cancel(UpstreamTimeout("The backend did not answer in time."))
            return
        if relay.stalled:
            active.due_s = now_s + limit_s
            return
        if not lease.backend.healthy:
            limit_s = min(limit_s, GONE_S)
        elif heard_s.get(lease.backend, 0.0) + limit_s > now_s:  # another stream goes on
            limit_s *= ALONE
        if relay.last_s + limit_s > now_s:
            active.due_s = min(relay.last_s + limit_s, now_s + idle_s)
        else:
            active.fiber.cancel(UpstreamTimeout(f"The backend was silent for {limit_s:g} s."))

    def _idle_limit_s(self, active: ActiveRequest) -> float:
        """The longest silence inside the stream of a request."""
        if not self._idle_by_pool or active.lease is None:
            return self._idle_s
        return self._idle_by_pool.get(active.lease.backend.pool, self._idle_s)

    def _hear(
        self,
        active: ActiveRequest,
        backend: Backend,
        heard_s: dict[Backend, float],
        asked_s: dict[Backend, float],
    ) -> None:
        """Note when the streams of a backend went on last, and since when one waits to begin."""
        relay = active.relay
        if relay is not None:
            if not relay.stalled:
                heard_s[backend] = max(relay.last_s, heard_s.get(backend, 0.0))
        elif active.waiting and active.llm_request.stream:
            limit_s = self._first_by_pool.get(backend.pool, self._first_byte_s)
            sent_s = active.due_s - limit_s
            asked_s[backend] = min(sent_s, asked_s.get(backend, inf))

    def _rest(self, heard_s: dict[Backend, float], asked_s: dict[Backend, float]) -> None:
        """Let backends rest none of whose streams goes on, while those of a peer do."""
        latest_s: dict[str, float] = {}
        for backend, at_s in heard_s.items():
            latest_s[backend.pool] = max(at_s, latest_s.get(backend.pool, 0.0))
        for backend, sent_s in asked_s.items():
            if backend not in heard_s:
                heard_s[backend] = max(sent_s, backend.heard_s) + FIRST_S
        silent = set()
        for backend, at_s in heard_s.items():
            late = latest_s.get(backend.pool, 0.0) - at_s >= SILENT_S
            if late and (backend.silent or self._may_rest(backend)):
                silent.add(backend)
                if not backend.silent:
                    log.warning(
                        "backend %s gets no requests: its streams do not go on", backend.name
                    )
                backend.silent = True
        for backend in self._silent - silent:
            backend.silent = False
        self._silent = silent

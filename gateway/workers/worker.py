"""The data plane of one process: everything that a request meets, and the tick.

Owns the state that each process has of its own: leases, breakers, learned lengths, queue and
statistics. Knows a plan only as a routing table.
"""

import asyncio
import logging
from collections import deque
from contextlib import AsyncExitStack
from math import ceil
from typing import Any, Final

import msgspec

from gateway.config.serving import ServingConfig
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.engines import dialects
from gateway.proxy.exchange import Exchange
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import not_sent
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.request import ClientLimits, Request
from gateway.routing.backend import Backend
from gateway.routing.endpoints import BY_PATH
from gateway.routing.estimator import Estimator
from gateway.routing.estimator_schema import Lesson
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Membership
from gateway.routing.observation import Observation
from gateway.routing.peers import Peers
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from gateway.runtime import most_clients, open_files
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges
from gateway.workers.local import LocalEndpoints, readiness

log = logging.getLogger("cuvee")
requests_log = logging.getLogger("cuvee.requests")

# Finished requests are counted and learned from in batches: code and data then stay in the CPU's
# caches, which halves the cost of doing it for each request at its end.
BATCH: Final = 32
BUFFERED_BODIES: Final = 16  # of the largest size, that may be in memory by default
RECENT: Final = 64  # lessons kept for the supervisor between two reports
TICK_S: Final = 0.2  # between two checks of timeouts
POLL_S: Final = 0.05  # between two attempts of the first request in the queue; see `_poll`


class Worker:
    """Serves the data port; an async context manager. The `DataPlane` of one process.

    recent: the last lessons, from which the supervisor learns.
    """

    replaced = 0

    def __init__(
        self,
        config: ServingConfig,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        host: str,
        port: int,
        admin: str,
        peers: Peers | None = None,
        port_is_shared: bool = False,
    ) -> None:
        """port: 0 takes a free one. admin: base URL of the admin port. peers: other routers of the
        same fleet; `None`: there are none. port_is_shared: whether other processes listen on the
        same port."""
        self._config = config
        self._settings = settings = config.gateway
        self._estimator = estimator
        self._stats = Stats()
        budget = BodyBudget(settings.buffer_bytes or BUFFERED_BODIES * settings.max_body_bytes)
        self._connection_pools = ConnectionPools(
            connect_timeout_s=settings.connect_timeout_s, budget=budget
        )
        self._peers = peers
        self._clock = asyncio.get_running_loop().time
        self._endpoints = {path.encode(): endpoint for path, endpoint in BY_PATH.items()}
        self._leaving = self._closed = False
        self._ended: list[Observation] = []
        self._logs_requests = requests_log.isEnabledFor(logging.DEBUG)
        self._stack = AsyncExitStack()
        self.router = Router(table, fleet, max_load=settings.max_load, peers=peers)
        self.dispatcher = self._new_dispatcher()
        self._exchange = self._new_exchange()
        self._local_endpoints = LocalEndpoints(
            config, ready=self._ready, connection_pools=self._connection_pools, admin=admin
        )
        self._listener = Listener(
            ClientLimits(
                body_bytes=settings.max_body_bytes,
                connections=most_clients(open_files()),
                not_sent=not_sent(settings.withheld_headers),
            ),
            self._serve,
            budget=budget,
            shared=port_is_shared,
        )
        self.recent: deque[Lesson] = deque(maxlen=RECENT)
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<Worker on {self.host}:{self.port}, {self.router!r}>"

    async def __aenter__(self) -> "Worker":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection_pools)
            # Before the listener, so that it goes on while the listener drains.
            self._background(stack, self._tick())
            if self._peers is not None:
                self._background(stack, self._poll())
            self.port = await self._listener.listen(self.host, self.port)
            stack.push_async_callback(self._listener.close, self._settings.drain_s)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no new requests, let running ones finish, then end."""
        self._leaving = self._closed = True
        await self._stack.aclose()

    @property
    def table(self) -> RoutingTable:
        """The table in force. When another is assigned, requests under way keep their leases."""
        return self.router.table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self.router.table = table
        self.dispatcher.queue.wake()

    def apply(self, membership: Membership) -> None:
        """Serve with the backends of this membership from now on; requests at backends that left
        may finish."""
        gone = self.router.apply(membership)
        urls = {backend.url for backend in self.router.fleet.backends}
        for backend in gone:
            if backend.url not in urls:  # a backend of another pool may have the same URL
                self.dispatcher.forget(backend)
        self.dispatcher.queue.wake()

    def rows_in_use(self) -> frozenset[int]:
        """Empty: there is no array that processes share."""
        return frozenset()

    def drain(self) -> StatsDelta:
        """Return the statistics since the last call."""
        self._learn()
        return self._stats.drain()

    def gauges(self) -> dict[int, WorkerGauges]:
        """The gauges of this worker, as number 0."""
        now_s = self._clock()
        return {
            0: WorkerGauges(
                queued=len(self.dispatcher.queue),
                connections=len(self._listener.connections),
                retry_budget=self.dispatcher.budget.left,
                breakers_open=sum(
                    b.healthy and not b.live(now_s) for b in self.router.fleet.backends
                ),
            )
        }

    def leave(self) -> None:
        """Report not ready from now on, but go on serving, so that balancers have time to
        notice."""
        self._leaving = True

    def kill(self) -> None:
        """Do nothing: this process itself serves."""

    def on_probed(self) -> None:
        """All backends were probed: one may be up again, or have room."""
        self.dispatcher.queue.wake()

    def backend_lost(self, backend: Backend) -> None:
        """Several probes of a backend failed: end the wait of requests for its first byte."""
        self._exchange.timeouts.backend_lost(backend)

    def _new_dispatcher(self) -> Dispatcher:
        share = ceil(self._settings.queue_requests / self._settings.workers)
        return Dispatcher(
            router=self.router,
            connection_pools=self._connection_pools,
            dialects=dialects(self._config.engines),
            settings=msgspec.structs.replace(self._settings, queue_requests=share),
            clock=self._clock,
        )

    def _new_exchange(self) -> Exchange:
        return Exchange(
            router=self.router,
            estimator=self._estimator,
            dispatcher=self.dispatcher,
            settings=self._settings,
            on_arrival=self._stats.arrived,
            observe=self._observe,
            clock=self._clock,
        )

    def _background(self, stack: AsyncExitStack, loop: Any) -> None:
        stack.callback(asyncio.get_running_loop().create_task(loop).cancel)

    def _serve(self, client: ClientConnection, request: Request) -> None:
        """Serve one request of the data port."""
        endpoint = self._endpoints.get(request.target.partition(b"?")[0])
        if endpoint is not None and request.method == b"POST" and not self._closed:
            self._exchange.serve(client, request, endpoint)
        else:
            self._local_endpoints.serve(client, request)

    def _observe(self, observation: Observation) -> None:
        """Note a request that ended; it is counted with the next batch."""
        self._ended.append(observation)
        if len(self._ended) >= BATCH:
            self._learn()

    def _learn(self) -> None:
        """Count all requests that ended, and learn from as many as the quota allows."""
        ended, self._ended = self._ended, []
        for observation in ended:
            try:
                self._stats.observed(observation)
                if self._estimator.spend():
                    lesson = observation.lesson()
                    self._estimator.learn(lesson)
                    self.recent.append(lesson)
                if self._logs_requests:
                    line = msgspec.json.encode(observation.log_line())
                    requests_log.debug("%s", line.decode())
            except Exception:  # one request that cannot be counted must not lose the others
                log.exception("%r could not be learned from", observation)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._learn()
                self._estimator.refill()
                self._exchange.timeouts.tick(self._clock())
                if self._peers is not None:
                    self._peers.refresh(self._clock())
            except Exception:
                log.exception("a tick failed")

    async def _poll(self) -> None:
        """Let the queue try again often: other workers release leases without telling this one, so
        that only another attempt finds the room they made."""
        while True:
            await asyncio.sleep(POLL_S)
            self.dispatcher.queue.wake()

    def _ready(self) -> tuple[int, dict[str, Any]]:
        fleet, plan_id, now_s = self.router.fleet, self.table.plan_id, self._clock()
        if self._peers is not None:
            self._peers.refresh(now_s)
        return readiness(self._config, fleet, plan_id, now_s, leaving=self._leaving)

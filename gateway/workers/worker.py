"""The data plane of one process: everything that a request meets, and the tick.

Owns the state that each process has of its own: leases, breakers, learned lengths, queue and
statistics. Knows a plan only as a routing table.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from gateway.access.gate import Gate
from gateway.access.key_board import KeyBoard, own_board
from gateway.config.schema import GatewaySection
from gateway.config.serving import ServingConfig
from gateway.errors import GatewayError
from gateway.proxy.active import ActiveRequest
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.exchange import Exchange
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.request import Request, canonical_path
from gateway.proxy.key_rings import key_ring
from gateway.proxy.names import Names
from gateway.proxy.targets import files_of
from gateway.proxy.token_counter import TokenCounter
from gateway.routing.admission import Admission
from gateway.routing.backend import Backend
from gateway.routing.endpoints import BY_PATH
from gateway.routing.estimator import Estimator
from gateway.routing.estimator_schema import Lesson
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Membership
from gateway.routing.observation import Observation, Outcome
from gateway.routing.peers import Peers
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from gateway.runtime import return_free_memory
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges
from gateway.workers.gauges import gauges_of
from gateway.workers.limits import body_budget, client_limits, queue_limits
from gateway.workers.local import LocalEndpoints, readiness
from gateway.workers.records import new_records
from gateway.workers.rested import Rested
from gateway.workers.shedding import Shedding
from gateway.workers.trimming import Trimming

log = logging.getLogger("cuvee")

# Finished requests are counted in batches: code and data then stay in the CPU's caches, which
# halves the cost.
BATCH: Final = 32
RECENT: Final = 64  # lessons kept for the supervisor between two reports
TICK_S: Final = 0.2  # between two checks of timeouts
SHED: Final = Outcome.SHED
POLL_S: Final = 0.01  # between two attempts to place what waits; see `_poll`


class Worker:
    """Serves the data port; an async context manager. The `DataPlane` of one process. recent: the
    last lessons, from which the supervisor learns."""

    replaced = 0
    pids: tuple[int | None, ...] = ()

    def __init__(
        self,
        config: ServingConfig,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        sockets: Sequence[socket.socket],
        admin: str,
        peers: Peers | None = None,
        board: KeyBoard | None = None,
        number: int = 0,
    ) -> None:
        """sockets: which listen on the data port; the worker closes them. admin: base URL of the
        admin port. peers, board: other routers of the fleet, and what keys have used at all, of
        which this one has the number; `None`: there are no others."""
        self._config = config
        self._settings = settings = config.gateway
        self._sockets, self._peers = tuple(sockets), peers
        self._estimator, self._stats = estimator, Stats(table.buckets)
        budget = BodyBudget(body_budget(settings))
        self._connection_pools = ConnectionPools(
            connect_timeout_s=settings.connect_timeout_s, budget=budget
        )
        self._clock = asyncio.get_running_loop().time
        self._endpoints = {path.encode(): endpoint for path, endpoint in BY_PATH.items()}
        self._leaving, self._over, self._ended = False, False, list[Observation]()
        self._records = new_records(self._config, table.buckets, self._clock)
        self._rested, self._shedding, self._stack = Rested(), Shedding(), AsyncExitStack()
        self._trimming = Trimming(return_free_memory)
        self._names = Names(config.models, config.upstreams)
        self.board = board or own_board()
        self._gate = Gate(key_ring(config.access, time.time), self.board, number, time.time)
        self.router = Router(table, fleet, peers=peers)
        self.dispatcher = self._new_dispatcher()
        self.counter = TokenCounter(config.models)
        self._exchange = self._new_exchange()
        self._local_endpoints = LocalEndpoints(
            config,
            gate=self._gate,
            ready=self._ready,
            connection_pools=self._connection_pools,
            stored_responses=self.dispatcher.stored,
            admin=admin,
            on_refusal=self._refused,
            contexts=lambda: self.table.contexts,
        )
        self._listener = Listener(
            client_limits(settings), self._serve, refused=self._refused, budget=budget
        )
        self._listener.secure(files_of(config.tls))
        self.recent: deque[Lesson] = deque(maxlen=RECENT)

    def __repr__(self) -> str:
        return f"<Worker {self._listener!r}, {self.router!r}>"

    async def __aenter__(self) -> "Worker":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection_pools)
            stack.callback(self.counter.close)
            # Before the listener, so that it goes on while the listener drains.
            self._background(stack, self._tick())
            if self._peers is not None:
                self._background(stack, self._poll())
            await self._listener.accept(self._sockets)
            stack.push_async_callback(self._close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Accept no more connections, let the requests of the present ones finish, then end."""
        self._leaving = True
        await self._stack.aclose()

    @property
    def settings(self) -> GatewaySection:
        """The settings in force."""
        return self._settings

    @property
    def table(self) -> RoutingTable:
        """The table in force. When another is assigned, requests under way keep their leases."""
        return self.router.table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self.router.table = table
        self.dispatcher.room(self._clock())

    @property
    def requests(self) -> tuple[ActiveRequest, ...]:
        """All requests under way."""
        return self._exchange.timeouts.requests

    def configure(self, config: ServingConfig, table: RoutingTable) -> None:
        """Serve by this configuration and its table from now on; the fleet has all its pools.

        Requests under way stay where they are. Connections keep the limit of a body that they were
        made with. `drain` first: what was counted until now is by the old numbers of buckets."""
        self._learn()
        self._config, self._settings = config, config.gateway
        self._estimator.add(config.bytes_per_token)
        self._connection_pools.configure(connect_timeout_s=config.gateway.connect_timeout_s)
        self._stats.configure(table.buckets)
        self._records = new_records(self._config, table.buckets, self._clock)
        self.router.table = table
        self._names = Names(config.models, config.upstreams)
        self._gate.configure(key_ring(config.access, time.time))
        self.dispatcher.configure(config.upstreams, self._names, config.gateway)
        limits, weights = queue_limits(config.gateway), config.gateway.caller_weights
        self.dispatcher.admission.configure(limits, weights, self._clock())
        self._exchange.configure(config.gateway, self._names, config.upstreams)
        self.counter.configure(config.models)
        self._local_endpoints.configure(config)
        self._listener.limits = client_limits(config.gateway)
        self._listener.budget.limit = body_budget(config.gateway)
        self._listener.secure(files_of(config.tls))
        self.dispatcher.room(self._clock())

    def apply(self, membership: Membership) -> None:
        """Serve with the backends of this membership from now on; requests at backends that left
        may finish."""
        gone = self.router.apply(membership)
        urls = {backend.url for backend in self.router.fleet.backends}
        for backend in gone:
            if backend.url not in urls:  # a backend of another pool may have the same URL
                self.dispatcher.forget(backend)
        self.dispatcher.room(self._clock())

    def rows_in_use(self) -> frozenset[int]:
        """Empty: there is no array that processes share."""
        return frozenset()

    def drain(self) -> StatsDelta:
        """Return the statistics since the last call."""
        self._learn()
        delta = self._stats.drain()
        if self._records is not None:
            self._records.take(delta)
        return delta

    def gauges(self) -> dict[int, WorkerGauges]:
        """The gauges of this worker, as number 0."""
        pools, fleet = self._connection_pools, self.router.fleet
        return {0: gauges_of(self.dispatcher, self._listener, pools, fleet, self._clock())}

    def leave(self) -> None:
        """Report not ready from now on, but go on serving: balancers need time to notice.
        Connections close with their next answer, which moves clients to other gateways."""
        self._leaving = True
        self._listener.leave()

    def kill(self) -> None:
        """Do nothing: this process itself serves."""

    def on_probed(self) -> None:
        """All backends were probed: one may be up again, or have room."""
        self.dispatcher.room(self._clock())

    def backend_lost(self, backend: Backend) -> None:
        """Several probes of a backend failed: end the wait of requests for its first byte."""
        self._exchange.timeouts.backend_lost(backend)

    async def _close(self) -> None:
        of = self._settings
        await self._listener.close(of.drain_s, self._end_all, of.drain_delay_s)

    def _end_all(self) -> None:
        self._over = True
        self._exchange.timeouts.end_all()

    def _new_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            admission=Admission(
                self.router,
                queue_limits(self._settings),
                weights=self._settings.caller_weights,
                view=None if self._peers is None else self._peers.queue,
            ),
            fleet=self.router.fleet,
            connection_pools=self._connection_pools,
            upstreams=self._config.upstreams,
            names=self._names,
            settings=self._settings,
            on_failure=self._stats.failed,
            clock=self._clock,
        )

    def _new_exchange(self) -> Exchange:
        return Exchange(
            router=self.router,
            gate=self._gate,
            estimator=self._estimator,
            dispatcher=self.dispatcher,
            counter=self.counter,
            names=self._names,
            upstreams=self._config.upstreams,
            settings=self._settings,
            on_arrival=self._stats.arrived,
            observe=self._observe,
            on_refusal=self._refused,
            clock=self._clock,
        )

    def _background(self, stack: AsyncExitStack, loop: Any) -> None:
        stack.callback(asyncio.get_running_loop().create_task(loop).cancel)

    def _serve(self, client: ClientConnection, request: Request) -> None:
        """Serve one request of the data port."""
        endpoint = self._endpoints.get(request.target)
        if endpoint is None:  # it has a query, or a path of another form
            endpoint = BY_PATH.get(canonical_path(request.target))
        if endpoint is not None and request.method == b"POST" and not self._over:
            self._exchange.serve(client, request, endpoint)
        else:
            self._local_endpoints.serve(client, request)

    def _refused(self, error: GatewayError) -> None:
        """Count a request that was refused before it got a bucket, or that needs none."""
        self._stats.refused(error.status, error.reason)
        if self._records is not None:
            self._records.refused(error.status, error.reason)

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
                if observation.outcome is SHED:
                    self._shedding.refused(observation.reason, self._clock())
                if self._estimator.spend():
                    lesson = observation.lesson()
                    self._estimator.learn(lesson)
                    self.recent.append(lesson)
            except Exception:  # one request that cannot be counted must not lose the others
                log.exception("%r could not be learned from", observation)
        if self._records is not None and ended:
            self._records.write(ended)

    async def _tick(self) -> None:
        while True:
            due_s = self._clock() + TICK_S
            await asyncio.sleep(TICK_S)
            try:
                self._stats.lagged(self._clock() - due_s)
                self._learn()
                self._estimator.refill()
                self._exchange.timeouts.tick(self._clock())
                self.router.look_after(self._clock())
                self.dispatcher.room(self._clock())
                self._rested.tick(self.router.fleet.backends)
                self._shedding.tick(self._clock())
                clients = self._listener
                self._trimming.tick(len(clients.connections), self._clock(), clients.budget.used)
                if self._peers is not None:
                    self._peers.refresh(self._clock())
            except Exception:
                log.exception("a tick failed")

    async def _poll(self) -> None:
        """Let the queue try again often: other workers release leases without telling this one, so
        that only another attempt finds the room they made."""
        while True:
            await asyncio.sleep(POLL_S)
            self.dispatcher.room(self._clock())

    def _ready(self) -> tuple[int, dict[str, Any]]:
        now_s, fleet = self._clock(), self.router.fleet
        if self._peers is not None:
            self._peers.refresh(now_s)
        return readiness(self._config, fleet, self.table.plan_id, now_s, leaving=self._leaving)

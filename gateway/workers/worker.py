"""The data plane of one process: everything that a request meets, and the tick.

Owns living state that is one process's own: its leases, breakers, learned lengths, queue and sums.
Knows no plan but as a table, and nobody who makes one.
"""

import asyncio
import logging
from collections import deque
from contextlib import AsyncExitStack
from math import ceil
from typing import Any, Final

import msgspec

from gateway.config.load import Loaded
from gateway.proxy.exchange import PATHS, Exchange
from gateway.proxy.http.client import Inbound
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import Upstream
from gateway.proxy.http.request import Bounds, Request
from gateway.proxy.queue import Queue
from gateway.routing.backend import Backend, Fleet
from gateway.routing.estimator import Lessons
from gateway.routing.observation import Observation
from gateway.routing.peers import Seat
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats import Sums
from gateway.telemetry.tally import Tally
from gateway.workers.status import Surface, readiness

log = logging.getLogger("cuvee")

TOGETHER: Final = 32  # requests that are learned from at once, which costs half of one by one
RECENT = 64  # requests that ended last, kept for whoever learns from a sample
TICK_S = 0.2  # between two looks at what is overdue
POLL_S = 0.05  # between two looks whether another worker's lease has made room for a queued request


def fleet_of(loaded: Loaded) -> Fleet:
    """The configured backends, none of them in use."""
    return Fleet({name: pool.backends for name, pool in loaded.config.pools.items()})


class Worker:
    """Serves the data port; an async context manager. recent: the requests that ended last."""

    def __init__(
        self,
        loaded: Loaded,
        table: RoutingTable,
        *,
        fleet: Fleet,
        lessons: Lessons,
        host: str,
        port: int,
        admin: str,
        seat: Seat | None = None,
    ) -> None:
        """port: 0 takes a free one. admin: base URL of the supervisor. seat: at the board, if other
        workers share the port."""
        self._loaded = loaded
        self._settings = settings = loaded.config.gateway
        self._lessons = lessons
        self._tally = Tally()
        self._upstream = Upstream(connect_timeout_s=settings.connect_timeout_s)
        self._seat = seat
        self._clock = asyncio.get_running_loop().time
        self._routes = {path.encode(): route for route, path in PATHS.items()}
        self._leaving = self._closed = False
        self._ended: list[Observation] = []
        self._stack = AsyncExitStack()
        self.router = Router(table, fleet, max_load=settings.max_load, seat=seat)
        self._exchange = self._new_exchange()
        self._surface = Surface(loaded, ready=self._ready, upstream=self._upstream, admin=admin)
        self.recent: deque[Observation] = deque(maxlen=RECENT)
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<Worker on {self.host}:{self.port}, {self.router!r}>"

    async def __aenter__(self) -> "Worker":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._upstream)
            self._background(stack, self._ticking())  # first: it goes on while the listener drains
            if self._seat is not None:
                self._background(stack, self._polling())
            await self._listen(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Takes no new requests, lets running ones finish, and stops."""
        self._leaving = self._closed = True
        await self._stack.aclose()

    @property
    def table(self) -> RoutingTable:
        """What is in force. Assigned: requests under way keep their leases."""
        return self.router.table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self.router.table = table
        self.queue.wake()

    @property
    def queue(self) -> Queue:
        """Where requests wait when everything is full."""
        return self._exchange.queue

    def drain(self) -> Sums:
        """What happened since the last call."""
        self._learn()
        return self._tally.drain()

    def leave(self) -> None:
        """Not ready any more, but still serving, so that balancers notice."""
        self._leaving = True

    def looked(self) -> None:
        """All backends were probed: one may be back, or an engine have room again."""
        self.queue.wake()

    def lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""
        self._exchange.patience.lost(backend)

    def _new_exchange(self) -> Exchange:
        part = ceil(self._settings.queue_requests / self._settings.workers)
        return Exchange(
            router=self.router,
            tokens=self._lessons.tokens,
            lengths=self._lessons.lengths,
            upstream=self._upstream,
            settings=msgspec.structs.replace(self._settings, queue_requests=part),
            arrived=self._tally.arrived,
            observe=self._observe,
            clock=self._clock,
        )

    async def _listen(self, stack: AsyncExitStack) -> None:
        bounds = Bounds(body_bytes=self._settings.max_body_bytes)
        listener = Listener(bounds, self._serve, shared=self._seat is not None)
        self.port = await listener.listen(self.host, self.port)
        stack.push_async_callback(listener.close, self._settings.drain_s)

    def _background(self, stack: AsyncExitStack, loop: Any) -> None:
        stack.callback(asyncio.get_running_loop().create_task(loop).cancel)

    def _serve(self, client: Inbound, request: Request) -> None:
        """Serves one request of the data port."""
        route = self._routes.get(request.target.partition(b"?")[0])
        if route is not None and request.method == b"POST" and not self._closed:
            self._exchange.serve(client, request, route)
        else:
            self._surface.serve(client, request)

    def _observe(self, observation: Observation) -> None:
        """A request ended. It is learned from soon, together with others."""
        self._ended.append(observation)
        if len(self._ended) >= TOGETHER:
            self._learn()

    def _learn(self) -> None:
        """Everything that learns from a request learns here, once; sums are of every one."""
        ended, self._ended = self._ended, []
        for observation in ended:
            try:
                self._tally.observed(observation)
                if self._lessons.sample(observation):
                    self.recent.append(observation)
            except Exception:  # none is lost for another one
                log.exception("%r could not be learned from", observation)

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._learn()
                self._lessons.rest()
                self._exchange.patience.tick(self._clock())
                if self._seat is not None:
                    self._seat.look(self._clock())
            except Exception:
                log.exception("a look at what is overdue failed")

    async def _polling(self) -> None:
        """Other workers' leases end without a word: only asking again tells."""
        while True:
            await asyncio.sleep(POLL_S)
            self.queue.wake()

    def _ready(self) -> tuple[int, dict[str, Any]]:
        fleet, plan_id, now_s = self.router.fleet, self.table.plan_id, self._clock()
        if self._seat is not None:
            self._seat.look(now_s)
        return readiness(self._loaded, fleet, plan_id, now_s, leaving=self._leaving)

"""One worker process from its first word to its last. Knows the supervisor as a channel only.

It outlives its supervisor: then it serves on with its last table, and breakers alone say which
backends are down, until SIGTERM or until another gateway serves its port.
"""

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Any

import uvloop

from gateway.config.load import Loaded
from gateway.routing.estimator import Lessons
from gateway.routing.observation import Observation
from gateway.routing.peers import Board, Seat
from gateway.routing.table import RoutingTable
from gateway.runtime import settle
from gateway.telemetry.stats import Sums
from gateway.workers.channel import Channel
from gateway.workers.port import is_served
from gateway.workers.worker import Worker, fleet_of

log = logging.getLogger("cuvee")

SUCCESSOR_S = 1.0  # between two looks for a new supervisor's workers, once ours is gone
REPORT_S = 0.5  # between two reports of what happened; they are the heartbeat too
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told first."""

    loaded: Loaded
    table: RoutingTable
    lessons: Lessons
    host: str
    port: int
    admin: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A backend has not answered probes for a while."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened in a worker since its last report, and a sample of it to learn from."""

    sums: Sums
    recent: tuple[Observation, ...]

    @classmethod
    def of(cls, worker: Worker) -> "Report":
        sums, recent = worker.drain(), tuple(worker.recent)
        worker.recent.clear()
        return cls(sums=sums, recent=recent)


class Word(Enum):
    """What needs no more than a word. LISTENING goes up, the others go down."""

    LISTENING = 1
    LEAVE = 2
    STOP = 3


def main(end: socket.socket, memory: Any, number: int) -> None:
    """The process. end: of the channel. memory: of the board. number: its row there."""
    settle()  # what the fork server had loaded also stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to act on
    uvloop.run(Member(number, memory).run(end))


class Member:
    """A worker and its line to the supervisor."""

    def __init__(self, number: int, memory: Any) -> None:
        self._number = number
        self._memory = memory
        self._stop = asyncio.Event()
        self._delay_s = 0.0

    async def run(self, end: socket.socket) -> None:
        """Serves until the supervisor or SIGTERM says stop."""
        channel = await Channel.over(end)
        try:
            orders = await channel.receive()
        except EOFError:  # stopped before it began
            return
        assert isinstance(orders, Orders)
        logging.basicConfig(level=orders.level, format=FORMAT)
        loop = asyncio.get_running_loop()
        worker, seat = self._worker(orders)
        async with worker:
            loop.add_signal_handler(signal.SIGTERM, self._terminated, worker, orders)
            channel.send(Word.LISTENING)
            tasks = [
                loop.create_task(self._following(channel, worker, seat)),
                loop.create_task(_reporting(channel, worker)),
            ]
            await self._stop.wait()
            await asyncio.sleep(self._delay_s)
        for task in tasks:
            task.cancel()
        channel.send(Report.of(worker))
        await channel.close()

    def _worker(self, orders: Orders) -> tuple[Worker, Seat]:
        fleet, workers = fleet_of(orders.loaded), orders.loaded.config.gateway.workers
        board = Board(self._memory, workers=workers, backends=len(fleet.backends))
        seat = Seat(board, fleet, self._number)
        worker = Worker(
            orders.loaded, orders.table, fleet=fleet, lessons=orders.lessons, host=orders.host,
            port=orders.port, admin=orders.admin, seat=seat,
        )  # fmt: skip
        return worker, seat

    def _terminated(self, worker: Worker, orders: Orders) -> None:
        """SIGTERM at this process: the same way out as the whole gateway's."""
        if not self._stop.is_set():
            self._delay_s = orders.loaded.config.gateway.drain_delay_s
            worker.leave()
            self._stop.set()

    async def _following(self, channel: Channel, worker: Worker, seat: Seat) -> None:
        try:
            while True:
                self._obey(await channel.receive(), worker)
        except EOFError:
            if self._stop.is_set():
                return
        log.warning("worker %d: the supervisor is gone; serving on", self._number)
        seat.abandoned()
        while not is_served(worker.host, worker.port):  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(SUCCESSOR_S)
        log.warning("worker %d: another gateway serves the port; leaving", self._number)
        self._stop.set()

    def _obey(self, order: object, worker: Worker) -> None:
        if isinstance(order, RoutingTable):
            worker.table = order
        elif isinstance(order, Lost):
            for backend in worker.router.fleet.backends:
                if backend.name == order.backend:
                    worker.lost(backend)
        elif order is Word.LEAVE:
            worker.leave()
        elif order is Word.STOP:
            self._delay_s = 0.0
            self._stop.set()


async def _reporting(channel: Channel, worker: Worker) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        channel.send(Report.of(worker))

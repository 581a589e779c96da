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
from gateway.routing.estimator import Estimator
from gateway.routing.observation import Observation
from gateway.routing.peers import LoadView, SharedLoad
from gateway.routing.table import RoutingTable
from gateway.runtime import settle
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.channel import Channel
from gateway.workers.port import is_served
from gateway.workers.worker import Worker, fleet_of

log = logging.getLogger("cuvee")

SUCCESSOR_S = 1.0  # between two looks for a new supervisor's workers, once ours is gone
REPORT_S = 0.5  # between two reports of what happened; they are the heartbeat too
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """What a worker is told first."""

    loaded: Loaded
    table: RoutingTable
    estimator: Estimator
    host: str
    port: int
    admin: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendLost:
    """A backend has not answered probes for a while."""

    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What happened in a worker since its last report, and a sample of it to learn from."""

    delta: StatsDelta
    recent: tuple[Observation, ...]

    @classmethod
    def of(cls, worker: Worker) -> "WorkerReport":
        delta, recent = worker.drain(), tuple(worker.recent)
        worker.recent.clear()
        return cls(delta=delta, recent=recent)


class Command(Enum):
    """What needs no more than a word. LISTENING goes up, the others go down."""

    LISTENING = 1
    LEAVE = 2
    STOP = 3


def main(end: socket.socket, memory: Any, number: int) -> None:
    """The process. end: of the channel. memory: of the board. number: its row there."""
    settle()  # what the fork server had loaded also stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to act on
    uvloop.run(WorkerProcess(number, memory).run(end))


class WorkerProcess:
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
            start_up = await channel.receive()
        except EOFError:  # stopped before it began
            return
        assert isinstance(start_up, StartUp)
        logging.basicConfig(level=start_up.level, format=FORMAT)
        loop = asyncio.get_running_loop()
        worker, load_view = self._worker(start_up)
        async with worker:
            loop.add_signal_handler(signal.SIGTERM, self._terminated, worker, start_up)
            channel.send(Command.LISTENING)
            tasks = [
                loop.create_task(self._following(channel, worker, load_view)),
                loop.create_task(_reporting(channel, worker)),
            ]
            await self._stop.wait()
            await asyncio.sleep(self._delay_s)
        for task in tasks:
            task.cancel()
        channel.send(WorkerReport.of(worker))
        await channel.close()

    def _worker(self, start_up: StartUp) -> tuple[Worker, LoadView]:
        fleet, workers = fleet_of(start_up.loaded), start_up.loaded.config.gateway.workers
        shared_load = SharedLoad(self._memory, workers=workers, backends=len(fleet.backends))
        load_view = LoadView(shared_load, fleet, self._number)
        worker = Worker(
            start_up.loaded, start_up.table, fleet=fleet, estimator=start_up.estimator,
            host=start_up.host, port=start_up.port, admin=start_up.admin, load_view=load_view,
        )  # fmt: skip
        return worker, load_view

    def _terminated(self, worker: Worker, start_up: StartUp) -> None:
        """SIGTERM at this process: the same way out as the whole gateway's."""
        if not self._stop.is_set():
            self._delay_s = start_up.loaded.config.gateway.drain_delay_s
            worker.leave()
            self._stop.set()

    async def _following(self, channel: Channel, worker: Worker, load_view: LoadView) -> None:
        try:
            while True:
                self._obey(await channel.receive(), worker)
        except EOFError:
            if self._stop.is_set():
                return
        log.warning("worker %d: the supervisor is gone; serving on", self._number)
        load_view.abandoned()
        while not is_served(worker.host, worker.port):  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(SUCCESSOR_S)
        log.warning("worker %d: another gateway serves the port; leaving", self._number)
        self._stop.set()

    def _obey(self, order: object, worker: Worker) -> None:
        if isinstance(order, RoutingTable):
            worker.table = order
        elif isinstance(order, BackendLost):
            for backend in worker.router.fleet.backends:
                if backend.name == order.backend:
                    worker.lost(backend)
        elif order is Command.LEAVE:
            worker.leave()
        elif order is Command.STOP:
            self._delay_s = 0.0
            self._stop.set()


async def _reporting(channel: Channel, worker: Worker) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        channel.send(WorkerReport.of(worker))

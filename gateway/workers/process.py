"""A worker process from its start to its end. Knows the supervisor only as a channel.

It outlives a supervisor that dies: it goes on serving with its last table, with all backends up and
only breakers to avoid bad ones, until SIGTERM or until another gateway serves the port.
"""

import asyncio
import logging
import signal
import socket
from typing import Any

import uvloop

from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.runtime import LOG_FORMAT, return_large_blocks, settle
from gateway.workers.channel import Channel
from gateway.workers.messages import (
    BackendLost,
    Down,
    Leave,
    NewMembership,
    NewTable,
    StartUp,
    Stop,
    Up,
    WorkerReport,
)
from gateway.workers.port import is_served
from gateway.workers.worker import Worker

log = logging.getLogger("cuvee")

SUCCESSOR_S = 1.0  # between two checks for another gateway on the port, after the supervisor died
REPORT_S = 0.5  # between two reports, which also show the supervisor that the worker lives


def main(end: socket.socket, memory: Any, rows: int, number: int) -> None:
    """Run the process. end: socket to the supervisor. memory, rows: of the shared array. number: of
    this worker, whose cells of the array it writes."""
    return_large_blocks()
    settle()  # objects of the fork server are then never touched, so their memory stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the supervisor ends its workers
    uvloop.run(WorkerProcess(number, memory, rows).run(end))


class WorkerProcess:
    """A worker and its channel to the supervisor."""

    def __init__(self, number: int, memory: Any, rows: int) -> None:
        self._number = number
        self._memory = memory
        self._rows = rows
        self._stop = asyncio.Event()
        self._delay_s = 0.0

    async def run(self, end: socket.socket) -> None:
        """Serve until `Stop` or SIGTERM."""
        channel: Channel[Down, Up] = await Channel.over(end, Down)
        try:
            start_up = await channel.receive()
        except EOFError:  # the supervisor ended before it sent anything
            return
        assert isinstance(start_up, StartUp)
        logging.basicConfig(level=start_up.level, format=LOG_FORMAT)
        loop = asyncio.get_running_loop()
        worker, load_view = self._worker(start_up)
        async with worker:
            loop.add_signal_handler(signal.SIGTERM, self._on_sigterm, worker, start_up)
            channel.send(report(worker))  # it listens
            tasks = [
                loop.create_task(self._follow(channel, worker, load_view)),
                loop.create_task(_report_forever(channel, worker)),
            ]
            await self._stop.wait()
            await asyncio.sleep(self._delay_s)
        for task in tasks:
            task.cancel()
        channel.send(report(worker))
        await channel.close()

    def _worker(self, start_up: StartUp) -> tuple[Worker, LoadView]:
        config = start_up.config
        fleet = Fleet(start_up.membership)
        shared_load = SharedLoad(self._memory, workers=config.gateway.workers, rows=self._rows)
        load_view = LoadView(shared_load, fleet, self._number)
        estimator = Estimator(config.bytes_per_token)
        estimator.restore(start_up.learned)
        worker = Worker(
            config,
            start_up.table,
            fleet=fleet,
            estimator=estimator,
            host=start_up.host,
            port=start_up.port,
            admin=start_up.admin,
            peers=load_view,
            port_is_shared=True,
        )
        return worker, load_view

    def _on_sigterm(self, worker: Worker, start_up: StartUp) -> None:
        """SIGTERM to this process alone: drain as the whole gateway does."""
        if not self._stop.is_set():
            self._delay_s = start_up.config.gateway.drain_delay_s
            worker.leave()
            self._stop.set()

    async def _follow(
        self, channel: Channel[Down, Up], worker: Worker, load_view: LoadView
    ) -> None:
        """Obey the supervisor; when it died, wait until another gateway serves the port."""
        try:
            while True:
                self._obey(await channel.receive(), worker)
        except EOFError:
            if self._stop.is_set():
                return
        except Exception:
            # It would serve with an old fleet and table for ever. The supervisor replaces it.
            log.exception("worker %d: a message could not be obeyed; leaving", self._number)
            self._stop.set()
            return
        log.warning("worker %d: the supervisor is gone; serving on", self._number)
        load_view.lose_supervisor()
        while not is_served(worker.host, worker.port):  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(SUCCESSOR_S)
        log.warning("worker %d: another gateway serves the port; leaving", self._number)
        self._stop.set()

    def _obey(self, message: Down, worker: Worker) -> None:
        if isinstance(message, NewTable):
            worker.table = message.table
        elif isinstance(message, NewMembership):
            worker.apply(message.membership)
        elif isinstance(message, BackendLost):
            for backend in worker.router.fleet.backends:
                if backend.name == message.backend:
                    worker.backend_lost(backend)
        elif isinstance(message, Leave):
            worker.leave()
        elif isinstance(message, Stop):
            self._delay_s = 0.0
            self._stop.set()


def report(worker: Worker) -> WorkerReport:
    """Make the next report of a worker."""
    delta, lessons = worker.drain(), tuple(worker.recent)
    worker.recent.clear()
    return WorkerReport(
        delta=delta,
        lessons=lessons,
        gauges=worker.gauges()[0],
        membership=worker.router.fleet.membership.version,
    )


async def _report_forever(channel: Channel[Down, Up], worker: Worker) -> None:
    while True:
        await asyncio.sleep(REPORT_S)
        channel.send(report(worker))

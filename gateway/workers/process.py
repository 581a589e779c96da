"""A worker process from its start to its end. Knows the supervisor only as a channel.

It outlives a supervisor that dies: it goes on serving with its last table, with all backends up and
only breakers to avoid bad ones, until SIGTERM or until another gateway serves the port.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import uvloop

from gateway import logs
from gateway.access.key_board import SLOTS, KeyBoard
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.runtime import return_large_blocks, settle
from gateway.workers.channel import Channel
from gateway.workers.handover import Orphanage, is_served
from gateway.workers.limits import array_size
from gateway.workers.messages import (
    BackendLost,
    Down,
    Leave,
    NewConfiguration,
    NewMembership,
    NewTable,
    StartUp,
    Stop,
    Up,
    WorkerReport,
)
from gateway.workers.worker import Worker

log = logging.getLogger("cuvee")

SUCCESSOR_S = 1.0  # between two checks for another gateway on the port, after the supervisor died
REPORT_S = 0.5  # between two reports, which also show the supervisor that the worker lives


def main(
    end: socket.socket,
    sockets: Sequence[socket.socket],
    memory: Any,
    prefixes: Any,
    keys: Any,
    rows: int,
    number: int,
) -> None:
    """Run the process. end: socket to the supervisor. sockets: which listen on the data port.
    memory, rows: of the shared array. prefixes: memory of the shared `PrefixIndex`. keys: of the
    `KeyBoard`. number: of this worker, whose cells of the array it writes."""
    return_large_blocks()
    settle()  # objects of the fork server are then never touched, so their memory stays shared
    # On Ctrl-C the supervisor ends its workers; on SIGHUP it tells them what to change; on SIGUSR2
    # it starts its successor.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        uvloop.run(WorkerProcess(number, sockets, memory, prefixes, keys, rows).run(end))
    except Exception:  # not to standard error, which may be a pipe that nobody reads
        log.exception("worker %d ends by an error", number)
        sys.exit(1)
    finally:
        logging.shutdown()


async def ended(worker: BaseProcess | None, patience_s: float) -> str:
    """Wait until a process has ended, kill it when it does not, and say how it ended."""
    if worker is None or worker.pid is None:
        return "it did not start"
    await asyncio.to_thread(worker.join, patience_s)
    if worker.is_alive():
        worker.kill()
        await asyncio.to_thread(worker.join, patience_s)
    code = worker.exitcode
    if code is None:
        return "it does not end"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


class WorkerProcess:
    """A worker and its channel to the supervisor."""

    def __init__(
        self,
        number: int,
        sockets: Sequence[socket.socket],
        memory: Any,
        prefixes: Any,
        keys: Any,
        rows: int,
    ) -> None:
        self._number = number
        self._sockets = sockets
        self._memory = memory
        self._prefixes = prefixes
        self._keys = keys
        self._rows = rows
        self._stop = asyncio.Event()
        self._delay_s = 0.0
        self._numbering = 0

    async def run(self, end: socket.socket) -> None:
        """Serve until `Stop` or SIGTERM."""
        channel: Channel[Down, Up] = await Channel.over(end, Down)
        try:
            start_up = await channel.receive()
        except EOFError:  # the supervisor ended before it sent anything
            return
        assert isinstance(start_up, StartUp)
        form = start_up.config.gateway.log_format
        logs.begin(form, start_up.level, process=f"worker-{self._number}")
        loop = asyncio.get_running_loop()
        worker, load_view = self._worker(start_up)
        self._numbering = start_up.numbering
        async with worker:
            loop.add_signal_handler(signal.SIGTERM, self._on_sigterm, worker)
            self._report(channel, worker)  # it listens
            tasks = [
                loop.create_task(self._follow(channel, worker, load_view, start_up)),
                loop.create_task(self._report_forever(channel, worker)),
            ]
            await self._stop.wait()
            await asyncio.sleep(self._delay_s)
        for task in tasks:
            task.cancel()
        self._report(channel, worker)
        await channel.close()

    def _worker(self, start_up: StartUp) -> tuple[Worker, LoadView]:
        config = start_up.config
        fleet = Fleet(start_up.membership)
        shared_load = SharedLoad(self._memory, **array_size(config.gateway, self._rows))
        load_view = LoadView(shared_load, fleet, self._number)
        estimator = Estimator(config.bytes_per_token)
        estimator.restore(start_up.learned)
        worker = Worker(
            config,
            start_up.table,
            fleet=fleet,
            estimator=estimator,
            sockets=self._sockets,
            admin=start_up.admin,
            peers=load_view,
            board=KeyBoard(self._keys, workers=config.gateway.workers, slots=SLOTS),
            number=self._number,
        )
        worker.router.affinity.share(PrefixIndex(self._prefixes, rows=self._rows))
        return worker, load_view

    def _on_sigterm(self, worker: Worker) -> None:
        """SIGTERM to this process alone: drain as the whole gateway does."""
        if not self._stop.is_set():
            self._delay_s = worker.settings.drain_delay_s
            worker.leave()
            self._stop.set()

    async def _follow(
        self,
        channel: Channel[Down, Up],
        worker: Worker,
        load_view: LoadView,
        start_up: StartUp,
    ) -> None:
        """Obey the supervisor; when it died, wait until another gateway serves the port."""
        try:
            while True:
                self._obey(await channel.receive(), channel, worker)
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
        with Orphanage(start_up.host, start_up.port) as orphanage:
            while not await asyncio.to_thread(is_served, start_up.host, start_up.port):
                orphanage.announce()
                await asyncio.sleep(SUCCESSOR_S)
        log.warning("worker %d: another gateway serves the port; leaving", self._number)
        self._stop.set()

    def _obey(self, message: Down, channel: Channel[Down, Up], worker: Worker) -> None:
        if isinstance(message, NewConfiguration):
            self._report(channel, worker)  # by the numbers that the buckets have until now
            worker.configure(message.config, message.table)
            self._numbering = message.numbering
        elif isinstance(message, NewTable):
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

    def _report(self, channel: Channel[Down, Up], worker: Worker) -> None:
        delta, lessons = worker.drain(), tuple(worker.recent)
        worker.recent.clear()
        channel.send(
            WorkerReport(
                delta=delta,
                lessons=lessons,
                gauges=worker.gauges()[0],
                membership=worker.router.fleet.membership.version,
                numbering=self._numbering,
                leaving=self._stop.is_set(),
            )
        )

    async def _report_forever(self, channel: Channel[Down, Up], worker: Worker) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._report(channel, worker)

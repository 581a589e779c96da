"""Starts N worker processes behind one port, replaces those that die, and stops them.

Owns the processes, their channels and the shared array. Processes are forked from a fork server
that has imported everything, so that a replacement serves within tens of milliseconds. All listen
with SO_REUSEPORT, so that the kernel distributes connections. Knows a plan only as a routing table.
"""

import asyncio
import logging
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from secrets import randbits
from types import ModuleType

from gateway.access.key_board import SLOTS, KeyBoard, doubles
from gateway.config.serving import ServingConfig
from gateway.errors import ConfigError
from gateway.routing.backend import Backend
from gateway.routing.estimator import Estimator
from gateway.routing.estimator_schema import Lesson
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import SharedView
from gateway.routing.membership import Membership
from gateway.routing.prefix_index import SALT_BITS, PrefixIndex
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.table import RoutingTable
from gateway.runtime import without_hangup
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges
from gateway.workers import process
from gateway.workers.channel import Channel
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
)
from gateway.workers.port import DataPort
from gateway.workers.slot import Slot

log = logging.getLogger("cuvee.workers")

START_S = 60.0  # until all workers listen: the fork server imports first, on a busy machine slowly
SILENT_S = 15.0  # a worker that sent no report for so long hangs, and is killed
END_S = 1.0  # from the end of a worker's channel to the end of its process
STOP_S = 5.0  # for the workers to end, beyond the time that requests have to finish
# Backends that may be added at run time beyond those at the start: the shared array cannot grow. A
# row takes 24 bytes for each worker. As many as discovery may find, and as leave meanwhile.
SPARE_ROWS = 8192

RECENT = 64  # lessons kept for other gateways between two reports

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([process.__name__])


class Supervisor:
    """The `DataPlane` of several processes; an async context manager. load: what they hold, beside
    other gateways, if there may be any. recent: the last lessons.
    prefixes: where prompts have been, in the memory of all."""

    def __init__(
        self,
        config: ServingConfig,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        port: DataPort,
        admin: str,
    ) -> None:
        """fleet: the supervisor's own; its totals are those of all workers. estimator: learns from
        a sample of all workers' requests; a replacement starts with its state. port: stays open
        for the replacements. admin: see `Worker`."""
        self._config = config
        self._settings = settings = config.gateway
        self._table = table
        self._numbering = 0
        self._fleet = fleet
        self._estimator = estimator
        self._port = port
        self._admin = admin
        rows = fleet.membership.rows + SPARE_ROWS
        size = array_size(settings, rows)
        self._memory = FORKED.RawArray("d", SharedLoad.doubles(**size))
        self._shared_load = SharedLoad(self._memory, **size)
        gateways = settings.cluster is not None
        self.load = SharedView(self._shared_load, fleet) if gateways else None
        self.recent: deque[Lesson] = deque(maxlen=RECENT)
        self._load_view = LoadView(self._shared_load, fleet, None)
        self._prefixes = FORKED.RawArray("Q", PrefixIndex.words(rows=rows))
        self.prefixes = PrefixIndex(self._prefixes, rows=rows)
        self.prefixes.salt = randbits(SALT_BITS)
        workers = settings.workers
        self._keys = FORKED.RawArray("d", doubles(workers=workers, slots=SLOTS))
        self.board = KeyBoard(self._keys, workers=workers, slots=SLOTS)
        # By row of a backend that left: the version of the membership in which it left.
        self._retired: dict[int, int] = {}
        self._delta = StatsDelta()
        self._slots: list[Slot] = []
        self._stopping = asyncio.Event()
        self._leaving = False
        self._stack = AsyncExitStack()
        self.replaced = 0

    def __repr__(self) -> str:
        return f"<Supervisor {self.pids} on {self._port!r}>"

    async def __aenter__(self) -> "Supervisor":
        """Start the workers; return when all listen. Raises OSError when they cannot."""
        async with AsyncExitStack() as stack:
            self._slots = [Slot(number) for number in range(self._settings.workers)]
            loop = asyncio.get_running_loop()
            keeping = [loop.create_task(self._keep(slot)) for slot in self._slots]
            stack.push_async_callback(self._stop, keeping)
            try:
                async with asyncio.timeout(START_S):
                    await asyncio.gather(*(slot.listening for slot in self._slots))
            except TimeoutError:
                raise OSError(f"the workers did not start within {START_S:g} s") from None
            self._stack = stack.pop_all()
        log.info("workers %s listen", ", ".join(map(str, self.pids)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the workers: they take no new requests, let running ones finish, then end."""
        await self._stack.aclose()

    @property
    def table(self) -> RoutingTable:
        """The table in force in all workers. When another is assigned, it is sent to them."""
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self._table = table
        self._tell(NewTable(table=table))

    @property
    def pids(self) -> tuple[int | None, ...]:
        """(N,) ids of the processes that listen; `None` where one is being replaced."""
        return tuple(s.process.pid if s.report and s.process else None for s in self._slots)

    def configure(self, config: ServingConfig, table: RoutingTable) -> None:
        """Serve by this configuration and its table from now on, in all workers; as `Worker`
        does."""
        self._numbering += not table.buckets.numbered_as(self._table.buckets)
        self._config, self._settings, self._table = config, config.gateway, table
        self._estimator.add(config.bytes_per_token)
        self._tell(NewConfiguration(config=config, table=table, numbering=self._numbering))

    def apply(self, membership: Membership) -> None:
        """Serve with the backends of this membership from now on. Raises ConfigError if they need
        more rows than the shared array has."""
        if membership.rows > self._shared_load.rows:
            most = self._shared_load.rows
            raise ConfigError((f"pools: more than {most} backends need a restart",))
        before = {member.row for member in self._fleet.membership.members}
        self._fleet.apply(membership)
        left = before - {member.row for member in membership.members}
        self._retired |= dict.fromkeys(left, membership.version)
        self._load_view.track()
        self._shared_load.mark(self._fleet)  # new backends are down until their first probe
        self._tell(NewMembership(membership=membership))

    def rows_in_use(self) -> frozenset[int]:
        """Rows of backends that left, to which some worker may still write: it has not yet reported
        a membership without them, or still has leases there."""
        versions = [s.report.membership if s.report else -1 for s in self._slots if s.channel]
        held, oldest = self._shared_load.in_use(), min(versions, default=-1)
        self._retired = {
            row: version
            for row, version in self._retired.items()
            if version > oldest or row in held
        }
        return frozenset(self._retired)

    def drain(self) -> StatsDelta:
        """Return the statistics of all workers since the last call, as far as they have reported.
        Update the totals of the supervisor's fleet, and tell the workers which backends are
        down."""
        self._load_view.refresh(time.monotonic())
        self._shared_load.mark(self._fleet)  # before a round ends: its slowest probe may take long
        delta, self._delta = self._delta, StatsDelta()
        return delta

    def gauges(self) -> dict[int, WorkerGauges]:
        """The gauges in the last report of each worker that listens."""
        return {s.number: s.report.gauges for s in self._slots if s.report is not None}

    def on_probed(self) -> None:
        """All backends were probed: tell the workers which are down."""
        self._shared_load.mark(self._fleet)

    def backend_lost(self, backend: Backend) -> None:
        """Several probes of a backend failed: end the wait of requests for its first byte."""
        self._tell(BackendLost(backend=backend.name))

    def leave(self) -> None:
        """Report not ready from now on, but go on serving, so that balancers have time to
        notice."""
        self._leaving = True
        self._tell(Leave())

    def kill(self) -> None:
        """End all workers now; called when this process itself is about to end."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.kill()

    def _tell(self, message: Down) -> None:
        for slot in self._slots:
            if slot.channel is not None:
                slot.channel.send(message)

    async def _keep(self, slot: Slot) -> None:
        """Keep a slot filled with a process until the gateway stops."""
        while not self._stopping.is_set():
            try:
                channel = await self._start(slot)
                await self._hear(slot, channel)
            except Exception:
                log.exception("worker %d could not be kept", slot.number)
            # Its slot and its cells are given to the next process.
            how = await process.ended(slot.process, END_S)
            pid = slot.process.pid if slot.process else None
            slot.channel = slot.report = None
            self._shared_load.clear(slot.number)  # its leases ended with the process
            self.board.clear(slot.number)
            if not slot.listening.done():
                slot.listening.set_exception(OSError("a worker did not start; its log says why"))
            if self._stopping.is_set():
                return
            pause_s = slot.backoff.after(time.monotonic())
            if pause_s:  # else what waits in its sockets is served by the next process
                self._port.drop(slot.number)
            self.replaced += 1
            log.warning(
                "worker %d (%s) is gone: %s; another in %g s", slot.number, pid, how, pause_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _start(self, slot: Slot) -> Channel[Up, Down]:
        """Start a process for a slot, and send it its start-up message."""
        mine, its = socket.socketpair()
        with its:
            sockets = self._port.share(slot.number)
            rows = self._shared_load.rows
            memory = (self._memory, self._prefixes, self._keys)
            arguments = (its, sockets, *memory, rows, slot.number)
            slot.process = FORKED.Process(target=process.main, args=arguments, daemon=True)
            try:
                await asyncio.to_thread(_start, slot.process)
            except BaseException:
                mine.close()
                raise
        channel: Channel[Up, Down] = await Channel.over(mine, Up)
        channel.send(
            StartUp(
                config=self._config,
                table=self._table,
                numbering=self._numbering,
                membership=self._fleet.membership,
                learned=self._estimator.state(),
                host=self._port.host,
                port=self._port.number,
                admin=self._admin,
                level=logging.getLogger().level,
            )
        )
        slot.channel = channel
        if self._leaving:
            channel.send(Leave())
        if self._stopping.is_set():
            channel.send(Stop())
        return channel

    async def _hear(self, slot: Slot, channel: Channel[Up, Down]) -> None:
        """Receive the reports of a worker until it ends."""
        try:
            while True:
                async with asyncio.timeout(None if self._stopping.is_set() else SILENT_S):
                    report = await channel.receive()
                if slot.report is None and slot.listening.done() and slot.process:
                    log.info("worker %d (%s) serves", slot.number, slot.process.pid)
                slot.report = report
                if report.numbering != self._numbering:
                    report.delta.forget_buckets()
                if report.leaving:
                    self._port.drop(slot.number)
                self._delta.add(report.delta)
                for lesson in report.lessons:
                    self._estimator.learn(lesson)
                self.recent.extend(report.lessons)
                if not slot.listening.done():
                    slot.listening.set_result(None)
        except EOFError:
            return
        except TimeoutError:
            log.error("worker %d hangs: no report for %g s", slot.number, SILENT_S)
            if slot.process is not None:
                slot.process.kill()
        finally:
            await channel.close()

    async def _stop(self, keeping: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        self._tell(Stop())
        _, hanging = await asyncio.wait(keeping, timeout=self._settings.drain_s + STOP_S)
        for slot in self._slots:
            if slot.process is not None and hanging:
                slot.process.kill()
        for task in hanging:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for slot in self._slots:
            if not slot.listening.done():
                slot.listening.cancel()


def _start(worker: ForkServerProcess) -> None:
    with _without_main(), without_hangup():
        worker.start()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module of the command: a child would import it again without need."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

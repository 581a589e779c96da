"""The data plane of a simulated world: several real workers that share one array, as the supervisor
keeps them, but in one event loop. A worker may die at any moment; messages to it take a while."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from gateway.access.key_board import own_board
from gateway.config.serving import ServingConfig
from gateway.routing.backend import Backend
from gateway.routing.estimator import Estimator
from gateway.routing.estimator_schema import Lesson
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Membership
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges
from gateway.workers.worker import Worker
from loadtest.torture.network import VirtualSocket
from loadtest.torture.virtual_loop import VirtualProcess

SPARE_ROWS = 64
SALT = 1  # of the trails of prompts: the same in every play of a seed
REPORT_S = 0.5
MESSAGE_S = 0.002  # from the supervisor to a worker
NOTICED_S = 0.01  # from the death of a worker to the end of its channel
RESTART_S = 0.08  # until its replacement listens


class VirtualWorker:
    """One worker and its process. numbering: of buckets; see `NewConfiguration`. membership: the
    version that it has reported. inbox: messages on their way, which arrive in order: timers of one
    moment do not."""

    def __init__(self, number: int, worker: Worker, process: VirtualProcess, numbering: int):
        self.inbox: deque[Callable[[VirtualWorker], None]] = deque()
        self.number, self.worker, self.process = number, worker, process
        self.numbering = numbering
        self.membership = worker.router.fleet.membership.version


class VirtualPlane:
    """The `DataPlane` of several workers.

    workers: those that live, by number. graves: those that died; kept, so that nothing of them runs
    when it is collected. deaths: when workers died. board: of keys, of which there are none.
    """

    def __init__(
        self,
        config: ServingConfig,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        host: str,
        port: int,
    ) -> None:
        self._config, self._table, self._numbering = config, table, 0
        self._fleet, self._estimator = fleet, estimator
        self._address = host, port
        self._loop = asyncio.get_running_loop()
        count, rows = config.gateway.workers, fleet.membership.rows + SPARE_ROWS
        self._memory = bytearray(8 * SharedLoad.doubles(workers=count, rows=rows))
        self.shared_load = SharedLoad(self._memory, workers=count, rows=rows)
        self._load_view = LoadView(self.shared_load, fleet, None)
        self._prefixes = bytearray(8 * PrefixIndex.words(rows=rows))
        PrefixIndex(self._prefixes, rows=rows).salt = SALT
        self.board = own_board()
        self._retired: dict[int, int] = {}
        self._delta = StatsDelta()
        # What was told while a worker started, by its number.
        self._missed: dict[int, list[Callable[[VirtualWorker], None]]] = {}
        self.workers: dict[int, VirtualWorker] = {}
        self.graves: list[VirtualWorker] = []
        self.deaths: list[float] = []
        self.replaced = 0
        self.recent: deque[Lesson] = deque()
        self.pids: tuple[int | None, ...] = ()

    async def __aenter__(self) -> "VirtualPlane":
        for number in range(self._config.gateway.workers):
            await self._start(number)
        return self

    async def __aexit__(self, *_: object) -> None:
        for held in tuple(self.workers.values()):
            await held.worker.__aexit__(None, None, None)

    @property
    def table(self) -> RoutingTable:
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self._table = table
        self._tell(lambda held: setattr(held.worker, "table", table))

    def configure(self, config: ServingConfig, table: RoutingTable) -> None:
        self._numbering += not table.buckets.numbered_as(self._table.buckets)
        self._config, self._table, numbering = config, table, self._numbering
        self._estimator.add(config.bytes_per_token)

        def obey(held: VirtualWorker) -> None:
            self._take(held)
            held.worker.configure(config, table)
            held.numbering = numbering

        self._tell(obey)

    def apply(self, membership: Membership) -> None:
        before = {member.row for member in self._fleet.membership.members}
        self._fleet.apply(membership)
        left = before - {member.row for member in membership.members}
        self._retired |= dict.fromkeys(left, membership.version)
        self._load_view.track()
        self.shared_load.mark(self._fleet)
        self._tell(lambda held: held.worker.apply(membership))

    def rows_in_use(self) -> frozenset[int]:
        versions = [held.membership for held in self.workers.values()]
        held, oldest = self.shared_load.in_use(), min(versions, default=-1)
        self._retired = {r: v for r, v in self._retired.items() if v > oldest or r in held}
        return frozenset(self._retired)

    def drain(self) -> StatsDelta:
        self._load_view.refresh(self._loop.time())
        self.shared_load.mark(self._fleet)
        delta, self._delta = self._delta, StatsDelta()
        return delta

    def gauges(self) -> dict[int, WorkerGauges]:
        return {n: held.worker.gauges()[0] for n, held in self.workers.items()}

    def on_probed(self) -> None:
        self.shared_load.mark(self._fleet)

    def backend_lost(self, backend: Backend) -> None:
        def obey(held: VirtualWorker) -> None:
            for own in held.worker.router.fleet.backends:
                if own.name == backend.name:
                    held.worker.backend_lost(own)

        self._tell(obey)

    def leave(self) -> None:
        self._tell(lambda held: held.worker.leave())

    def kill(self) -> None:
        """Do nothing: there are no processes."""

    def die(self, number: int) -> None:
        """Kill a worker; another one takes its place."""
        held = self.workers.pop(number)
        self.graves.append(held)
        self.deaths.append(self._loop.time())
        held.process.kill()
        self._loop.call_later(NOTICED_S, self._bury, number)

    def live(self) -> Iterator[Worker]:
        """The workers that live, by their numbers."""
        for number in sorted(self.workers):
            yield self.workers[number].worker

    def _bury(self, number: int) -> None:
        self.shared_load.clear(number)
        self.replaced += 1
        self._loop.call_later(RESTART_S, self._replace, number)

    def _replace(self, number: int) -> None:
        self._starting = self._loop.create_task(self._start(number))

    async def _start(self, number: int) -> None:
        """Start a worker in a process of its own, with what is in force now."""
        process = VirtualProcess(f"worker {number}")
        missed = self._missed[number] = []
        config, table, numbering = self._config, self._table, self._numbering
        membership, learned = self._fleet.membership, self._estimator.state()

        async def start() -> Worker:
            fleet = Fleet(membership)
            estimator = Estimator(config.bytes_per_token)
            estimator.restore(learned)
            worker = Worker(
                config,
                table,
                fleet=fleet,
                estimator=estimator,
                sockets=(VirtualSocket(*self._address),),  # type: ignore[arg-type]
                admin="http://admin:1",
                peers=LoadView(self.shared_load, fleet, number),
            )
            index = PrefixIndex(self._prefixes, rows=self.shared_load.rows)
            worker.router.affinity.share(index)
            return await worker.__aenter__()

        made = await process.context.run(self._loop.create_task, start())
        held = self.workers[number] = VirtualWorker(number, made, process, numbering)
        del self._missed[number]
        for obey in missed:
            obey(held)
        process.context.run(self._loop.call_later, REPORT_S, self._report, held)

    def _tell(self, obey: Callable[[VirtualWorker], None]) -> None:
        """Send a message to every worker; it is obeyed in the worker's process."""
        for missed in self._missed.values():
            missed.append(obey)
        for held in self.workers.values():
            held.inbox.append(obey)
            self._loop.call_later(MESSAGE_S, self._obey, held, context=held.process.context)

    def _obey(self, held: VirtualWorker) -> None:
        held.inbox.popleft()(held)

    def _report(self, held: VirtualWorker) -> None:
        self._take(held)
        held.membership = held.worker.router.fleet.membership.version
        self._loop.call_later(REPORT_S, self._report, held)

    def _take(self, held: VirtualWorker) -> None:
        """Take over the statistics of a worker."""
        delta = held.worker.drain()
        if held.numbering != self._numbering:
            delta.forget_buckets()
        self._delta.add(delta)
        for lesson in held.worker.recent:
            self._estimator.learn(lesson)
        held.worker.recent.clear()

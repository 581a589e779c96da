"""N worker processes behind one port: started, heard, replaced when they die, and stopped.

Owns the processes, their channels and the board. To whoever composes the gateway it is what one
`Worker` is. Processes come from a fork server that has everything imported, so that a replacement
serves within tens of milliseconds; SO_REUSEPORT lets the kernel deal connections among them.
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
from types import ModuleType

from gateway.config.load import Loaded
from gateway.routing.backend import Backend, Fleet
from gateway.routing.estimator import Estimator
from gateway.routing.peers import LoadView, SharedLoad
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers import process
from gateway.workers.channel import Channel
from gateway.workers.port import reserved, served
from gateway.workers.process import BackendLost, Command, StartUp, WorkerReport

log = logging.getLogger("cuvee.crew")

START_S = 60.0  # until all listen at first: the fork server imports, perhaps on a busy machine
SILENT_S = 15.0  # a worker that reports nothing for so long hangs, and is killed
STOP_S = 5.0  # beyond the time that requests have to finish
DEATHS = 5  # within DEATHS_S that are replaced at once; then there are pauses
DEATHS_S = 10.0
LONGEST_PAUSE_S = 30.0

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload([process.__name__])


class Backoff:
    """How long to wait before a dead worker is replaced."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS + 1)  # on a clock that pauses do not move
        self._pause_s = self._paused_s = 0.0

    def after(self, now_s: float) -> float:
        """It died now: seconds to wait. None, unless it keeps dying."""
        deaths = self._deaths
        deaths.append(now_s - self._paused_s)
        often = len(deaths) > DEATHS and deaths[-1] - deaths[0] <= DEATHS_S
        self._pause_s = min(max(1.0, 2 * self._pause_s), LONGEST_PAUSE_S) if often else 0.0
        self._paused_s += self._pause_s
        return self._pause_s


class Slot:
    """The place of one worker, whoever fills it: its process and channel now, if there are any.

    up: whether it listens. listening: done when the first did.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: ForkServerProcess | None = None
        self.channel: Channel | None = None
        self.up = False
        self.listening = asyncio.get_running_loop().create_future()
        self.pauses = Backoff()

    def __repr__(self) -> str:
        return f"<Slot {self.number}: {self.process!r}>"


class Supervisor:
    """The worker processes; an async context manager."""

    def __init__(
        self,
        loaded: Loaded,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        host: str,
        port: int,
        admin: str,
    ) -> None:
        """As a worker's. fleet: the supervisor's, which is told what all workers hold."""
        self._loaded = loaded
        self._settings = settings = loaded.config.gateway
        self._table = table
        self._fleet = fleet
        self._estimator = estimator  # a sample of all workers' requests teaches a replacement
        self._admin = admin
        size = {"workers": settings.workers, "backends": len(fleet.backends)}
        self._memory = FORKED.RawArray("d", SharedLoad.doubles(**size))
        self._shared_load = SharedLoad(self._memory, **size)
        self._load_view = LoadView(self._shared_load, fleet, None)
        self._delta = StatsDelta()
        self._slots: list[Slot] = []
        self._stopping = asyncio.Event()
        self._leaving = False
        self._stack = AsyncExitStack()
        self.host, self.port = host, port
        self.replaced = 0

    def __repr__(self) -> str:
        return f"<Supervisor {self.pids} on {self.host}:{self.port}>"

    async def __aenter__(self) -> "Supervisor":
        """Returns when all workers listen. Raises OSError when they cannot."""
        async with AsyncExitStack() as stack:
            self.port = stack.enter_context(reserved(self.host, self.port))
            self._slots = [Slot(number) for number in range(self._settings.workers)]
            loop = asyncio.get_running_loop()
            keeping = [loop.create_task(self._keeping(post)) for post in self._slots]
            stack.push_async_callback(self._stop, keeping)
            try:
                async with asyncio.timeout(START_S):
                    await asyncio.gather(*(post.listening for post in self._slots))
            except TimeoutError:
                raise OSError(f"the workers did not start within {START_S:g} s") from None
            stack.enter_context(served(self.host, self.port))
            self._stack = stack.pop_all()
        log.info("workers %s listen", ", ".join(map(str, self.pids)))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Workers take no new requests, let running ones finish, and end."""
        await self._stack.aclose()

    @property
    def table(self) -> RoutingTable:
        """What is in force in all workers. Assigned: they are sent it."""
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self._table = table
        self._tell(table)

    @property
    def pids(self) -> tuple[int | None, ...]:
        """(N,) the processes that listen now; `None` where one is being replaced."""
        return tuple(p.process.pid if p.up and p.process else None for p in self._slots)

    def drain(self) -> StatsDelta:
        """What happened in all workers since the last call, as far as they have told. What they
        hold now is brought into the supervisor's fleet, and they are told what is down there."""
        self._load_view.refresh(time.monotonic())
        self._shared_load.mark(self._fleet)  # a round of probes lasts as long as its slowest
        delta, self._delta = self._delta, StatsDelta()
        return delta

    def looked(self) -> None:
        """All backends were probed."""
        self._shared_load.mark(self._fleet)

    def lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""
        self._tell(BackendLost(backend=backend.name))

    def leave(self) -> None:
        """Not ready any more, but still serving, so that balancers notice."""
        self._leaving = True
        self._tell(Command.LEAVE)

    def _tell(self, value: object) -> None:
        for post in self._slots:
            if post.channel is not None:
                post.channel.send(value)

    async def _keeping(self, post: Slot) -> None:
        """Has a place filled, again and again."""
        while not self._stopping.is_set():
            try:
                channel = await self._start(post)
                await self._hear(post, channel)
            except Exception:
                log.exception("worker %d could not be kept", post.number)
            pid = post.process.pid if post.process else None
            post.channel, post.up = None, False
            self._shared_load.clear(post.number)  # its leases are gone with it
            if not post.listening.done():
                post.listening.set_exception(OSError("a worker did not start; its log says why"))
            if self._stopping.is_set():
                return
            pause_s = post.pauses.after(time.monotonic())
            self.replaced += 1
            log.warning("worker %d (%s) is gone; another in %g s", post.number, pid, pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _start(self, post: Slot) -> Channel:
        """A new process for a place, with its orders."""
        mine, its = socket.socketpair()
        with its:
            post.process = FORKED.Process(
                target=process.main, args=(its, self._memory, post.number), daemon=True
            )
            try:
                await asyncio.to_thread(_start, post.process)
            except BaseException:
                mine.close()
                raise
        channel = await Channel.over(mine)
        channel.send(
            StartUp(
                loaded=self._loaded, table=self._table, estimator=self._estimator, host=self.host,
                port=self.port, admin=self._admin, level=logging.getLogger().level,
            )
        )  # fmt: skip
        post.channel = channel
        if self._leaving:
            channel.send(Command.LEAVE)
        if self._stopping.is_set():
            channel.send(Command.STOP)
        return channel

    async def _hear(self, post: Slot, channel: Channel) -> None:
        """Takes in what a worker tells, until it is gone."""
        try:
            while True:
                async with asyncio.timeout(None if self._stopping.is_set() else SILENT_S):
                    told = await channel.receive()
                if isinstance(told, WorkerReport):
                    self._delta.add(told.delta)
                    for observation in told.recent:
                        self._estimator.learn(observation)
                elif told is Command.LISTENING:
                    post.up = True
                    if not post.listening.done():
                        post.listening.set_result(None)
        except EOFError:
            return
        except TimeoutError:
            log.error("worker %d hangs", post.number)
        finally:
            if post.process is not None and post.process.is_alive():
                post.process.kill()  # whatever it still does: its place and row are given away
            await channel.close()

    async def _stop(self, keeping: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        self._tell(Command.STOP)
        _, hanging = await asyncio.wait(keeping, timeout=self._settings.drain_s + STOP_S)
        for post in self._slots:
            if post.process is not None and hanging:
                post.process.kill()
        for task in hanging:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for post in self._slots:
            if not post.listening.done():
                post.listening.cancel()


def _start(process: ForkServerProcess) -> None:
    with _without_main():
        process.start()


@contextmanager
def _without_main() -> Iterator[None]:
    """A child would import the command's main module again, which it has no use for."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main

"""An event loop in virtual time: it never waits, but goes on at once to the next timer.

Processes are simulated in it by contexts: every callback, timer and task belongs to the process in
whose context it was made, and those of a dead process are never run. Knows no gateway.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any

from loadtest.torture.network import Network, VirtualServer, VirtualSocket, VirtualTransport

PROCESS: ContextVar["VirtualProcess | None"] = ContextVar("process", default=None)


class VirtualProcess:
    """A part of the world that may die at any moment, as a killed process does: none of its code
    runs any more, and its connections are gone.

    alive: until `kill`. context: in which its code runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.context = copy_context()
        self.context.run(PROCESS.set, self)
        # A task that nobody refers to would be collected, and its `finally` would run: held here,
        # the tasks of a dead process stay as they were.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._transports: list[VirtualTransport] = []
        self._servers: list[VirtualServer] = []

    def __repr__(self) -> str:
        return f"<VirtualProcess {self.name} {'alive' if self.alive else 'dead'}>"

    def step(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        """Run a callback, unless the process is dead."""
        if self.alive:
            callback(*arguments)

    def hold(self, task: "asyncio.Task[Any]") -> None:
        """Keep a task of this process until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def own(self, transport: VirtualTransport) -> None:
        """Note an end of a connection that this process has."""
        if len(self._transports) > 256:
            self._transports = [kept for kept in self._transports if not kept.is_closing()]
        self._transports.append(transport)

    def serve(self, server: VirtualServer) -> None:
        """Note a listening port of this process."""
        self._servers.append(server)

    def kill(self) -> None:
        """Die now."""
        self.alive = False
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.sever()

    def unwind(self) -> None:
        """End what is left of a dead process; called when the world is over."""
        self.alive = True
        for task in tuple(self._tasks):
            task.cancel()


class _Leap(selectors.BaseSelector):
    """A selector without files: where it would wait, it moves the clock."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        self._leap = leap
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, int(fileobj), events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the world stands still: nothing will ever happen again")
        if timeout > 0:
            self._leap(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. Its connections are those of a `Network`.

    on_quiet: called before the clock moves: everything that happens at this moment has happened.
    It must change nothing.
    """

    def __init__(self, network: Network) -> None:
        self._virtual_s = 0.0
        self.network = network
        self.on_quiet: Callable[[], None] = lambda: None
        super().__init__(_Leap(self._on_leap))
        network.attach(self)

    def time(self) -> float:
        return self._virtual_s

    def _on_leap(self, seconds: float) -> None:
        self.on_quiet()
        self._virtual_s += seconds

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(process.step, callback, args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, process.step, callback, args, context=context)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":  # type: ignore[override]
        task = super().create_task(coro, **options)
        process = PROCESS.get()
        if process is not None:
            process.hold(task)
        return task

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        **_: Any,
    ) -> tuple[VirtualTransport, asyncio.Protocol]:
        transport = await self.network.connect(host, port)
        protocol = protocol_factory()
        transport.begin(protocol, PROCESS.get())
        return transport, protocol

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *, sock: VirtualSocket, **_: Any
    ) -> VirtualServer:
        process = PROCESS.get()
        server = self.network.listen(sock.host, sock.port, protocol_factory, process)
        if process is not None:
            process.serve(server)
        return server

"""Connections without sockets: bytes arrive after a delay, in pieces, or not at all. Chance is a
seed. Knows neither HTTP nor who talks."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from random import Random
from typing import Any, Protocol

WINDOW = 65536  # bytes that the network takes of what the other side does not read
SLOW_WINDOW = 1500
LONGEST_DELAY_S = 0.003
SPLIT = 0.02  # share of the arrivals that come in two pieces
SHORT_WINDOW = 0.1  # share of the connections with a small window


class Owner(Protocol):
    """The process that has an end of a connection."""

    alive: bool
    context: Context

    def own(self, transport: "VirtualTransport") -> None: ...


class VirtualSocket:
    """An address to listen on, in place of a bound socket."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def dup(self) -> "VirtualSocket":
        """Another one of the same address."""
        return VirtualSocket(self.host, self.port)

    def close(self) -> None:
        """Do nothing: the address is free again when its server closes."""


class VirtualServer:
    """A listening address. process: whose it is; `None`: of the world itself."""

    def __init__(
        self,
        network: "Network",
        address: tuple[str, int],
        factory: Callable[[], asyncio.Protocol],
        process: Owner | None,
    ) -> None:
        self._network = network
        self.address = address
        self.factory = factory
        self.process = process

    def close(self) -> None:
        """Accept no more."""
        self._network.unlisten(self)


class VirtualTransport(asyncio.Transport):
    """One end of a connection. peer: the other end."""

    peer: "VirtualTransport"

    def __init__(self, network: "Network", host: str, delay_s: float, window: int) -> None:
        """host: of the side that listens. delay_s: of every byte. window: bytes on the way."""
        super().__init__()
        self._network, self._loop, self._host = network, network.loop, host
        self._delay_s, self._window = delay_s, window
        self._protocol: asyncio.Protocol | None = None
        self._context: Context | None = None
        self._process: Owner | None = None
        # What comes: (when, bytes), empty bytes for the end, `None` for a reset.
        self._inbox: deque[tuple[float, bytes | None]] = deque()
        self._inbox_bytes = 0
        self._due = False  # whether `_deliver` will be called
        self._reading = True
        self._closing = self._lost = self._eof_sent = False
        self._writing_paused = self._flushing = False

    def begin(self, protocol: asyncio.Protocol, process: Owner | None) -> None:
        """Serve a protocol, in the process that has it."""
        self._protocol, self._process = protocol, process
        # Who writes does not run the other side's code: that would die with the writer.
        self._context = self._network.context if process is None else process.context
        if process is not None:
            process.own(self)
        protocol.connection_made(self)
        self._schedule()

    # As protocols use it.

    def write(self, data: Any) -> None:
        if self._closing or self._eof_sent or not data:
            return
        peer = self.peer
        peer._arrive(bytes(data))
        if not self._writing_paused and peer._inbox_bytes > self._window:
            self._writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self.peer._arrive(b"")

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return max(0, self.peer._inbox_bytes - self._window)

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def close(self) -> None:
        """Close when the network has taken all that was written."""
        if self._closing:
            return
        self._closing = True
        self.write_eof()
        if self.get_write_buffer_size():
            self._flushing = True
        else:
            self._call(self._lose, None)

    def abort(self) -> None:
        if self._lost:
            return
        self._closing, self._flushing = True, False
        self.write_eof()
        self._call(self._lose, None)

    def sever(self) -> None:
        """The process of this end died: the other end sees a reset."""
        if not self._lost:
            self._closing = self._lost = True
            self.peer._arrive(None)

    # Between the two ends.

    def _arrive(self, data: bytes | None) -> None:
        if self._lost:
            return
        self._inbox.append((self._loop.time() + self._delay_s, data))
        self._inbox_bytes += len(data or b"")
        self._schedule()

    def _schedule(self) -> None:
        """Have what has come delivered when it is due."""
        if self._due or not self._inbox or self._protocol is None or self._lost:
            return
        head = self._inbox[0][1]
        if (not self._reading and head) or self._network.is_frozen(self._host, self):
            return
        self._due = True
        self._call(self._deliver, at_s=self._inbox[0][0])

    def _call(self, function: Callable[..., None], *arguments: Any, at_s: float = 0.0) -> None:
        if at_s > self._loop.time():
            self._loop.call_at(at_s, function, *arguments, context=self._context)
        else:
            self._loop.call_soon(function, *arguments, context=self._context)

    def _deliver(self) -> None:
        self._due = False
        if self._lost or self._network.is_frozen(self._host, self):
            return
        now_s, pieces = self._loop.time() + 1e-9, []
        while self._inbox and self._inbox[0][0] <= now_s and self._inbox[0][1] and self._reading:
            pieces.append(self._inbox.popleft()[1] or b"")
        if pieces:
            whole = b"".join(pieces)
            data = self._network.piece(whole)
            if len(data) < len(whole):
                self._inbox.appendleft((0.0, whole[len(data) :]))
            self._take(data)
        elif self._inbox and self._inbox[0][0] <= now_s and not self._inbox[0][1]:
            self._end(self._inbox.popleft()[1] is None)
        self._schedule()

    def _take(self, data: bytes) -> None:
        self._inbox_bytes -= len(data)
        self.peer._drained()
        if not self._closing:
            assert self._protocol is not None
            self._protocol.data_received(data)

    def _end(self, reset: bool) -> None:
        assert self._protocol is not None
        if reset:
            self._closing = True
            self._lose(ConnectionResetError("reset by peer"))
        elif not self._closing and not self._protocol.eof_received():
            self.close()

    def _drained(self) -> None:
        """The other side has read: go on writing, or finish closing."""
        if self.get_write_buffer_size():
            return
        if self._flushing:
            self._flushing = False
            self._call(self._lose, None)
        elif self._writing_paused and not self._closing:
            self._writing_paused = False
            assert self._protocol is not None
            self._call(self._protocol.resume_writing)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._inbox.clear()
        self._inbox_bytes = 0
        self.peer._drained()
        if not self._eof_sent:
            self.write_eof()
        assert self._protocol is not None
        self._protocol.connection_lost(error)


class Network:
    """All connections of a world.

    loop: whose clock it uses; set by `attach`. frozen: hosts from which and to which nothing comes,
    and where dialling never ends.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._servers: dict[tuple[str, int], list[VirtualServer]] = {}
        self._frozen: set[str] = set()
        self._held: dict[VirtualTransport, None] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the clock of this loop; what belongs to no process runs in the present context."""
        self.loop, self.context = loop, copy_context()

    def listen(
        self,
        host: str,
        port: int,
        factory: Callable[[], asyncio.Protocol],
        process: Owner | None = None,
    ) -> VirtualServer:
        """Accept at an address; several servers share it evenly."""
        server = VirtualServer(self, (host, port), factory, process)
        self._servers.setdefault(server.address, []).append(server)
        return server

    def unlisten(self, server: VirtualServer) -> None:
        """Accept there no more."""
        servers = self._servers.get(server.address, [])
        if server in servers:
            servers.remove(server)

    def freeze(self, host: str) -> None:
        """Let nothing through from and to this host."""
        self._frozen.add(host)

    def thaw(self, host: str) -> None:
        """Deliver what was held back."""
        self._frozen.discard(host)
        held, self._held = self._held, {}
        for transport in held:
            transport._schedule()

    def is_frozen(self, host: str, transport: VirtualTransport) -> bool:
        """Whether nothing gets through; then the transport is told when it does again."""
        if host not in self._frozen:
            return False
        self._held[transport] = None
        return True

    def piece(self, data: bytes) -> bytes:
        """As much of what has arrived as is delivered at once."""
        if len(data) > 1 and self._random.random() < SPLIT:
            return data[: self._random.randrange(1, len(data))]
        return data

    async def connect(self, host: str, port: int) -> VirtualTransport:
        """Dial; return the near end. Raises ConnectionRefusedError."""
        delay_s = self._random.choice((0.0, self._random.uniform(0.0, LONGEST_DELAY_S)))
        window = SLOW_WINDOW if self._random.random() < SHORT_WINDOW else WINDOW
        await asyncio.sleep(delay_s)
        if host in self._frozen:
            await self.loop.create_future()  # until it is cancelled
        servers = self._servers.get((host, port), [])
        if not servers:
            raise ConnectionRefusedError(111, f"nobody listens on {host}:{port}")
        server = servers[self._random.randrange(len(servers))]
        near, far = (VirtualTransport(self, host, delay_s, window) for _ in range(2))
        near.peer, far.peer = far, near
        context = self.context if server.process is None else server.process.context
        self.loop.call_soon(self._accept, server, far, context=context)
        return near

    def _accept(self, server: VirtualServer, transport: VirtualTransport) -> None:
        transport.begin(server.factory(), server.process)

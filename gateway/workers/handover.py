"""How a gateway and its successor on the same port agree: who has it, and who gets its sockets.

A gateway listens on a name that belongs to its port (abstract sockets of Linux, unix(7)); the
kernel frees the name when the process ends in any way. A second gateway connects there, and is
either refused or given the listening sockets. A socket that both have is never closed between
them, so that no connection is refused or reset. Knows no request.
"""

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum

import msgspec

from gateway.proxy.http.sockets import bound, is_at, places
from gateway.workers.port import DataPort, require_enough, require_free

WAIT_S = 10.0  # for an answer of the other gateway
MOST = 253  # sockets in one message (SCM_MAX_FD)
RETRIES, RETRY_S = 20, 0.1  # to bind a port whose gateway has just stopped to accept
READY = b"ready\n"
Listening = Sequence[socket.socket]
PEER = struct.Struct("3i")  # of SO_PEERCRED: process, user, group


class Stage(StrEnum):
    """What a gateway does with its port."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Wish(StrEnum):
    """What is asked of the gateway that has a port: only its stage; its sockets if it drains; or
    its sockets in any case, so that it drains."""

    STAGE = "stage"
    SUCCEED = "succeed"
    REPLACE = "replace"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. process: its id. granted: whether the sockets come with it: that of the name, and
    as many of the admin port and of the data port."""

    stage: Stage
    process: int
    granted: bool
    admin: int = 0
    data: int = 0


class Handover:
    """One gateway's side towards others on the same port; an async context manager.

    stage: told to others. inherited, admin: listening sockets of the predecessor's data port and
    admin port; without a predecessor, `inherited` are those that a service manager gave, of both.
    has_predecessor: whether there is one that will end. replaced: set when a successor serves.
    """

    def __init__(
        self, host: str, port: int, *, replace: bool = False, given: Listening = ()
    ) -> None:
        """replace: whether to take the port over from a gateway that serves. given: sockets that a
        service manager listens on for this gateway."""
        self.host, self.port = host, port
        self._given = tuple(given)
        self._wish = Wish.REPLACE if replace else Wish.SUCCEED
        self._control: socket.socket | None = None
        self._predecessor: socket.socket | None = None
        self._answering: asyncio.Task[None] | None = None
        self._granted = False
        self._offer: Callable[[], tuple[Sequence[socket.socket], Sequence[socket.socket]]]
        self._on_replaced: Callable[[], None] = lambda: None
        self.stage = Stage.STARTING
        self.inherited: tuple[socket.socket, ...] = ()
        self.admin: socket.socket | None = None
        self.replaced = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Handover of {self.host}:{self.port}, {self.stage}>"

    async def __aenter__(self) -> "Handover":
        """Claim the port, if it has a number. Raises OSError when another gateway has it and keeps
        it."""
        if self.port:
            await asyncio.to_thread(self._succeed)
            if not self.has_predecessor:
                self._claim()
        if self.has_predecessor:  # whose sockets may be the same ones
            for held in self._given:
                held.close()
        else:
            self.inherited = self._given
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_answering()
        for held in (self._control, self._predecessor, self.admin, *self.inherited):
            if held is not None:
                held.close()

    @property
    def has_predecessor(self) -> bool:
        return self._predecessor is not None

    async def data_port(self, workers: int) -> DataPort:
        """The data port, with the predecessor's sockets where it has any. Raises OSError when
        another program has the port."""
        host, port, inherited = self.host, self.port, self.inherited
        if inherited and not self.has_predecessor:
            require_enough(inherited, host, port, workers)
        orphans = bool(port) and has_orphans(host, port)
        if inherited or not port:
            return DataPort(host, port, workers=workers, inherited=inherited)
        if orphans:
            return DataPort(host, port, workers=workers, shared=True)
        for _ in range(RETRIES if self.has_predecessor else 0):
            with suppress(OSError):  # the predecessor may be just closing its sockets
                require_free(host, port)
                break
            await asyncio.sleep(RETRY_S)
        else:
            require_free(host, port)
        return DataPort(host, port, workers=workers)

    def admin_port(self, host: str, port: int) -> socket.socket:
        """A socket that listens on the admin port: the predecessor's, or a new one. Raises OSError
        when another program has the port."""
        place = next(places(host, port))
        candidates = self.inherited if self.admin is None else (self.admin, *self.inherited)
        found = next((held for held in candidates if port and is_at(held, place)), None)
        return bound(place) if found is None else found

    def serve(
        self,
        port: int,
        offer: Callable[[], tuple[Sequence[socket.socket], Sequence[socket.socket]]],
        on_replaced: Callable[[], None],
    ) -> None:
        """The gateway serves: let the predecessor go, and answer successors.

        offer: returns the listening sockets of the admin port and of the data port. on_replaced:
        called when a successor serves.
        """
        self._offer, self._on_replaced = offer, on_replaced
        if self._control is None:
            self.port = port
            self._claim()
        self.stage = Stage.SERVING
        if self._predecessor is not None:
            with self._predecessor as predecessor:
                predecessor.sendall(READY)
            self._predecessor = None
        if self._control is not None:
            self._answering = asyncio.get_running_loop().create_task(self._answer_all())

    def _claim(self) -> None:
        """Listen on the port's name. Raises OSError if another gateway does."""
        if sys.platform != "linux":
            return
        self._control = control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            control.bind(_name(self.host, self.port))
        except OSError as error:
            text = f"gateway.port: another gateway is starting on port {self.port}"
            raise OSError(text) from error
        control.listen()
        control.setblocking(False)

    def _succeed(self) -> None:
        """Ask the gateway that has the port, if there is one, for its sockets."""
        asked = _asked(self.host, self.port, self._wish)
        if asked is None:
            return
        connection, grant, sockets = asked
        if not grant.granted:
            connection.close()
            end = "; --replace takes it over" if grant.stage == Stage.SERVING else ""
            raise OSError(
                f"gateway.port: another gateway (process {grant.process}) is {grant.stage} on "
                f"port {self.port}{end}"
            )
        self._predecessor, self._control = connection, sockets[0]
        self.admin = sockets[1] if grant.admin else None
        self.inherited = tuple(sockets[1 + grant.admin :])

    async def _answer_all(self) -> None:
        assert self._control is not None
        loop, answers = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        while True:
            connection, _ = await loop.sock_accept(self._control)
            task = loop.create_task(self._answer(connection))
            answers.add(task)
            task.add_done_callback(answers.discard)

    async def _answer(self, connection: socket.socket) -> None:
        """Answer one other gateway; if it got the sockets, wait until it serves."""
        loop = asyncio.get_running_loop()
        with connection:
            connection.setblocking(False)
            if not _is_mine(connection):
                return
            try:
                async with asyncio.timeout(WAIT_S):
                    wish = (await loop.sock_recv(connection, 64)).decode().strip()
                granted = self._grants(wish)
                self._send(connection, granted)
                if not granted:
                    return
                self._granted = True
                replaced = await loop.sock_recv(connection, 64) == READY
            except (OSError, TimeoutError):
                replaced = False
        self._granted = False
        if replaced:
            self._stop_answering()
            self._on_replaced()
            self.replaced.set()

    def _grants(self, wish: str) -> bool:
        if self._granted or self.replaced.is_set():
            return False
        return wish == Wish.REPLACE or (wish == Wish.SUCCEED and self.stage == Stage.DRAINING)

    def _send(self, connection: socket.socket, granted: bool) -> None:
        admin, data = self._offer()
        assert self._control is not None
        sockets = [self._control, *admin, *data][:MOST] if granted else []
        grant = Grant(
            stage=self.stage,
            process=os.getpid(),
            granted=granted,
            admin=len(admin),
            data=len(sockets) - 1 - len(admin) if granted else 0,
        )
        answer = msgspec.json.encode(grant)
        socket.send_fds(connection, [answer], [held.fileno() for held in sockets])

    def _stop_answering(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None


class Orphanage:
    """What tells a new gateway that workers without a supervisor listen on the port, and that they
    end when it serves; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._name = _name(host, port, "orphans")
        self._held: socket.socket | None = None

    def __enter__(self) -> "Orphanage":
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()

    def announce(self) -> None:
        """Hold the name that says so, unless another worker holds it."""
        if self._held is not None:
            return
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            held.bind(self._name)
        except OSError:
            held.close()
        else:
            self._held = held


def has_orphans(host: str, port: int) -> bool:
    """Whether workers without a supervisor listen on the port."""
    if sys.platform != "linux":
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(_name(host, port, "orphans")) == 0


def is_served(host: str, port: int) -> bool:
    """Whether a gateway with a living supervisor serves the port; asks it, which takes a moment."""
    try:
        asked = _asked(host, port, Wish.STAGE)
    except OSError:
        return False
    if asked is None:
        return False
    asked[0].close()
    return asked[1].stage == Stage.SERVING


def _asked(
    host: str, port: int, wish: Wish
) -> tuple[socket.socket, Grant, list[socket.socket]] | None:
    """The connection to the gateway that has a port, its answer and the sockets that came with it;
    `None` if there is none. Blocks. Raises OSError when it is another user's or does not answer."""
    if sys.platform != "linux":
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(WAIT_S)
        try:
            connection.connect(_name(host, port))
        except ConnectionRefusedError:
            connection.close()
            return None
        if not _is_mine(connection):
            raise OSError(errno.EADDRINUSE, f"port {port}: another user's gateway has it")
        connection.sendall(f"{wish}\n".encode())
        answer, numbers, _, _ = socket.recv_fds(connection, 4096, MOST)
        sockets = [socket.socket(fileno=number) for number in numbers]
        for held in sockets:
            held.setblocking(False)
        return connection, msgspec.json.decode(answer, type=Grant), sockets
    except (TimeoutError, msgspec.DecodeError) as error:
        connection.close()
        text = f"port {port}: another gateway has it and does not answer"
        raise OSError(errno.EADDRINUSE, text) from error
    except BaseException:
        connection.close()
        raise


def _is_mine(connection: socket.socket) -> bool:
    """Whether the process at the other end is of this user or of root: an abstract name has no
    permissions of its own."""
    _, user, _ = PEER.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    )
    return user in (os.geteuid(), 0)


def _name(host: str, port: int, what: str = "port") -> str:
    return f"\0cuvee-{what}-{host}:{port}"

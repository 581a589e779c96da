"""A scripted engine: answers at once what it is asked for, and fails as it is told.

It has no model of time or of memory; the emulated engine has. It keeps the engines' ledger.
"""

import asyncio
import re
from random import Random
from typing import cast

import httptools
import msgspec

from loadtest.soak.faults import EngineFault
from loadtest.soak.ledger import EngineBook
from loadtest.soak.reply import Script, script, whole
from loadtest.soak.traffic import MODEL

TOKEN = re.compile(rb"id=(\d+);")
PACE_S = 0.02  # longest pause between two pieces
SLOWER = 20
HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
MODELS = msgspec.json.encode({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


class ScriptedEngine:
    """One engine on a port of its own. fault: what it does now with a share `hit` of its requests.
    held: requests that it has."""

    def __init__(self, book: EngineBook, seed: str) -> None:
        self.book = book
        self.random = Random(seed)
        self.fault: EngineFault | None = None
        self.hit = 0.0
        self.held = 0
        self.port = 0
        self.connections: set[ScriptedConnection] = set()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<ScriptedEngine {self.port}, {self.fault}, {self.held} requests>"

    async def start(self) -> None:
        """Listen: on a free port the first time, later on the same one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ScriptedConnection(self), "127.0.0.1", self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and break off what is under way."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self.connections):
            connection.leave()
        await asyncio.sleep(0)

    async def turn(self, fault: EngineFault | None, hit: float = 0.0) -> None:
        """Do this with a share of the requests from now on; `None`: serve all."""
        self.fault, self.hit = fault, hit
        if fault is EngineFault.DOWN:
            self.book.faults[fault.value] += 1
            await self.stop()
        elif self._server is None:
            await self.start()


class ScriptedConnection(asyncio.Protocol):
    """One connection of the gateway; it has one request at a time."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._script: Script | None = None
        self._next = 0
        self._slower = 1
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._id = b"", b""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._engine.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        self._transport = None
        self._engine.connections.discard(self)

    def leave(self) -> None:
        """Close the connection: at once under a request, and cleanly where none is."""
        if self._transport is None:
            return
        # A reset throws away what its receiver has not read; an answer that was given stays given.
        if self._script is None:
            self._transport.close()
        else:
            self._end()  # nothing is written, and so nothing is done, from now on
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._engine.book.mixed.append(f"no HTTP from the gateway: {error}")
            self.leave()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        url, request_id, body = self._url, self._id, b"".join(self._body)
        self._url, self._id = b"", b""
        self._body.clear()
        if url == b"/health":
            self._write(HEALTH)
        elif not body:
            self._write(whole(MODELS, b"application/json"))
        else:
            self._begin(url.decode(), request_id, body)

    def _begin(self, path: str, request_id: bytes, body: bytes) -> None:
        """Book the request, and start what is to be done with it."""
        engine, tokens = self._engine, TOKEN.findall(body)
        number = int(request_id) if request_id.isdigit() else 0
        if tokens != [request_id, request_id]:
            engine.book.mixed.append(f"head {request_id!r} with body {tokens!r}")
        engine.book.begun[number] += 1
        engine.held += 1
        fault = engine.fault if engine.random.random() < engine.hit else None
        if fault is not None:
            engine.book.faults[fault.value] += 1
        self._script = script(path, number, body, fault, engine.random)
        self._next = 0
        self._slower = SLOWER if fault is EngineFault.SLOW else 1
        self._step()

    def _step(self) -> None:
        """Write the next part of the answer, and do at its end what the script says."""
        done, transport = self._script, self._transport
        if done is None or transport is None:
            return
        if self._next < len(done.parts):
            self._write(done.parts[self._next])
            self._next += 1
        if self._next < len(done.parts):
            pause_s = self._engine.random.random() * PACE_S * self._slower
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._step)
        elif done.end == "keep":
            if done.whole:
                self._engine.book.completed[done.number] += 1
            self._end()
        elif done.end == "close":
            transport.close()
        elif done.end == "reset":
            transport.abort()

    def _end(self) -> None:
        """The request under way, if there is one, is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._script is not None:
            self._engine.held -= 1
            self._script = None

    def _write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

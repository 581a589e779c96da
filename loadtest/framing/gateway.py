"""The gateway's own reading of the corpus: its listener with an echo, and its pool of backends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.errors import GatewayError
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.request import ClientLimits, Request
from loadtest.framing.outcome import ECHO

LIMITS = ClientLimits(body_bytes=1 << 20)


def serve(client: ClientConnection, request: Request) -> None:
    """Say what was served."""
    size = len(request.body)
    client.respond(ECHO, b"%b %b %d" % (request.method, request.path.encode("latin-1"), size))
    client.finish()


@asynccontextmanager
async def echo_port() -> AsyncIterator[int]:
    """The port of a listener that answers so; the proxies' backend too."""
    listener = Listener(LIMITS, serve)
    try:
        yield await listener.listen("127.0.0.1", 0)
    finally:
        await listener.close(0)


@asynccontextmanager
async def reply_port(reply: bytes) -> AsyncIterator[int]:
    """The port of a backend that answers each connection's request with these bytes and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def pool_outcome(port: int) -> str:
    """What the gateway makes of the reply of a backend on this port: see `reply_outcome`."""
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with ConnectionPools(connect_timeout_s=2.0) as pools:
        pool = pools.pool(f"http://127.0.0.1:{port}")

        async def ask() -> None:
            try:
                head = pool.request_start("POST", "/") + b"content-length: 2\r\n\r\n"
                reply = await pool.send(head, b"{}")
                body = await reply.read()
                reply.close()
                outcome.set_result(f"{reply.status} {body.decode('latin-1')}")
            except GatewayError:
                outcome.set_result("broken")

        Fiber().start(ask())
        return await outcome

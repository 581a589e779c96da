"""Recordings through the whole gateway: passed on while they come, over real sockets."""

import asyncio
import json
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from gateway.app import App
from gateway.config.load import load

MODEL = "org/whisper"
PATH = "/v1/audio/transcriptions"
AUDIO = Random(1).randbytes(3_000_000)
OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"text":"hi"}'
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
TOO_LARGE = (
    b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 63\r\n\r\n"
    b'{"error":{"message":"too long","type":"BadRequest","code":413}}'
)
Engine = Callable[[Reader, Writer, int], Awaitable[None]]


@asynccontextmanager
async def engine(serve: Engine) -> AsyncIterator[str]:
    """The URL of an engine that leaves everything behind the head of a POST to `serve`, which is
    given the length of the body."""
    tasks: set[Any] = set()

    async def connected(reader: Reader, writer: Writer) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"get"):
                    writer.write(HEALTHY if b"/health" in head else HEALTHY.replace(b"200", b"404"))
                    continue
                length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
                await serve(reader, writer, int(length))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def gateway(*engines: Engine, pool: Any = {}, **settings: Any) -> AsyncIterator[int]:  # noqa: B006
    """The port of a gateway before these engines, of one pool."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(engine(serve)) for serve in engines]
        common = {"model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0}
        config = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"p": common | {"backends": urls} | pool},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | settings,
        }
        path = Path(stack.enter_context(TemporaryDirectory())) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(config))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield app.port


def field(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, value)


def form(*, model_first: bool = True, model: str = MODEL) -> bytes:
    parts = [field(b"model", model.encode()), field(b"file", AUDIO, b'; filename="a.wav"')]
    return b"".join(parts if model_first else parts[::-1]) + b"--b--\r\n"


def head(body: bytes) -> bytes:
    lines = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n"
    return lines.encode() + b"content-type: multipart/form-data; boundary=b\r\n\r\n"


async def answer(reader: Reader) -> tuple[int, bytes, Any]:
    """Status, head and decoded body."""
    found = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(found.partition(b"content-length: ")[2].partition(b"\r")[0])
    return int(found[9:12]), found, json.loads(await reader.readexactly(length))


async def test_a_recording_is_passed_on_while_it_comes():
    """The engine has its beginning before the client has sent its end; twice on one connection."""
    begun: asyncio.Queue[bytes] = asyncio.Queue()
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        first = await reader.readexactly(200_000)
        begun.put_nowait(first)
        seen.put_nowait(first + await reader.readexactly(length - 200_000))
        writer.write(OK)

    async with gateway(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            body = form()
            writer.write(head(body) + body[:1_000_000])
            assert await begun.get() == body[:200_000]
            assert seen.empty()
            writer.write(body[1_000_000:])
            assert await seen.get() == body
            assert (await answer(reader))[::2] == (200, {"text": "hi"})
        writer.close()


@pytest.mark.parametrize("model_first", [True, False])
async def test_the_engine_gets_its_own_name_of_the_model(model_first: bool):
    """And the length that the form then has. What names the model behind its file is held whole."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        seen.put_nowait(await reader.readexactly(length))
        writer.write(OK)

    async with gateway(serve, pool={"served_name": "w"}) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = form(model_first=model_first)
        writer.write(head(body) + body)
        assert (await answer(reader))[0] == 200
        assert await seen.get() == form(model_first=model_first, model="w")
        writer.close()


async def test_an_engine_may_answer_before_the_end():
    """Its error reaches a client that is still sending; no connection is used again."""
    closed = asyncio.Event()

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        await reader.readexactly(100_000)
        writer.write(TOO_LARGE)
        await reader.read()  # until the gateway closes
        closed.set()

    async with gateway(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = form()
        writer.write(head(body) + body[:1_000_000])
        status, found, error = await answer(reader)
        assert (status, error["error"]["message"]) == (413, "too long")
        assert b"connection: close" in found
        writer.write(body[1_000_000:])
        assert await reader.read() == b""
        await closed.wait()
        writer.close()


async def test_an_engine_that_dies_in_the_middle_is_an_error():
    """Of the gateway, as an object; the recording is not sent to another one, which has not got its
    beginning."""
    asked = []

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        asked.append(length)
        await reader.readexactly(300_000)
        raise OSError

    async with gateway(serve, serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = form()
        writer.write(head(body) + body[:1_000_000])
        status, _, error = await answer(reader)
        assert (status, len(asked)) == (502, 1)
        assert error["error"]["type"]
        writer.close()


async def test_a_client_that_leaves_in_the_middle_ends_the_request():
    """The engine sees it, and the gateway goes on."""
    ended: asyncio.Queue[int] = asyncio.Queue()

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        try:
            ended.put_nowait(len(await reader.readexactly(length)))
        except asyncio.IncompleteReadError as error:
            ended.put_nowait(len(error.partial))
            raise
        writer.write(OK)

    async with gateway(serve) as port:
        body = form()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(body) + body[:1_000_000])
        await writer.drain()
        writer.close()
        assert 0 < await ended.get() < len(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(body) + body)
        assert (await answer(reader))[0] == 200
        assert await ended.get() == len(body)
        writer.close()


async def test_what_is_no_form_is_refused_at_once():
    """Before all of it has come."""

    async def serve(reader: Reader, writer: Writer, length: int) -> None:
        raise AssertionError

    async with gateway(serve) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head(AUDIO) + b"{" * 1_000_000)
        status, found, error = await answer(reader)
        assert (status, error["error"]["type"]) == (400, "invalid_request_error")
        assert b"connection: close" in found
        writer.close()

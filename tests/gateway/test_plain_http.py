"""Requests of the control plane: one connection each, bounded, and whole or an error."""

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.plain_http import PlainHttp, PlainHttpFault

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def server(answer: bytes, requests: list[bytes], *, hold: bool = False):
    """What answers each request with these bytes, and closes then or holds the connection."""

    handlers: set[Any] = set()

    async def serve(reader, writer):
        handlers.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = [line for line in head.split(b"\r\n") if line.startswith(b"content-length")]
            body = await reader.readexactly(int(size[0].split(b":")[1])) if size else b""
            requests.append(head + body)
            writer.write(answer)
            await writer.drain()
            if hold:
                await reader.read()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await asyncio.gather(*handlers, return_exceptions=True)


async def whole(answer: bytes, most_bytes: int = 100, **more):
    """The answer to a GET, and what was asked."""
    requests: list[bytes] = []
    async with server(answer, requests, **more) as url:
        found = await PlainHttp(url).whole("GET", "/a", longest_s=5, most_bytes=most_bytes)
    return found, requests[0]


async def test_a_request_has_its_headers_and_its_body():
    """Below the path of the URL; a body has its length."""
    requests: list[bytes] = []
    async with server(OK + b"content-length: 0\r\n\r\n", requests) as url:
        http = PlainHttp(f"{url}/base/")
        await http.whole("POST", "/a?b=c", [("x-y", "z")], b"{}", longest_s=5, most_bytes=9)
        await http.whole("GET", "/", longest_s=5, most_bytes=9)
    first, second = requests
    lines = first.decode().split("\r\n")

    assert lines[0] == "POST /base/a?b=c HTTP/1.1"
    assert {"connection: close", "x-y: z", "content-length: 2", f"host: {url[7:]}"} <= set(lines)
    assert lines[-1] == "{}"
    assert b"content-length" not in second


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", 200, b"hi"),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
        (OK + b"\r\nhi", 200, b"hi"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", 200, b"hi"),
        (
            b"HTTP/1.1 103 Early Hints\r\nx: early\r\n\r\nHTTP/1.1 500 x\r\nx: late\r\n"
            b"content-length: 0\r\n\r\n",
            500,
            b"",
        ),
    ],
    ids=str,
)
async def test_an_answer_is_read_to_its_end(answer, status, body):
    """By its length, its chunks or its connection; what comes before it (1xx) is not it."""
    found, _ = await whole(answer)

    assert (found.status, found.body, found.cut) == (status, body, False)
    assert found.headers.get("x") in (None, "late")


async def test_a_long_answer_is_cut():
    """And the rest is not read, also where it never ends."""
    found, _ = await whole(OK + b"\r\n" + b"x" * 200, hold=True)

    assert (found.body, found.cut) == (b"x" * 100, True)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", OK + b"content-length: 9\r\n\r\nhi", b"SSH-2.0-x\r\n"]
)
async def test_what_breaks_off_is_an_error(answer):
    """With the URL in its line."""
    with pytest.raises(PlainHttpFault, match=r"^http://127\.0\.0\.1:\d+: "):
        await whole(answer)


async def test_what_does_not_end_is_left():
    """After its time, before the head or in the body."""
    for answer in (b"", OK + b"content-length: 9\r\n\r\nhi"):
        async with server(answer, [], hold=True) as url:
            with pytest.raises(PlainHttpFault, match="no end of the answer within 0"):
                await PlainHttp(url).whole("GET", "/", longest_s=0.05, most_bytes=9)

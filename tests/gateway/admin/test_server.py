"""What the admin port answers, and to what."""

import asyncio
from urllib.parse import urlsplit

import pytest

from gateway.admin.server import AdminServer, Answer
from gateway.errors import BadRequest


def broken() -> Answer:
    raise ZeroDivisionError


ANSWERS = {"/metrics": lambda: (200, "text/plain", b"up 1\n"), "/broken": broken}


async def ask(admin, text):
    """Everything that comes back until the port closes the connection."""
    parts = urlsplit(admin.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"{text} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.lower(), body


@pytest.mark.parametrize(
    ("text", "status", "header", "body"),
    [
        ("GET /metrics", b"200", b"content-type: text/plain", b"up 1\n"),
        ("GET /metrics?now", b"200", b"content-length: 5", b"up 1\n"),
        ("HEAD /metrics", b"200", b"content-length: 5", b""),
        ("GET /else", b"404", b"content-type: application/json", None),
        ("POST /metrics", b"405", b"allow: get", None),
        ("GET /broken", b"500", b"content-type: application/json", None),
    ],
)
async def test_a_table_of_paths(text, status, header, body):
    """Paths that are in the table, by GET; everything else is an error in JSON."""
    async with AdminServer(ANSWERS, host="127.0.0.1", port=0) as admin:
        head, said = await ask(admin, text)

    assert head.startswith(b"http/1.1 " + status)
    assert header in head
    assert said == body if body is not None else b'"error"' in said


async def test_an_action_is_a_post():
    """It may take a while; other requests are answered meanwhile, and its error is an answer."""
    go, asked = asyncio.Event(), []

    async def act() -> Answer:
        asked.append(1)
        await go.wait()
        if len(asked) > 1:
            raise BadRequest("not again")
        return 200, "text/plain", b"done"

    async with AdminServer(ANSWERS, {"/act": act}, host="127.0.0.1", port=0) as admin:
        acting = asyncio.create_task(ask(admin, "POST /act"))
        read, _ = await ask(admin, "GET /act")
        _, said = await ask(admin, "GET /metrics")
        go.set()
        _, done = await acting
        again, _ = await ask(admin, "POST /act")

    assert read.startswith(b"http/1.1 405")
    assert b"allow: post" in read
    assert said == b"up 1\n"
    assert done == b"done"
    assert again.startswith(b"http/1.1 400")


async def test_a_port_that_is_taken_is_an_error():
    """The gateway does not start without it."""
    async with AdminServer(ANSWERS, host="127.0.0.1", port=0) as first:
        with pytest.raises(OSError):  # noqa: PT011 (the words are the system's)
            await AdminServer(ANSWERS, host="127.0.0.1", port=first.port).__aenter__()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:9"), ("0.0.0.0", "http://127.0.0.1:9"), ("::1", "http://[::1]:9")],
)  # fmt: skip
def test_the_url_is_one_that_this_machine_reaches(host, url):
    """Whatever the port listens on."""
    assert AdminServer(ANSWERS, host=host, port=9).url == url

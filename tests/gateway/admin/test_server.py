"""What the admin port answers, and to what."""

import asyncio
from urllib.parse import urlsplit

import pytest

from gateway.admin.server import AdminServer, Answer
from gateway.errors import BadRequest


def broken() -> Answer:
    raise ZeroDivisionError


ANSWERS = {"/metrics": lambda: (200, "text/plain", b"up 1\n"), "/broken": broken}


async def ask(admin, text, body=b""):
    """Everything that comes back until the port closes the connection."""
    parts = urlsplit(admin.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    size = f"content-length: {len(body)}\r\n" if body else ""
    head = f"{text} HTTP/1.1\r\nhost: a\r\n{size}connection: close\r\n\r\n"
    writer.write(head.encode() + body)
    answered, _, said = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return answered.lower(), said


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

    async def act(_: bytes) -> Answer:
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


async def test_a_deletion_is_another_action_than_a_post_and_both_get_the_body():
    """By the same path; where there is none, DELETE is refused as any other method is."""

    async def begin(body: bytes) -> Answer:
        return 200, "text/plain", b"begun " + body

    async def end(body: bytes) -> Answer:
        return 200, "text/plain", b"ended " + body

    actions = {"/act": begin, "DELETE /act": end, "/other": begin}
    async with AdminServer(ANSWERS, actions, host="127.0.0.1", port=0) as admin:
        said = [(await ask(admin, text, b"x"))[1] for text in ("POST /act", "DELETE /act")]
        refused, _ = await ask(admin, "DELETE /other")

    assert said == [b"begun x", b"ended x"]
    assert refused.startswith(b"http/1.1 405")


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

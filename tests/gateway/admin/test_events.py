"""Server-sent events: made once for all pages, by nobody while none is open."""

import asyncio
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from gateway.admin.events import EventStreams
from gateway.admin.server import AdminServer
from tests.gateway.admin.asking import ask

EVERY_S = 0.01
WAIT_S = 10.0
HEAD = "GET /events HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n"


class Numbers:
    """Tells how often it was asked. size: bytes of each event besides."""

    def __init__(self, size=0):
        self.made = self.opened = 0
        self.padding = b"x" * size

    def opening(self):
        self.opened += 1
        return b"event: opening\ndata: %d\n\n" % self.opened

    def news(self):
        self.made += 1
        return b"event: news\ndata: %d%b\n\n" % (self.made, self.padding)


@asynccontextmanager
async def served(feed, **options):
    streams = EventStreams(feed, every_s=EVERY_S, **options)
    async with AdminServer({}, streams={"/events": streams}, host="127.0.0.1", port=0) as admin:
        yield admin, streams


async def opened(admin):
    parts = urlsplit(admin.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(HEAD.encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def event(reader):
    """The next event, from the chunks that it comes in."""
    async with asyncio.timeout(WAIT_S):
        size = int(await reader.readline(), 16)
        data = await reader.readexactly(size + 2)
    return data[:size].decode()


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(EVERY_S)


async def test_a_page_gets_all_at_first_and_then_what_is_new():
    """It learns the present at once, and does not wait for the next interval."""
    async with served(Numbers()) as (admin, _):
        reader, writer = await opened(admin)
        assert await event(reader) == "event: opening\ndata: 1\n\n"
        assert await event(reader) == "event: news\ndata: 1\n\n"
        assert await event(reader) == "event: news\ndata: 2\n\n"
        writer.close()


async def test_it_is_made_once_for_all_pages():
    """Ten pages read the same events."""
    feed = Numbers()
    async with served(feed) as (admin, streams):
        pages = [await opened(admin) for _ in range(10)]
        for reader, _ in pages:
            assert (await event(reader)).startswith("event: opening")
        assert streams.pages == 10
        first = [int((await event(reader)).split()[-1]) for reader, _ in pages]
        then = [int((await event(reader)).split()[-1]) for reader, _ in pages]
        assert then == [number + 1 for number in first]
        assert max(then) <= feed.made < 10 * max(then)
        for _, writer in pages:
            writer.close()


async def test_nothing_is_made_while_no_page_is_open():
    """Not before the first, and not after the last."""
    feed = Numbers()
    async with served(feed) as (admin, streams):
        assert feed.made == 0
        reader, writer = await opened(admin)
        await event(reader)
        writer.close()
        await until(lambda: streams.pages == 0 and streams._task is None)
        made = feed.made
        assert (await ask(admin, "GET /else"))[0] == 404
        assert feed.made == made

        reader, writer = await opened(admin)  # and it begins again
        await event(reader)
        await event(reader)
        writer.close()


async def test_one_page_too_many_is_told_to_come_later():
    """The limit is on all pages together; one that leaves makes room."""
    async with served(Numbers(), most=2) as (admin, streams):
        pages = [await opened(admin) for _ in range(2)]
        status, head, _ = await ask(admin, "GET /events", "accept: text/event-stream")
        assert status == 503
        assert b"retry-after: 5" in head

        pages[0][1].close()
        await until(lambda: streams.pages == 1)
        reader, writer = await opened(admin)
        assert (await event(reader)).startswith("event: opening")
        for one in (pages[1][1], writer):
            one.close()


async def test_a_page_that_does_not_read_is_left():
    """What it does not read is bounded, and others are told as before."""
    feed = Numbers(size=200_000)
    async with served(feed, slow_s=10 * EVERY_S) as (admin, streams):
        parts = urlsplit(admin.url)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((parts.hostname, parts.port))
        slow.sendall(HEAD.encode())
        await until(lambda: streams.pages == 1)
        reader, writer = await opened(admin)
        await event(reader)
        held = 0
        async with asyncio.timeout(WAIT_S):
            while streams.pages == 2:
                await event(reader)
                sent = [page.client._buffered_bytes() for page in streams._pages.values()]
                held = max(held, *sent, 0)
        assert held < 2 * 200_000
        assert (await event(reader)).startswith("event: news")
        writer.close()
        slow.close()


async def test_who_wants_no_events_does_not_wait_for_their_end():
    """A probe, or the data port that asks for another path's answer, is refused at once."""
    async with served(Numbers()) as (admin, _):
        assert (await ask(admin, "GET /events"))[0] == 400
        assert (await ask(admin, "HEAD /events", "accept: text/event-stream"))[0] == 200
        assert (await ask(admin, "POST /events", "accept: text/event-stream"))[0] == 405


class Failing(Numbers):
    """The first news cannot be told."""

    def news(self):
        told = super().news()
        if self.made == 1:
            raise ZeroDivisionError
        return told


async def test_what_cannot_be_told_is_told_later():
    """A mistake in one event ends no stream."""
    async with served(Failing()) as (admin, _):
        reader, writer = await opened(admin)
        await event(reader)
        assert await event(reader) == "event: news\ndata: 2\n\n"
        writer.close()


@pytest.mark.parametrize("how", ["close", "leave"])
async def test_streams_end_with_the_server(how):
    """Each comes to a clean end, so that a page asks again, and gets a successor."""
    async with served(Numbers()) as (admin, streams):
        reader, writer = await opened(admin)
        await event(reader)
        if how == "leave":
            admin.leave()
        else:
            streams.close()
        async with asyncio.timeout(WAIT_S):
            while (size := int(await reader.readline(), 16)) > 0:
                await reader.readexactly(size + 2)
        assert streams.pages == 0
        writer.close()

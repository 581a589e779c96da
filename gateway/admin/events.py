"""Server-sent events to the pages that are open: what there is to tell is made once for all.

While no page is open nothing is made. A page that does not read is told nothing meanwhile, and is
left after a while, so that no page holds memory. Must not know what is told.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import BadRequest, Unavailable
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import status_line
from gateway.proxy.http.request import Request

log = logging.getLogger("cuvee")

MOST_PAGES = 32
EVERY_S = 1.0  # between two events
SLOW_S = 10.0  # a page that has not read for so long is left
RETRY_S = 5.0  # after which a page that found no place may try again
TYPE = b"text/event-stream"
HEAD = b"content-type: text/event-stream\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"


class Feed(Protocol):
    """What there is to tell, as whole events."""

    def opening(self) -> bytes:
        """For a page that has just been opened: all that it must know."""

    def news(self) -> bytes:
        """For all others, once in `EVERY_S`."""


@dataclass(slots=True)
class OpenPage:
    """One page. slow_s: for how long it has not read."""

    client: ClientConnection
    slow_s: float = 0.0


class EventStreams:
    """The pages that are open. pages: how many."""

    def __init__(
        self,
        feed: Feed,
        *,
        most: int = MOST_PAGES,
        every_s: float = EVERY_S,
        slow_s: float = SLOW_S,
    ) -> None:
        """most: pages at one time. every_s: between two events. slow_s: for how long a page may
        not read."""
        self._feed = feed
        self._most, self._every_s, self._slow_s = most, every_s, slow_s
        self._pages: dict[int, OpenPage] = {}  # by the id of the connection
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<EventStreams to {len(self._pages)} pages>"

    @property
    def pages(self) -> int:
        return len(self._pages)

    def serve(self, client: ClientConnection, request: Request) -> None:
        """Begin to tell a page. Raises MethodNotAllowed, BadRequest for a client that asked for no
        events and would wait for the end of them, or Unavailable where too many are open."""
        request.require_method(b"GET")
        if TYPE not in request.fields.get(b"accept", b""):
            raise BadRequest(f"{request.path} is a stream: send `accept: text/event-stream`.")
        if request.method == b"HEAD":
            client.respond(status_line(200) + HEAD, b"")
            client.finish()
            return
        if len(self._pages) >= self._most:
            most = f"{self._most} pages are open already."
            raise Unavailable(most, retry_after_s=RETRY_S)
        client.start(status_line(200) + HEAD, self._feed.opening())
        self._pages[id(client)] = OpenPage(client)
        client.on_disconnect = lambda: self._left(client)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """End all streams: the pages will ask again, and get whoever serves then."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        pages, self._pages = self._pages, {}
        for page in pages.values():
            page.client.on_disconnect = None
            page.client.end()
            page.client.finish()

    def _left(self, client: ClientConnection) -> None:
        self._pages.pop(id(client), None)
        client.finish()

    async def _run(self) -> None:
        """Tell at intervals until the last page has left."""
        while True:
            await asyncio.sleep(self._every_s)
            if not self._pages:
                self._task = None
                return
            try:
                self._tell()
            except Exception:
                log.exception("the pages could not be told")

    def _tell(self) -> None:
        news = self._feed.news()
        opening: bytes | None = None
        for page in tuple(self._pages.values()):
            if page.client.stalled:
                page.slow_s += self._every_s
                if page.slow_s >= self._slow_s:
                    page.client.abort()
            elif page.slow_s:  # it has missed some: it begins anew
                page.slow_s = 0.0
                opening = opening or self._feed.opening()
                page.client.write(opening)
            else:
                page.client.write(news)

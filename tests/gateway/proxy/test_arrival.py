"""Large requests while they arrive: read in turns, and ended by a client that leaves."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import ClientGone
from gateway.proxy.arrival import read_in_turns
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.request import ClientLimits, Request
from gateway.routing.body import read_body
from gateway.routing.endpoints import CHAT
from gateway.routing.large_body import STEP

MESSAGE = {"role": "user", "content": "hi"}


class Reading:
    """A request that is read by a fiber; `found` is what was read, or what ended it."""

    def __init__(self, messages: int) -> None:
        self.body = json.dumps({"messages": [MESSAGE] * messages}).encode()
        self.found: list[Any] = []
        self.ended = asyncio.Event()
        limits = ClientLimits(body_bytes=1 << 30)
        self.client = ClientConnection(Listener(limits, lambda *_: None))
        self.fiber = Fiber()
        self.fiber.start(self._read())

    async def _read(self) -> None:
        request = Request(
            method=b"POST", target=b"/", headers=[], body=self.body, keep_alive=True, http11=True
        )
        try:
            self.found.append(await read_in_turns(self.client, request, CHAT, self.fiber))
        except ClientGone as gone:
            self.found.append(gone)
        self.ended.set()


async def test_others_get_their_turns_while_a_large_body_is_read():
    """One for each step."""
    reading = Reading(20 * STEP)
    turns = 0
    while not reading.ended.is_set():
        assert not reading.found
        await asyncio.sleep(0)
        turns += 1

    assert turns >= 20
    assert repr(reading.found[0]) == repr(read_body(reading.body, CHAT))


@pytest.mark.parametrize("turns", [0, 3])
async def test_a_client_that_leaves_ends_the_reading(turns):
    """In between two steps."""
    reading = Reading(20 * STEP)
    for _ in range(turns):
        await asyncio.sleep(0)
    assert reading.client.on_disconnect is not None
    reading.client.on_disconnect()

    assert isinstance(reading.found[0], ClientGone)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(reading.found) == 1


async def test_a_body_without_long_lists_is_read_at_once():
    """No turn is lost."""
    assert Reading(3).found

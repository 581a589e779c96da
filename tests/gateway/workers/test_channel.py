"""Values over a socket pair."""

import asyncio
import socket

import pytest

from gateway.workers.channel import Channel


async def test_values_arrive_whole_and_in_order():
    """Large and small ones alike; what was sent before the end is still received."""
    first, second = [await Channel.over(end) for end in socket.socketpair()]
    values = [1, "x" * 1_000_000, {"a": (1, 2)}, None]
    for value in values:
        first.send(value)
    closing = asyncio.ensure_future(first.close())
    found = [await second.receive() for _ in values]
    with pytest.raises(EOFError):
        await second.receive()
    await closing
    second.send("nobody hears this")
    await second.close()

    assert found == values

"""Messages over a socket pair."""

import asyncio
import socket

import pytest
import uvloop

from gateway.cluster.codec import CodecError
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges
from gateway.workers.channel import HEAD, Channel
from gateway.workers.messages import BackendLost, Down, Leave, Stop, Up, WorkerReport

REPORT = WorkerReport(
    numbering=0,
    leaving=False,
    delta=StatsDelta(),
    lessons=(),
    gauges=WorkerGauges(queued=0, connections=0, retry_budget=0.0, breakers_open=0),
    membership=0,
)


async def pair():
    """The supervisor's end and the worker's."""
    first, second = socket.socketpair()
    return await Channel.over(first, Up), await Channel.over(second, Down)


async def test_messages_arrive_whole_and_in_order():
    """Large and small ones alike; what was sent before the end is still received."""
    supervisor, worker = await pair()
    messages = [Leave(), BackendLost(backend="x" * 1_000_000), Stop(), BackendLost(backend="b")]
    for message in messages:
        supervisor.send(message)
    closing = asyncio.ensure_future(supervisor.close())
    received = [await worker.receive() for _ in messages]
    with pytest.raises(EOFError):
        await worker.receive()
    await closing
    worker.send(REPORT)  # there is no other end any more
    await worker.close()

    assert received == messages


def test_a_closed_channel_sends_nothing():
    """Also on the event loop that serves, which raises where asyncio's own is silent."""

    async def close_and_send() -> None:
        supervisor, worker = await pair()
        await worker.close()
        await supervisor.close()
        supervisor.send(Stop())

    uvloop.run(close_and_send())


async def test_what_is_no_message_is_told_as_such():
    """A message of the other direction, or any bytes, are an error and not a value."""
    supervisor, worker = await pair()
    supervisor.send(REPORT)
    supervisor._writer.write(HEAD.pack(2) + b"ab")
    for _ in range(2):
        with pytest.raises(CodecError):
            await worker.receive()
    await supervisor.close()
    await worker.close()

"""What an emulated engine publishes of its cache, as it is on the wire."""

import asyncio

import msgspec
import pytest

from loadtest.emulator.kv_publisher import KvPublisher

zmq = pytest.importorskip("zmq.asyncio")


async def first_batch(publisher):
    """The first batch that a subscriber hears: a subscription takes a moment to begin."""
    publisher.start("127.0.0.1")
    context = zmq.Context()
    heard = context.socket(2)  # SUB
    heard.connect(f"tcp://127.0.0.1:{publisher.port}")
    heard.subscribe(b"")
    try:
        while not await heard.poll(20):
            publisher.cleared()
        _, number, payload = await heard.recv_multipart()
    finally:
        heard.close(linger=0)
        context.destroy(linger=0)
        publisher.stop()
    return number, msgspec.msgpack.decode(payload)


async def test_a_batch_is_an_array_of_time_events_and_rank():
    """Events are maps with their type, as of vLLM 0.32, or arrays, as of older ones."""
    for arrays, event in ((False, {"type": "AllBlocksCleared"}), (True, ["AllBlocksCleared"])):
        async with asyncio.timeout(20):
            number, batch = await first_batch(KvPublisher(arrays=arrays, rank=3))

        assert len(number) == 8
        assert (batch[1:], type(batch[0])) == ([[event], 3], float)

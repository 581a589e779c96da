"""Waiting for a free backend: in order, bounded, and never past the deadline."""

import asyncio

import pytest

from gateway.errors import ClientGone, Saturated
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.queue import Queue


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def soon():
    return asyncio.get_running_loop().time() + 60


class Line:
    """A queue and who came through it, in order."""

    def __init__(self, limit=10):
        self.queue = Queue(limit=limit, timeout_s=60)
        self.served = []
        self.tasks = []

    async def join(self, name, *, again=False):
        async def wait():
            await self.queue.wait(deadline_s=soon(), again=again)
            self.served.append(name)

        self.tasks.append(asyncio.create_task(wait()))
        await settle()
        return self.tasks[-1]

    async def wake(self):
        self.queue.wake()
        await settle()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert len(self.queue) == 0


async def test_who_is_held_goes_on_when_time_is_up():
    """A hold ends with a wake or with its time, never with an error, even if the line is full."""
    queue = Queue(limit=1, timeout_s=60)
    past = asyncio.get_running_loop().time()
    holding = asyncio.create_task(queue.hold(until_s=soon(), again=False))
    await settle()

    assert not await queue.hold(until_s=soon(), again=False)
    queue.wake()
    assert await holding
    assert not await queue.hold(until_s=past, again=False)
    assert len(queue) == 0


async def test_first_come_first_served():
    """Each wake lets exactly one pass, the one that waits longest."""
    async with Line() as line:
        for name in "abc":
            await line.join(name)
        assert line.served == []
        await line.wake()
        assert line.served == ["a"]
        await line.wake()

        assert line.served == ["a", "b"]
        assert len(line.queue) == 1


async def test_one_woken_in_vain_waits_at_the_head():
    """Who was woken and found nothing keeps its turn."""
    async with Line() as line:
        await line.join("b")
        await line.join("a", again=True)
        await line.wake()

        assert line.served == ["a"]


async def test_the_queue_is_bounded():
    """One too many is refused at once, and told when to come again; a returner is not."""
    async with Line(limit=2) as line:
        await line.join("a")
        await line.join("b")

        with pytest.raises(Saturated) as refused:
            await line.queue.wait(deadline_s=soon(), again=False)

        assert (refused.value.status, refused.value.retry_after_s) == (429, 2.0)
        await line.join("c", again=True)
        await line.wake()
        assert line.served == ["c"]


async def test_the_wait_ends_at_the_deadline():
    """A deadline that has passed is a refusal, and leaves no one in line."""
    queue = Queue(limit=2, timeout_s=3)

    with pytest.raises(Saturated, match="waited 3 s"):
        await queue.wait(deadline_s=asyncio.get_running_loop().time() - 1, again=False)

    assert len(queue) == 0
    assert queue.deadline(10.0) == 13.0


async def test_one_who_leaves_is_not_waited_for():
    """A client that goes away while waiting costs nobody a turn."""
    async with Line() as line:
        gone = await line.join("gone")
        await line.join("b")
        gone.cancel()
        await settle()
        assert len(line.queue) == 1
        await line.wake()

        assert line.served == ["b"]


async def test_a_turn_given_to_one_who_leaves_passes_on():
    """Woken and cancelled in the same moment: the next in line gets the turn."""
    async with Line() as line:
        gone = await line.join("gone")
        await line.join("b")
        line.queue.wake()
        gone.cancel()
        await settle()

        assert line.served == ["b"]


async def test_a_strand_that_leaves_when_woken_passes_its_turn_on():
    """The same for requests as they run: no task, and gone before the loop can tell."""
    fiber = Fiber()
    ended: list[str] = []

    async def handler():
        try:
            await line.queue.wait(deadline_s=soon(), again=False)
        except ClientGone:
            ended.append("gone")

    async with Line() as line:
        fiber.start(handler())
        await line.join("b")
        line.queue.wake()
        fiber.cancel(ClientGone())
        await settle()

        assert (ended, line.served) == (["gone"], ["b"])


async def test_waking_nobody_is_harmless():
    """A release without a queue leaves no turn behind for later."""
    async with Line() as line:
        await line.wake()
        await line.join("a")

        assert line.served == []

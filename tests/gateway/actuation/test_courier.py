"""How orders reach an actuator."""

import asyncio

import pytest

from gateway.actuation.actuator import ActuationError, ScaleOrder
from gateway.actuation.courier import Courier


def order(backends):
    return ScaleOrder(key=f"k{backends}", pool="p", backends=backends, running=0, why="")


class Slow:
    """An actuator that accepts when it is let, or raises. brought: what it was given."""

    name = "slow"

    def __init__(self, error=None):
        self.brought, self.error = [], error
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def apply(self, given):
        self.brought.append(given.backends)
        self.begun.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error

    async def aclose(self):
        self.closed = True


class Ends:
    """What became of orders."""

    def __init__(self):
        self.all, self.changed = [], asyncio.Event()

    def done(self, given, error):
        self.all.append((given.backends, error))
        self.changed.set()

    async def number(self, count):
        async with asyncio.timeout(5):
            while len(self.all) < count:
                self.changed.clear()
                await self.changed.wait()


async def at_once(_):
    return


async def test_orders_follow_one_another_and_only_the_newest_waits():
    """While one is brought, of the next two only the last is brought after it."""
    actuator, ends = Slow(), Ends()
    courier = Courier(actuator, prepare=at_once, done=ends.done)
    courier.send(order(1))
    await actuator.begun.wait()
    courier.send(order(2))
    courier.send(order(3))
    actuator.go.set()
    await ends.number(2)

    assert actuator.brought == [1, 3]
    assert ends.all == [(1, None), (3, None)]
    assert courier.order is None


async def test_a_newer_order_takes_the_place_of_one_that_is_prepared():
    """What was to leave may serve again, so nothing is stopped."""
    actuator, ends, preparing = Slow(), Ends(), asyncio.Event()
    actuator.go.set()

    async def prepare(given):
        if given.backends == 1:
            preparing.set()
            await asyncio.Event().wait()

    courier = Courier(actuator, prepare=prepare, done=ends.done)
    courier.send(order(1))
    await preparing.wait()
    courier.send(order(4))
    await ends.number(1)

    assert actuator.brought == [4]


async def test_an_order_that_waits_can_be_dropped():
    """One that the actuator has cannot."""
    actuator, ends, preparing = Slow(), Ends(), asyncio.Event()

    async def prepare(given):
        if given.backends == 1:
            preparing.set()
            await asyncio.Event().wait()

    courier = Courier(actuator, prepare=prepare, done=ends.done)
    courier.send(order(1))
    await preparing.wait()
    dropped = courier.drop()
    courier.send(order(2))
    await actuator.begun.wait()
    late = courier.drop()
    actuator.go.set()
    await ends.number(1)

    assert (dropped, late) == (True, False)
    assert ends.all == [(2, None)]


@pytest.mark.parametrize(
    ("error", "final", "text"),
    [
        (ActuationError("no quota", final=True), True, "no quota"),
        (ValueError("oops"), False, "ValueError in slow"),
    ],
)
async def test_an_order_that_fails_is_told(error, final, text):
    """Also by a mistake in the actuator; the next order is brought all the same."""
    actuator, ends = Slow(error), Ends()
    actuator.go.set()
    courier = Courier(actuator, prepare=at_once, done=ends.done)
    courier.send(order(1))
    await ends.number(1)
    courier.send(order(2))
    await ends.number(2)
    (_, told), _ = ends.all

    assert (told.final, str(told)) == (final, text)
    assert actuator.brought == [1, 2]


async def test_closing_ends_what_is_brought():
    """And frees what the actuator holds."""
    actuator, ends = Slow(), Ends()
    courier = Courier(actuator, prepare=at_once, done=ends.done)
    courier.send(order(1))
    await actuator.begun.wait()
    await courier.aclose()

    assert actuator.closed
    assert ends.all == []

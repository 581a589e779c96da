"""Coroutines that go on inside the call that gives them their value."""

import asyncio

import pytest

from gateway.proxy.http.fiber import Fiber, Promise


class Told(Exception):
    """What the tests throw."""


class Run:
    """A fiber that notes every step of `steps`, a function of the note."""

    def __init__(self, steps):
        self.notes: list[object] = []
        self.fiber = Fiber()
        self.fiber.start(steps(self.notes.append))


def test_a_fiber_runs_to_its_first_wait_and_on_inside_resolve():
    """No loop is needed: start returns at the wait, give returns after the next one."""
    promise: Promise[int] = Promise()

    async def steps(note):
        note("began")
        note(await promise)

    run = Run(steps)
    before = list(run.notes)
    promise.resolve(7)

    assert (before, run.notes) == (["began"], ["began", 7])
    assert repr(promise) == "<Promise resolved>"


def test_a_value_given_before_it_is_awaited_is_there():
    """Nobody has to wait first."""
    promise: Promise[int] = Promise()
    promise.resolve(1)

    async def steps(note):
        note(await promise)

    assert Run(steps).notes == [1]


@pytest.mark.parametrize("early", [True, False])
def test_an_error_is_raised_where_it_is_awaited(early):
    """A failed promise raises, whether it failed before the wait or during it."""
    promise: Promise[None] = Promise()
    if early:
        promise.fail(Told())

    async def steps(note):
        try:
            await promise
        except Told:
            note("told")

    run = Run(steps)
    promise.fail(Told())

    assert run.notes == ["told"]


def test_the_first_value_counts():
    """Giving or failing again changes nothing and wakes nobody."""
    promise: Promise[int] = Promise()

    async def steps(note):
        note(await promise)

    run = Run(steps)
    promise.resolve(1)
    promise.resolve(2)
    promise.fail(Told())

    assert run.notes == [1]
    assert promise.resolved


def test_what_is_not_caught_reaches_whoever_woke_it():
    """A fiber has nobody else to tell."""
    promise: Promise[None] = Promise()

    async def steps(_):
        await promise
        raise Told

    Run(steps)
    with pytest.raises(Told):
        promise.resolve(None)


def test_cancelling_raises_at_the_wait():
    """The error is raised where the fiber waits, which may go on to wait for something else."""
    first: Promise[str] = Promise()
    second: Promise[str] = Promise()

    async def steps(note):
        try:
            await first
        except Told:
            note("told")
        note(await second)

    run = Run(steps)
    run.fiber.cancel(Told())
    first.resolve("too late")
    between = list(run.notes)
    second.resolve("then")

    assert (between, run.notes) == (["told"], ["told", "then"])


def test_cancelling_what_has_ended_is_harmless():
    """A client may leave after its answer."""

    async def steps(note):
        note("all")

    run = Run(steps)
    run.fiber.cancel(Told())

    assert run.notes == ["all"]


def test_fibers_wake_each_other_inside_one_call():
    """One may give what another waits for, and start a third, to any depth."""
    promises: list[Promise[int]] = [Promise() for _ in range(3)]

    def chained(number):
        async def steps(note):
            note(await promises[number])
            if number + 1 < len(promises):
                promises[number + 1].resolve(number + 1)

        return steps

    runs = [Run(chained(number)) for number in range(3)]
    promises[0].resolve(0)

    assert [run.notes for run in runs] == [[0], [1], [2]]


def test_a_fiber_that_wakes_itself_goes_on():
    """What it gives before it waits is there when it does."""
    promise: Promise[str] = Promise()

    async def steps(note):
        promise.resolve("own")
        note(await promise)

    assert Run(steps).notes == ["own"]


async def turns():
    """Lets callbacks run that are due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_future_may_be_awaited():
    """Its result or its error arrives by the loop."""
    loop = asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()

    async def steps(note):
        note(await good)
        try:
            await bad
        except Told:
            note("told")

    run = Run(steps)
    good.set_result(3)
    await turns()
    bad.set_exception(Told())
    await turns()

    assert run.notes == [3, "told"]


@pytest.mark.parametrize("done", [False, True])
async def test_a_future_that_was_left_takes_no_step(done):
    """Cancelled while the future is open, or done with its callback under way: once is enough."""
    future = asyncio.get_running_loop().create_future()
    promise: Promise[str] = Promise()

    async def steps(note):
        try:
            await future
        except Told:
            note("told")
        note(await promise)

    run = Run(steps)
    if done:
        future.set_result(None)
    run.fiber.cancel(Told())
    if not done:
        future.set_result(None)
    await turns()
    between = list(run.notes)
    promise.resolve("then")

    assert (between, run.notes) == (["told"], ["told", "then"])


async def test_a_task_that_was_left_is_not_cancelled_by_it():
    """Whoever started the task decides what becomes of it."""
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())

    async def steps(note):
        try:
            await task
        except Told:
            note("told")

    run = Run(steps)
    run.fiber.cancel(Told())
    gate.set()

    assert await task
    assert run.notes == ["told"]

"""Probes decide who is up."""

import asyncio

from gateway.control.health import Health
from gateway.routing.backend import Fleet


class World:
    """A fleet, what its probes will find, and how often somebody was told of a return."""

    def __init__(self):
        self.fleet = Fleet({"a": ("http://a0", "http://a1")})
        self.down = set()
        self.asked = []
        self.returns = 0
        self.rounds = asyncio.Event()
        self.health = Health(self.fleet, self.probe, changed=self.told)

    async def probe(self, url):
        self.asked.append(url)
        if len(self.asked) >= 6:
            self.rounds.set()
        if "broken" in self.down:
            raise RuntimeError("a probe of a kind nobody foresaw")
        return url not in self.down

    def told(self):
        self.returns += 1

    @property
    def up(self):
        return [b.healthy for b in self.fleet.backends]


async def test_what_answers_is_up():
    """Every backend is probed at its `/health` and marked by itself."""
    world = World()
    world.down = {"http://a1/health"}

    await world.health.look()

    assert world.up == [True, False]
    assert sorted(world.asked) == ["http://a0/health", "http://a1/health"]
    assert world.returns == 0


async def test_a_return_is_told_and_forgives():
    """A backend that comes back takes work at once, and whoever waits is told, once."""
    world = World()
    world.down = {"http://a1/health"}
    await world.health.look()
    back = world.fleet.backends[1]
    back.failed(0.0, refused=True)
    world.down = set()

    await world.health.look()
    await world.health.look()

    assert world.returns == 1
    assert back.live(0.0)


async def test_a_good_probe_alone_does_not_close_a_breaker():
    """Engines that are draining answer probes and fail requests."""
    world = World()
    world.fleet.backends[0].failed(0.0, refused=True)

    await world.health.look()

    assert not world.fleet.backends[0].live(0.0)


async def test_probing_survives_a_broken_probe():
    """An unforeseen failure costs one round, not the loop."""
    world = World()
    world.down = {"broken"}
    task = asyncio.create_task(world.health.run(0.0))
    async with asyncio.timeout(10):
        await world.rounds.wait()
        world.down, world.asked = {"http://a0/health"}, []
        world.rounds.clear()
        await world.rounds.wait()
    task.cancel()

    assert world.up == [False, True]

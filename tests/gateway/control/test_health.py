"""Probes decide who is up."""

import asyncio
import logging
from itertools import pairwise

from gateway.control.health import Health
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed


class World:
    """A fleet, what its probes will find, the rounds made and who was given up on."""

    def __init__(self):
        self.fleet = Fleet.of({"a": ("http://a0", "http://a1")})
        self.down = set()
        self.asked = []
        self.looks = 0
        self.lost = []
        self.rounds = asyncio.Event()
        self.health = Health(self.fleet, self.probe, on_probed=self.look, on_lost=self.gone)

    async def probe(self, backend):
        url = backend.url
        self.asked.append(url)
        if len(self.asked) >= 6:
            self.rounds.set()
        if "broken" in self.down:
            raise RuntimeError("a probe of a kind nobody foresaw")
        if "late" in self.down:
            return None, "this process was late"
        return (False, "/health answered 404") if url in self.down else (True, "")

    def look(self):
        self.looks += 1

    def gone(self, backend):
        self.lost.append(backend.name)

    @property
    def up(self):
        return [b.healthy for b in self.fleet.backends]


async def test_what_answers_is_up():
    """Every backend is probed and marked by itself."""
    world = World()
    world.down = {"http://a1"}

    await world.health.probe_all()

    assert world.up == [True, False]
    assert sorted(world.asked) == ["http://a0", "http://a1"]
    assert world.looks == 1


async def test_probes_begin_in_turns():
    """What else the event loop has to do is done between any two of them."""
    world = World()
    turns: list[int] = []

    async def active():
        while len(turns) < 50:
            turns.append(len(world.asked))
            await asyncio.sleep(0)

    await asyncio.gather(active(), world.health.probe_all())

    assert turns[-1] == 2
    assert {after - before for before, after in pairwise(turns)} == {0, 1}


async def test_nobody_is_blamed_for_the_gateways_own_lateness():
    """A probe that says nothing changes nothing, however often."""
    world = World()
    world.down = {"http://a1"}
    await world.health.probe_all()
    world.down = {"late"}
    for _ in range(5):
        await world.health.probe_all()

    assert world.up == [True, False]
    assert world.lost == []


async def test_a_return_forgives():
    """A backend that comes back takes work at once."""
    world = World()
    world.down = {"http://a1"}
    await world.health.probe_all()
    back = world.fleet.backends[1]
    back.breaker.failed(0.0, unreachable=True, may_open=True)
    world.down = set()

    await world.health.probe_all()
    await world.health.probe_all()

    assert back.live(0.0)


async def test_a_backend_that_stays_silent_is_given_up_on_once():
    """One missed probe is chance; three in a row are told, once until it has been back."""
    world = World()
    world.down = {"http://a1"}
    told = []
    for _ in range(5):
        await world.health.probe_all()
        told.append(list(world.lost))
    world.down = set()
    await world.health.probe_all()
    world.down = {"http://a1"}
    for _ in range(3):
        await world.health.probe_all()

    assert told == [[], [], ["a-1"], ["a-1"], ["a-1"]]
    assert world.lost == ["a-1", "a-1"]


async def test_a_good_probe_alone_does_not_close_a_breaker():
    """Engines that are draining answer probes and fail requests."""
    world = World()
    world.fleet.backends[0].breaker.failed(0.0, unreachable=True, may_open=True)

    await world.health.probe_all()

    assert not world.fleet.backends[0].live(0.0)


async def test_probing_survives_a_broken_probe():
    """An unforeseen failure costs one round, not the loop."""
    world = World()
    world.down = {"broken"}
    task = asyncio.create_task(world.health.run(lambda: 0.0))
    async with asyncio.timeout(10):
        await world.rounds.wait()
        world.down, world.asked = {"http://a0"}, []
        world.rounds.clear()
        await world.rounds.wait()
    task.cancel()

    assert world.up == [False, True]


async def test_rounds_at_the_same_time_are_no_failures_in_a_row():
    """A change of the fleet asks for a round of its own beside the regular ones."""
    fleet = Fleet.of({"a": ("http://a0",)})
    under_way, most = [0], [0]

    async def slow(_):
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0)
        under_way[0] -= 1
        return True, ""

    health = Health(fleet, slow, on_probed=lambda: None, on_lost=lambda _: None)
    await asyncio.gather(*(health.probe_all() for _ in range(3)))

    assert most == [1]


async def test_each_change_is_one_line_with_its_reason(caplog):
    """What is new is up, what was down is up again; what stays as it is says nothing."""
    caplog.set_level(logging.INFO)
    world = World()
    world.down = {"http://a1"}
    for down in ({"http://a1"}, {"http://a1"}, set(), set()):
        world.down = down
        await world.health.probe_all()
    world.fleet.apply(changed(world.fleet.membership, {"a": ("http://a1", "http://a2")}))
    await world.health.probe_all()
    first, second, third = (r.getMessage() for r in caplog.records)

    assert first == "backend a-1 (http://a1) is down: /health answered 404"
    assert second.startswith("backend a-1 (http://a1) is up again after 0.")
    assert third == "backend a-2 (http://a2) is up"

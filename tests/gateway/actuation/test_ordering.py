"""What is ordered, and what the gateway makes of what comes of it."""

import asyncio

import msgspec
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.aims import TRIES
from gateway.actuation.chronicle import Chronicle
from gateway.actuation.courier import Courier
from gateway.actuation.drains import Drains
from gateway.actuation.moving_pool import MovingPool
from gateway.actuation.ordering import Ordering
from gateway.config.scale_schema import ScaleSection
from gateway.config.scaling_schema import ScalingSection
from gateway.journal.journal import DecisionJournal
from gateway.routing.fleet import Fleet
from gateway.routing.membership import changed, draining
from planner.scaling.sleeping import Division


class Target:
    """An actuator that answers what it is told to. orders: what it was brought."""

    name = "target"

    def __init__(self):
        self.orders, self.error = [], None
        self.brought = asyncio.Event()

    async def apply(self, order):
        self.orders.append(order)
        self.brought.set()
        if self.error is not None:
            raise self.error

    async def aclose(self):
        pass


class Place:
    """One pool that is scaled, of a fleet of several."""

    def __init__(self, loaded, *, backends=2, startup_s=1000.0, **settings):
        self.pool = loaded.pools[0].name
        section = msgspec.structs.replace(
            loaded.config.pools[self.pool],
            scale=ScaleSection(prometheus=True, least=0, most=8, startup_s=startup_s),
        )
        config = msgspec.structs.replace(
            loaded.config,
            pools=loaded.config.pools | {self.pool: section},
            scaling=ScalingSection(**({"drain_s": 0.0} | settings)),
        )
        self.fleet = Fleet.of(
            dict.fromkeys(loaded.config.pools, ()) | {self.pool: self._urls(backends)}
        )
        self.journal = DecisionJournal(clock=lambda: 0.0, wall_clock=lambda: 0.0)
        self.drains, self.target = Drains(), Target()
        self.woken: list[int] = []
        self.ordering = Ordering(
            msgspec.structs.replace(loaded, config=config),
            fleet=self.fleet,
            drains=self.drains,
            chronicle=Chronicle(self.journal),
            run="run",
            wake=lambda: self.woken.append(1),
        )
        courier = Courier(self.target, prepare=self.ordering.emptied, done=self.ordering.done)
        self.moving = MovingPool(self.pool, section, courier)
        self.ordering.pools = {self.pool: self.moving}
        self.ordering.watch()

    def _urls(self, number, first=0):
        return tuple(f"http://x:{n}" for n in range(first, first + number))

    def has(self, number, first=0):
        """The pool has so many backends now, all up."""
        urls = {self.pool: self._urls(number, first)}
        self.fleet.apply(changed(self.fleet.membership, urls))
        for backend in self.fleet.backends:
            backend.probed(True)

    def settle(self):
        """The fleet follows what is drained, as the loop has it do."""
        self.fleet.apply(draining(self.fleet.membership, self.drains.wanted()))

    async def wish(self, number):
        """One look that wishes so many, until what it orders was answered."""
        self.moving.aim.wish = number
        self.ordering.watch()
        self.ordering.take_back()
        self.settle()
        self.ordering.watch()
        self.ordering.move()
        self.settle()
        async with asyncio.timeout(5):
            while self.moving.courier.order is not None:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.01)

    @property
    def ordered(self):
        return [(order.backends, order.running) for order in self.target.orders]

    @property
    def lines(self):
        return [entry.cause for entry in self.journal.entries]


async def test_a_launch_that_comes_is_learned_from_and_ordered_once(shared):
    """However often the loop looks meanwhile."""
    place = Place(shared)
    for _ in range(3):
        await place.wish(4)
    place.has(4)
    await place.wish(4)

    assert place.ordered == [(4, 2)]
    assert place.ordering.launches.pending(place.pool) == 0
    assert place.moving.times.number == 2
    assert place.moving.times.mean_s < 900.0
    assert sum("is ready" in line for line in place.lines) == 2


@pytest.mark.parametrize("final", [True, False])
async def test_what_is_refused_limits_the_gpu_type(shared, final):
    """At once if it is for good, else after a few tries, which have one key; then the loop looks
    again, and the launches are not awaited any more."""
    place = Place(shared)
    place.target.error = ActuationError("no capacity", final=final)
    for _ in range(1 if final else TRIES):
        assert place.ordering.shortages.known == ()
        await place.wish(4)
    (short,) = place.ordering.shortages.known

    assert short.stock.most == 2 * shared.pools[0].gpus
    assert place.ordering.launches.pending(place.pool) == 0
    assert place.woken == [1]
    assert len({order.key for order in place.target.orders}) == 1
    assert any("no capacity" in line and "is limited to" in line for line in place.lines)


async def test_what_hangs_is_given_up_and_is_to_leave(shared):
    """Its type is limited, the next launch may take longer, and what had come of it is stopped with
    the number that is there."""
    place = Place(shared, startup_s=0.1, timeout_factor=1.0)
    await place.wish(3)
    place.has(3)
    place.fleet.pool(place.pool)[2].probed(False)
    place.ordering.watch()
    patience = place.moving.aim.patience
    async with asyncio.timeout(5):
        while not place.ordering.shortages.known:
            await asyncio.sleep(0.01)
            place.ordering.watch()
    place.settle()
    await place.wish(2)

    assert place.moving.aim.patience == 2 * patience
    assert place.ordered == [(3, 2), (2, 3)]
    assert place.target.orders[1].leaving == ("http://x:2",)
    assert any("hang: only seen" in line for line in place.lines)


async def test_who_leaves_is_drained_before_the_order_and_told_again_with_the_next(shared):
    """The least loaded first; what was to leave earlier and is still there is among them."""
    place = Place(shared, backends=4)
    busy = place.fleet.pool(place.pool)[0]
    busy.loads[0] = 0.5
    await place.wish(3)
    first = place.target.orders[0].leaving
    drained = list(place.drains.wanted())
    await place.wish(2)

    assert first == ("http://x:1",)
    assert drained == [f"{place.pool}-1"]
    assert place.ordered == [(3, 4), (2, 4)]
    assert set(place.target.orders[1].leaving) == {"http://x:1", "http://x:2"}


async def test_what_was_to_leave_serves_again_when_it_is_needed(shared):
    """No backend is started where one is still there; the number that was ordered is corrected."""
    place = Place(shared, backends=3)
    await place.wish(2)
    await place.wish(3)

    assert place.ordered == [(2, 3), (3, 3)]
    assert place.drains.wanted() == {}
    assert place.ordering.launches.pending(place.pool) == 0
    assert any("may serve again" in line for line in place.lines)


async def test_what_could_not_be_stopped_serves_again(shared):
    """The target cannot be reached: nothing is limited, and the next look tries again."""
    place = Place(shared, backends=3)
    place.target.error = ActuationError("no route")
    await place.wish(2)
    drained = place.drains.wanted()
    place.target.error = None
    place.settle()
    await place.wish(2)

    assert drained == {}
    assert place.ordering.shortages.known == ()
    assert place.ordered == [(2, 3), (2, 3)]
    assert len({order.key for order in place.target.orders}) == 1


async def test_a_target_that_stops_another_backend_does_no_harm(shared):
    """What was drained serves again in the place of the one that went."""
    place = Place(shared, backends=3)
    await place.wish(2)
    place.fleet.apply(changed(place.fleet.membership, {place.pool: ("http://x:0", "http://x:1")}))
    await place.wish(2)

    assert place.drains.wanted() == {}
    assert place.fleet.running((place.pool,)) == (2,)
    assert place.ordered == [(2, 3)]


async def test_sleepers_that_nobody_needs_are_stopped_and_those_that_lack_are_started(shared):
    """Three of four sleep and one may: two are stopped, whichever number was ordered before. When
    six are to be there these two come back, and two are started."""
    place = Place(shared, backends=4)
    for backend in place.fleet.backends:
        backend.probed(True)
        backend.asleep = backend.name != f"{place.pool}-0"
    place.moving.aim.division = Division(awake=1, asleep=1)
    await place.wish(1)
    (order,) = place.target.orders
    place.moving.aim.division = Division(awake=1, asleep=5)
    await place.wish(5)

    assert (order.backends, len(order.leaving)) == (2, 2)
    assert any("slept long enough" in line for line in place.lines)
    assert place.target.orders[-1].backends == 6
    assert place.ordering.launches.pending(place.pool) == 2

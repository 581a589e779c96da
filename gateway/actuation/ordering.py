"""Orders what differs from what is wished, and takes note of what becomes of it.

Owns launches and shortages. Knows no demand and no plan. Times are seconds on the event loop's
clock.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.actuation.actuator import ActuationError, ScaleOrder
from gateway.actuation.aims import TRIES, Move
from gateway.actuation.chronicle import Chronicle
from gateway.actuation.drains import DrainedBackend, Drains
from gateway.actuation.launches import Launches, StartedBackend
from gateway.actuation.moving_pool import MovingPool
from gateway.actuation.naps import Naps, emptied
from gateway.actuation.presence import Presence
from gateway.actuation.shared_places import alone
from gateway.actuation.shortages import Shortages
from gateway.actuation.tally import ACCEPTED, FAILED, HUNG, READY, REFUSED, ScaleTally
from gateway.config.load import Loaded
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from planner.model.pool import Pool
from planner.scaling.sleeping import Present, steps

LINGERS_S = 600.0  # a backend that was to be stopped and still runs so long after is told of


class Ordering:
    """The orders of one gateway.

    pools: that are scaled, by name.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        fleet: Fleet,
        drains: Drains,
        chronicle: Chronicle,
        run: str,
        wake: Callable[[], None],
    ) -> None:
        """run: of this process, so that no two have orders of one key. wake: asks for a look."""
        self._loaded, self._fleet = loaded, fleet
        self.drains, self._chronicle = drains, chronicle
        self._run, self._wake = run, wake
        self._clock = asyncio.get_running_loop().time
        settings = loaded.config.scaling
        self.launches = Launches()
        self.presence = Presence(fleet, self.launches, settings.lost_s)
        self.shortages = Shortages(settings.retry_s)
        self.tally = ScaleTally()
        self.pools: dict[str, MovingPool] = {}
        self.naps = Naps(
            fleet, drains, self.launches, chronicle, wake, lambda: self._loaded.upstreams
        )

    def __repr__(self) -> str:
        return f"<Ordering of {', '.join(self.pools)}>"

    def configure(self, loaded: Loaded) -> None:
        """Use these settings from now on."""
        self._loaded = loaded
        self.presence.lost_s = loaded.config.scaling.lost_s
        self.shortages.first_s = loaded.config.scaling.retry_s
        self.launches.forget(tuple(self.pools))

    def watch(self) -> None:
        """Take note of what came, of what hangs, and of what was to leave and does not."""
        now_s, settings = self._clock(), self._loaded.config.scaling
        self.presence.look(now_s)
        self.drains.keep({backend.name for backend in self._fleet.backends})
        self.naps.settle()
        for name, pool in self.pools.items():
            aside = self.naps.lying_down(name)
            aside |= {drain.backend for drain in self.drains.all.values() if drain.pool == name}
            for started in self.launches.look(name, self.presence.sights(name), now_s, aside):
                self._came(pool, started)
            late = self.launches.overdue(name, pool.hang_s(settings.timeout_factor), now_s)
            if late:
                phases = " and ".join(sorted({launch.phase for launch in late}))
                number, waited_s = len(late), now_s - late[0].ordered_s
                self.tally.launches[name, HUNG] += number
                pool.aim.hung()
                hanging = {launch.backend for launch in late}
                self._leave(pool, [b for b in self._fleet.pool(name) if b.name in hanging], "hangs")
                self._short(pool, f"{number} in {name} hang: only {phases} after {waited_s:.0f} s")
            dozing = self.launches.overdue(
                name, pool.doze_s(settings.timeout_factor), now_s, woken=True
            )
            if dozing:
                names = [launch.backend for launch in dozing if launch.backend is not None]
                self.naps.gave_up(name, names, now_s - dozing[0].ordered_s)
                self._wake()
            self._linger(pool)

    def take_back(self) -> None:
        """Let backends serve again that were to be stopped, as far as they are wished now."""
        if self._loaded.config.scaling.dry_run:
            return
        for name, pool in self.pools.items():
            lack = (pool.aim.wish or 0) - len(self.presence.there(name))
            up = {backend.name for backend in self._fleet.backends if backend.healthy}
            able = [drain for drain in self.drains.shrinking(name) if drain.backend in up]
            for drain in able[: max(0, lack)]:
                self.drains.end(drain.backend)
                text = f"pool {name}: {drain.backend} may serve again, it is needed after all"
                self._chronicle.say(text)

    def stand_back(self) -> None:
        """Another gateway decides: nothing is wished, and orders that wait are not brought."""
        for pool in self.pools.values():
            if pool.aim.wish is not None:
                pool.courier.drop()
                pool.aim.wish = pool.aim.accepted = pool.aim.division = None

    def move(self) -> None:
        """Order what differs from what is wished."""
        settings, now_s = self._loaded.config.scaling, self._clock()
        for name, pool in self.pools.items():
            lain = [] if settings.dry_run else self._sleep(pool)
            there = [b for b in self.presence.there(name) if b not in lain]
            unseen = self.launches.unseen(name)
            move = pool.aim.move(
                len(there),
                unseen,
                most=pool.most,
                beside=self._beside(name, len(there)),
                hold_s=settings.hold_s,
                now_s=now_s,
            )
            if move is not None and settings.dry_run:
                pool.aim.idle = "a dry run orders nothing"
            elif (due := self._due(pool, move)) is not None:
                self._order(pool, due, there)
            text = f"pool {name} is to have {pool.aim.wish}, {len(there) + unseen} are there"
            idle = None if pool.aim.idle is None else f"{text}: {pool.aim.idle}"
            self._chronicle.once(name, "idle", idle, **{name: pool.aim.wish or 0})

    def _due(self, pool: MovingPool, move: Move | None) -> Move | None:
        """What is to be ordered beside the order that is under way."""
        under_way = pool.courier.order
        if under_way is None:
            return move
        if move is not None:
            same = under_way.backends == move.backends and not move.start and not move.stop
            return None if same else move
        goal = (pool.aim.wish or 0) + self._beside(pool.name, len(self.presence.there(pool.name)))
        if under_way.backends != goal and not pool.courier.drop():
            return Move(backends=goal)
        return None

    def present(self, name: str) -> Present:
        """What a pool has, awake and asleep."""
        launches = self.launches.of(name)
        waking = sum(launch.woken for launch in launches)
        return Present(
            serving=self.presence.coming(name) - len(launches),
            waking=waking,
            starting=len(launches) - waking,
            asleep=len(self.naps.sleepers(name)) + len(self.naps.lying_down(name)),
        )

    def _sleep(self, pool: MovingPool) -> list[Backend]:
        """Wake, put to sleep and stop sleepers as it is wished; those that lie down now."""
        name, aim = pool.name, pool.aim
        if aim.division is None:
            self.naps.wake(name, (aim.wish or 0) - self.presence.coming(name))
            return []
        do = steps(aim.division, self.present(name))
        self.naps.wake(name, do.wake, self._alone(name))
        starting, drain_s = self.launches.starting(name), self._loaded.config.scaling.drain_s
        able = [b for b in _by_use(self.presence.there(name)) if b.name not in starting]
        lain = self.naps.lie_down(name, able, do.rest, drain_s)
        stays = self._of(name).shared is not None  # only who is awake changes there
        stopped = [] if stays else self.naps.sleepers(name)[: do.stop]
        if stopped:
            self._leave(pool, stopped, "the pool shrinks")
            gone = ", ".join(backend.name for backend in stopped)
            self._chronicle.say(f"pool {name}: {gone} slept long enough, and is stopped")
            aim.lose()  # the number that runs is another, whether or not one was ordered before
        aim.wish = aim.division.up(self.present(name).asleep - len(stopped))
        if stays:
            aim.wish = self.presence.coming(name) - len(lain)
        return lain

    def _alone(self, name: str) -> set[str] | None:
        """Names of sleepers that can be woken, where GPUs are shared; `None`: any can."""
        group = self._of(name).shared
        if group is None:
            return None
        gpus = {pool.name: pool.gpus for pool in self._loaded.pools if pool.shared == group}
        waking = set[str]().union(*(self.launches.starting(pool) for pool in gpus))
        return alone([b for b in self._fleet.backends if b.pool in gpus], gpus, waking)

    def _beside(self, pool: str, there: int) -> int:
        """Backends of a pool that run and do not count, but for those that are to be stopped."""
        known = [member for member in self._fleet.membership.members if member.pool == pool]
        return max(0, len(known) - there - len(self.drains.shrinking(pool)))

    async def emptied(self, order: ScaleOrder) -> None:
        """Return when the backends that leave have nothing left, or when they had their time."""
        leaving = [
            backend
            for backend in self._fleet.backends
            if backend.pool == order.pool and backend.url in order.leaving
        ]
        await emptied(leaving, self._clock() + self._loaded.config.scaling.drain_s)

    def done(self, order: ScaleOrder, error: ActuationError | None) -> None:
        """An order was accepted, or not."""
        pool = self.pools.get(order.pool)
        if pool is None:
            return
        if error is None:
            self.tally.orders[pool.name, ACCEPTED] += 1
            pool.aim.took(order.backends)
            return
        self.tally.orders[pool.name, REFUSED if error.final else FAILED] += 1
        launches = self.launches.withdraw(order.key)
        for drain in self.drains.shrinking(pool.name):
            if drain.url in order.leaving:  # it is not stopped, so it may as well serve
                self.drains.end(drain.backend)
        text = f"pool {pool.name}: {order.backends} backends were not accepted: {error}"
        if not launches:
            self._chronicle.once(pool.name, "order", text, **{pool.name: order.backends})
            return
        pool.aim.failures += 1
        self._chronicle.say(text, logging.WARNING, **{pool.name: order.backends})
        if error.final or pool.aim.failures >= TRIES:
            pool.aim.failures = 0
            self._short(pool, f"{launches} in {pool.name} were not accepted: {error}")

    def _order(self, pool: MovingPool, move: Move, there: list[Backend]) -> None:
        name, backends, now_s = pool.name, move.backends, self._clock()
        leaving = _by_use(there)[: move.stop]
        self._leave(pool, leaving, "the pool shrinks")
        urls = [drain.url for drain in self.drains.shrinking(name)]  # of earlier orders too
        order = ScaleOrder(
            key=pool.aim.key(name, backends, self._run),
            pool=name,
            backends=backends,
            running=len(self._fleet.membership.urls()[name]),
            why=pool.aim.why,
            leaving=tuple(urls),
        )
        if move.start:
            self.launches.order(name, move.start, now_s, order.key)
        else:
            wish = pool.aim.wish or 0
            self.launches.call_off(name, len(there) - move.stop + self.launches.unseen(name) - wish)
        to, gone = pool.courier.actuator.name, ", ".join(b.name for b in leaving)
        text = f"pool {name}: {backends} backends are ordered of {to}, {order.running} run"
        text += f", {gone} to leave" if gone else ""
        self._chronicle.say(f"{text}: {order.why}", **{name: backends})
        waiting = pool.courier.order
        if waiting is not None and not pool.courier.bringing:
            self.launches.rename(waiting.key, order.key)
        pool.courier.send(order)

    def _leave(self, pool: MovingPool, backends: list[Backend], why: str) -> None:
        """Give these nothing more; they are to be stopped."""
        for backend in backends:
            self.drains.begin(
                DrainedBackend(
                    backend=backend.name, pool=pool.name, url=backend.url, why=why,
                    since_s=time.time(), shrinking=True,
                )
            )  # fmt: skip

    def _came(self, pool: MovingPool, started: StartedBackend) -> None:
        if started.woken:
            pool.wakes.add({}, started.whole_s)
            text = f"pool {pool.name}: {started.backend} is ready {started.whole_s:.0f} s after it"
            self._chronicle.say(f"{text} was woken")
            return
        self.tally.launches[pool.name, READY] += 1
        pool.aim.patience = 1.0
        phases = {"seen": started.seen_s, "up": started.up_s, "ready": started.ready_s}
        pool.times.add(phases, started.whole_s)
        known = [f"{phase} {s:.0f} s" for phase, s in phases.items() if s is not None]
        text = f"pool {pool.name}: {started.backend} is ready {started.whole_s:.0f} s after its"
        self._chronicle.say(f"{text} order ({', '.join(known)})")
        ended = self.shortages.came(self._of(pool.name))
        if ended is not None:
            self._chronicle.say(f"{ended.stock} can be had again: the limit of {pool.name} is gone")

    def _short(self, pool: MovingPool, why: str) -> None:
        """Launches failed: what is there of their GPU type is all that there is, until a try."""
        names = [one.name for one in self._loaded.pools]
        there = self.presence.counts(names)
        made = self.shortages.failed(
            self._of(pool.name), self._loaded.pools, there, why, self._clock()
        )
        wait_s = made.try_s - self._clock()
        text = f"{made.stock} is limited to the {made.stock.most} GPUs that are there: {why}; "
        self._chronicle.say(f"{text}one more is tried in {wait_s:.0f} s", logging.WARNING)
        self._wake()

    def _linger(self, pool: MovingPool) -> None:
        """Name what was to be stopped long ago, and was not."""
        since_s = time.time() - LINGERS_S - self._loaded.config.scaling.drain_s
        late = [d.backend for d in self.drains.shrinking(pool.name) if d.since_s < since_s]
        text = f"{', '.join(late)} were to be stopped and still run" if late else None
        self._chronicle.once(pool.name, "lingers", text)

    def _of(self, name: str) -> Pool:
        return next(pool for pool in self._loaded.pools if pool.name == name)


def _by_use(backends: list[Backend]) -> list[Backend]:
    """Those first that are missed least."""
    return sorted(backends, key=lambda b: (b.healthy, b.load, b.in_flight, b.name))

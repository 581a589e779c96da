"""The loop that makes the fleet move: looks at the demand, and decides how many backends each pool
is to have.

`needs` states the program, a forecast and a policy decide over time, `ordering` orders what
differs. Never waits for an actuator.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gateway.actuation.actuator import Actuator
from gateway.actuation.aims import clamped
from gateway.actuation.chronicle import Chronicle
from gateway.actuation.courier import Courier
from gateway.actuation.memory import SAVE_S, read_state, write_state
from gateway.actuation.moving_pool import MovingPool
from gateway.actuation.needs import shortfalls
from gateway.actuation.ordering import Ordering
from gateway.actuation.sleep_column import SleepColumn
from gateway.actuation.sufficiency import Requirement, Sufficiency
from gateway.cluster.drain_board import DrainNote
from gateway.config.load import Loaded
from gateway.planning import Planning
from gateway.telemetry.loops import Loops
from planner.errors import PlannerError
from planner.scaling.faces import CountPolicy
from planner.scaling.quantile import demand_band
from planner.scaling.short_day import DAY_S, LastingForecast
from planner.sizes import FloatArray

log = logging.getLogger("cuvee.scaling")

LOOP = "scaling"
TICK_S = 1.0  # between two looks at the backends
FORECAST_TICK_S = 60.0  # how finely a forecast of real days looks
RECENT_S = 60.0  # of arrivals that are the present demand
FIRST_S = 10.0  # of arrivals that wake a model without any backend
# Requests/s of a model that are none where none came in the last minute: a forecast cannot tell
# less than one request in a minute from nothing.
NEGLIGIBLE = 1 / 60
HELD = "they were needed a while ago, or what replaces them is not ready"


class Scaler:
    """The loop of one gateway.

    horizon_s: how far ahead the last look looked. peak_rate: requests/s that it expected at most.
    lacks: what the fleet cannot promise though it may grow, a line each.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        planning: Planning,
        ordering: Ordering,
        chronicle: Chronicle,
        forecast: Callable[[Loaded, Any], LastingForecast],
        policy: Callable[[Loaded], CountPolicy],
        awake_policy: Callable[[Loaded], CountPolicy],
        drain: Callable[[], Awaitable[None]],
        loops: Loops,
        due: asyncio.Event,
        leads: Callable[[], bool],
    ) -> None:
        """forecast, policy: make one for a configuration; a forecast with what an earlier one had
        learned, or `None`. awake_policy: of those that are awake, where some may sleep. drain: has
        the fleet follow what is drained. due: set where a look is due at once. leads: whether this
        gateway decides, of several that serve one fleet."""
        self._loaded, self._planning = loaded, planning
        self.ordering, self._chronicle = ordering, chronicle
        self._new_forecast, self._new_policy = forecast, policy
        self._learned = read_state(_state_path(loaded))
        self._forecast = forecast(loaded, self._learned.forecast)
        self._policy = policy(loaded)
        self._sufficiency = Sufficiency(planning, ordering)
        self._sleep = SleepColumn(ordering, awake_policy)
        self._drain, self._loops, self._due, self.leads = drain, loops, due, leads
        self._clock = asyncio.get_running_loop().time
        self._heard_s = self._clock()
        self._next_s = self._clock() + loaded.config.scaling.interval_s
        self._save_s = self._clock() + SAVE_S
        self._old: list[Courier] = []
        self._asked: set[str] = set()  # models without a backend that were asked for at a look
        self.lacks: tuple[str, ...] = ()
        self.horizon_s = self.peak_rate = 0.0

    def __repr__(self) -> str:
        return f"<Scaler of {self.ordering!r}>"

    def configure(
        self, loaded: Loaded, actuators: Mapping[str, Actuator], same: Collection[str] = ()
    ) -> None:
        """Scale the pools of this configuration by these actuators from now on. What was learned
        of pools that stay is kept; the forecast begins anew where the buckets are others. same:
        pools whose actuator is as before, so that an order that is under way goes on."""
        was, self._loaded, before = self._loaded, loaded, self.ordering.pools
        if loaded.buckets != was.buckets:
            self._forecast = self._new_forecast(loaded, None)
        if loaded.pools != was.pools or loaded.config.scaling != was.config.scaling:
            self._policy = self._new_policy(loaded)
            self._sleep.reset()
        kept = {name: pool for name, pool in before.items() if name in same}
        self._old += [pool.courier for name, pool in before.items() if name not in kept]
        pools = self.ordering.pools = {}
        for name, actuator in actuators.items():
            if name in kept:
                pools[name] = kept[name]
                pools[name].configure(loaded.config.pools[name])
                continue
            courier = Courier(actuator, prepare=self.ordering.emptied, done=self.ordering.done)
            section, known = loaded.config.pools[name], before.get(name)
            if known is not None:
                if known.courier.order is not None:
                    known.aim.lose()
                known.courier = courier
                known.configure(section)
            if known is None:
                known = MovingPool(name, section, courier)
                known.restore(self._learned.starts.get(name, {}))
            pools[name] = known
        self.ordering.configure(loaded)
        self._due.set()

    async def run(self) -> None:
        """Look at intervals, for ever."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(TICK_S, self._loaded.config.scaling.interval_s)):
                        await self._due.wait()
                await self._tick()
        finally:
            await self.save()
            await self.ordering.naps.aclose()
            couriers = [*self._old, *(pool.courier for pool in self.ordering.pools.values())]
            await asyncio.gather(*(courier.aclose() for courier in couriers))

    async def _tick(self) -> None:
        try:
            while self._old:
                await self._old.pop().aclose()
            self.ordering.watch()
            if self._due.is_set() or self._clock() >= self._next_s or self._awaited():
                self._due.clear()
                self._next_s = self._clock() + self._loaded.config.scaling.interval_s
                if not self.leads():
                    self.ordering.stand_back()
                elif self.ordering.pools:
                    await self.look()
            await self._drain()
            if self._clock() >= self._save_s:
                await self.save()
            self._loops.good(LOOP, time.time())
        except PlannerError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("how many backends there should be is not known")
            self._failed(type(error).__name__)

    @property
    def noted(self) -> tuple[DrainNote, ...]:
        """What was drained when the state was written last: at the start, by the gateway before."""
        return self._learned.drains

    async def save(self) -> None:
        """Write what was learned and what is drained, if there is a file for it."""
        self._save_s = self._clock() + SAVE_S
        path = _state_path(self._loaded)
        if path is not None:
            starts = {name: pool.state() for name, pool in self.ordering.pools.items()}
            # Of pools that are not there now too: they may come back.
            self._learned.starts |= starts
            self._learned.forecast = self._forecast.state()
            self._learned.drains = self.ordering.drains.asked()
            await write_state(path, self._learned)

    def _failed(self, why: str) -> None:
        log.warning("no pool gets more or fewer backends: %s", why)
        self._loops.failed(LOOP, why)

    async def look(self) -> None:
        """Decide how many backends there are to be, and order what differs."""
        loaded, ordering, unix_s = self._loaded, self.ordering, time.time()
        whole, soon = await self._ask(loaded, unix_s)
        if loaded is not self._loaded:  # another configuration is in force meanwhile
            self._due.set()
            return
        ordering.watch()  # a backend may have come meanwhile; it would count twice
        self._decide(unix_s, whole, soon)
        ordering.take_back()
        await self._drain()
        ordering.watch()
        ordering.move()

    async def _ask(self, loaded: Loaded, unix_s: float) -> tuple[Requirement, Requirement | None]:
        """What is needed until a start would be over; and until a waking would be, where some may
        sleep."""
        ask, share, now_s = self._sufficiency, loaded.config.scaling.horizon_quantile, self._clock()
        pools, rate = self.ordering.pools, self._observe(unix_s)
        started, woken = ask.until_started(loaded, now_s), ask.until_woken(loaded)
        self.horizon_s = self._horizon_s(max(p.times.quantile_s(share) for p in pools.values()))
        upper, lower = self._band(unix_s, rate, self.horizon_s)
        self.peak_rate = float(upper.sum())
        near = upper, lower
        if woken is not None:
            wake_s = max(pools[name].wakes.quantile_s(share) for name in woken.usd)
            near = self._band(unix_s, rate, self._horizon_s(wake_s))
            started = await ask.at_best_price(started, upper, near[0], now_s)
        whole = await ask.ask(started, upper, lower, now_s)
        self.lacks = tuple(shortfalls(whole.plan))
        self._chronicle.once("", "lacks", "; ".join(self.lacks) or None)
        return whole, None if woken is None else await ask.ask(woken, *near, now_s)

    def _decide(self, unix_s: float, whole: Requirement, soon: Requirement | None) -> None:
        """Wish what the policies make of what is needed. soon: until a waking would be over."""
        ordering, loaded, now_s = self.ordering, self._loaded, self._clock()
        pools, names = ordering.pools, [pool.name for pool in loaded.pools]
        have = dict(self._sufficiency.until_started(loaded, now_s).have)
        pending = [ordering.launches.pending(name) for name in names]
        ready = [have[name] - late for name, late in zip(names, pending, strict=True)]
        wanted = [whole.needed[name] if name in pools else have[name] for name in names]
        counts = self._policy.decide(
            unix_s, wanted, ready, pending, holds=whole.holding, more=whole.beside(have)
        )
        for name, wished in zip(names, counts, strict=True):
            if name in pools:
                self._wish(pools[name], wished, whole.enough(name), have[name])
        self._sleep.divide(
            loaded, soon, have, unix_s=unix_s, now_s=now_s, may_rest=self._why_not_stop() is None
        )

    def _observe(self, unix_s: float) -> FloatArray:
        """(B,) requests/s of the last minute, which the forecast learns from."""
        rate = self._planning.recent(RECENT_S)
        self._heard_s = self._clock() if rate.any() else self._heard_s
        if self._watched():
            self._forecast.observe(unix_s, rate)
        return rate

    def _watched(self) -> bool:
        """Whether arrivals have been observed for long enough to learn from them."""
        return self._planning.watched_s() >= self._loaded.config.scaling.interval_s

    def _horizon_s(self, ready_s: float) -> float:
        """How far to look ahead for what takes so long to be ready."""
        settings = self._loaded.config.scaling
        return ready_s + settings.interval_s + FORECAST_TICK_S * settings.day_s / DAY_S

    def _band(
        self, unix_s: float, rate: FloatArray, horizon_s: float
    ) -> tuple[FloatArray, FloatArray]:
        """(B,) requests/s to provide for until then, and (B,) that the present fleet must hold so
        that nothing is begun. rate: (B,) of now."""
        quantile = self._loaded.config.scaling.quantile
        band = demand_band(self._forecast, unix_s, horizon_s, quantile)
        upper, lower = (self._worth(one, rate) for one in band)
        if not self._watched():  # the forecast does not know what comes now
            upper, lower = np.maximum(upper, rate), np.maximum(lower, rate)
        return upper, lower

    def _worth(self, forecast: FloatArray, recent: FloatArray) -> FloatArray:
        """(B,) a forecast without models of which next to nothing is expected and nothing came."""
        buckets = self._loaded.buckets
        shape = len(buckets.classes), buckets.grid.cells
        rates, came = (one.reshape(shape).sum(axis=1) for one in (forecast, recent))
        models = [c.model for c in buckets.classes]
        total = dict.fromkeys(models, 0.0)
        for model, rate, seen in zip(models, rates.tolist(), came.tolist(), strict=True):
            total[model] += rate + (NEGLIGIBLE if seen else 0.0)
        keep = np.array([total[model] >= NEGLIGIBLE for model in models])
        return np.asarray(forecast * np.repeat(keep, shape[1]))

    def _wish(self, pool: MovingPool, wished: int, needed: int, coming: int) -> None:
        aim, why_not = pool.aim, self._why_not_stop()
        least, most = self._sufficiency.bounds(self._loaded, pool, coming, self._clock())
        aim.needed = needed
        aim.why = (
            f"{needed} are needed for {self.peak_rate:.3g} requests/s, the most that is expected "
            f"within {self.horizon_s:.0f} s"
        )
        aim.wish = clamped(
            wished, needed=needed, coming=coming, least=least, most=most, may_stop=why_not is None
        )
        aim.held = None
        if aim.wish > needed:
            aim.held = why_not or HELD
        text = f"pool {pool.name} is to have {aim.wish}, {needed} would do: {aim.held}"
        held = None if aim.held is None else text
        self._chronicle.once(pool.name, "held", held, **{pool.name: aim.wish})

    def _why_not_stop(self) -> str | None:
        """Why nothing may be stopped now, if that is so."""
        settings = self._loaded.config.scaling
        watched_s, silent_s = self._planning.watched_s(), self._clock() - self._heard_s
        if watched_s < settings.hold_s:
            return f"the demand was observed for {watched_s:.0f} s, which is too short"
        if RECENT_S <= silent_s < settings.silence_s:
            return f"nothing has come for {silent_s:.0f} s, which may be a fault"
        return None

    def _awaited(self) -> bool:
        """Whether requests begin to come for a model that has no backend and none ordered."""
        counts = self.ordering.presence.counts(pool.name for pool in self._loaded.pools)
        able: dict[str, int] = {}
        for pool in self._loaded.pools:
            able[pool.model] = able.get(pool.model, 0) + counts[pool.name]
        empty = {model for model, count in able.items() if not count}
        if not empty or not self.ordering.pools:
            self._asked = set()
            return False
        buckets = self._loaded.buckets
        rate = self._planning.recent(FIRST_S).reshape(len(buckets.classes), -1).sum(axis=1)
        asked = {c.model for c, own in zip(buckets.classes, rate, strict=True) if own > 0}
        before, self._asked = self._asked, asked & empty
        return bool(self._asked - before)


def _state_path(loaded: Loaded) -> Path | None:
    state = loaded.config.scaling.state
    return None if state is None else loaded.root / state

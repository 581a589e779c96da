"""Puts together what makes the fleet move, and says how it is."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from gateway.actuation.actuator import Actuator
from gateway.actuation.actuators import actuators, made_from
from gateway.actuation.chronicle import Chronicle
from gateway.actuation.drain_request import DrainRequest, meant, read_drain
from gateway.actuation.drains import DrainedBackend, Drains, how
from gateway.actuation.ordering import Ordering
from gateway.actuation.report import pool_figures, pool_metrics
from gateway.actuation.scaled_pool import ScaledPool
from gateway.actuation.scaler import Scaler
from gateway.cluster.drain_board import DrainBoard, DrainNote
from gateway.config.load import Loaded
from gateway.config.scale_schema import ScaleSection
from gateway.journal.journal import DecisionJournal
from gateway.planning import Planning
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Drained
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.scaling_metrics import ScalingFigures
from planner.errors import InvalidValue
from planner.scaling.faces import CountPolicy
from planner.scaling.forecast import SeasonalForecast
from planner.scaling.policy import Hysteresis
from planner.scaling.short_day import DAY_S, LastingForecast, ShortDays
from planner.scaling.sleeping import REST_SHARE

log = logging.getLogger("cuvee.scaling")

SMALL = 3.0  # so many times the hold must be over where only one backend or a few are too many
Actuators = Callable[[Loaded], Mapping[str, Actuator]]


class Actuation:
    """All of it, of one gateway; an async context manager that runs while it is open."""

    def __init__(
        self,
        loaded: Loaded,
        fleet: Fleet,
        planning: Planning,
        journal: DecisionJournal,
        metrics: Metrics,
        *,
        drain: Callable[[], Awaitable[None]],
        make: Actuators = actuators,
        leads: Callable[[], bool] = lambda: True,
        board: DrainBoard | None = None,
    ) -> None:
        """drain: has the fleet follow `drained`. make: the actuators of a configuration. leads:
        whether this gateway decides, of several that serve one fleet. board: by which they
        know of each other's drains."""
        self._board = board or DrainBoard()
        self._loaded, self._fleet, self._make, self._follow = loaded, fleet, make, drain
        self._origins: dict[str, tuple[ScaledPool, ScaleSection, Path]] = {}
        self._drains, due = Drains(), asyncio.Event()
        self._due = due
        self._chronicle = Chronicle(journal)
        self._ordering = Ordering(
            loaded,
            fleet=fleet,
            drains=self._drains,
            chronicle=self._chronicle,
            run=uuid4().hex[:8],
            wake=due.set,
        )
        self.scaler = Scaler(
            loaded,
            planning=planning,
            ordering=self._ordering,
            chronicle=self._chronicle,
            forecast=_forecast,
            policy=_policy,
            awake_policy=_awake_policy,
            drain=self.settle,
            loops=metrics.loops,
            due=due,
            leads=leads,
        )
        self._drains.remember(self.scaler.noted)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Actuation":
        self.configure(self._loaded)
        self._task = asyncio.get_running_loop().create_task(self.scaler.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def configure(self, loaded: Loaded) -> None:
        """Scale what this configuration says from now on."""
        self._loaded, before, self._origins = loaded, self._origins, made_from(loaded)
        same = [name for name, origin in self._origins.items() if before.get(name) == origin]
        try:
            self.scaler.configure(loaded, self._make(loaded), same)
        except Exception:  # a mistake of ours, for which no reload is to break off halfway
            log.exception("pools are scaled as before")

    @property
    def drained(self) -> dict[str, Drained]:
        """How backends are to be drained, by their names: here, or by another gateway."""
        wanted, others = self._drains.wanted(), self._others()
        for member in self._fleet.membership.members if others else ():
            if (said := others.get((member.pool, member.url))) is not None:
                wanted.setdefault(member.name, how(said[1].since_s, said[1].ends_s))
        return wanted

    def _others(self) -> dict[tuple[str, str], tuple[str, DrainNote]]:
        return self._board.others(asyncio.get_running_loop().time())

    async def settle(self) -> None:
        """Have the fleet follow what is drained, if it does not, and the other gateways know it."""
        if self._drains.awaits:
            self._resume()
        self._board.mine = self._drains.notes()
        members = self._fleet.membership.members
        present = {member.name: member.drained for member in members if member.drained}
        names = {member.name for member in members}
        if present != {name: how for name, how in self.drained.items() if name in names}:
            await self._follow()

    def _resume(self) -> None:
        """Drain on what a gateway before this one drained."""
        found = {(b.pool, b.url): b.name for b in self._fleet.backends}
        for drain in self._drains.resume(found, time.time()):
            self._chronicle.say(f"{drain.backend} ({drain.url}) is drained on: {drain.why}")

    async def begin_drain(self, body: bytes) -> dict[str, Any]:
        """Drain what the body of a request says; returns when there is a plan for the others, if
        one can be made. Raises BadRequest or NotFound."""
        request, now_s = read_drain(body), time.time()
        return await self._changed(request, now_s, lambda name, pool, url: self._drains.begin(
            DrainedBackend(
                backend=name, pool=pool, url=url, why=request.why or "POST /cuvee/drain",
                since_s=now_s,
                ends_s=None if request.seconds is None else now_s + request.seconds,
                asked=True,
            )
        ))  # fmt: skip

    async def end_drain(self, body: bytes) -> dict[str, Any]:
        """Let what the body of a request says serve again. Raises BadRequest or NotFound."""
        request = read_drain(body)
        return await self._changed(
            request, time.time(), lambda name, _pool, _url: self._drains.end(name)
        )

    async def _changed(
        self, request: DrainRequest, now_s: float, change: Callable[[str, str, str], object]
    ) -> dict[str, Any]:
        backends = meant(request, self._fleet.backends)
        for backend in backends:
            change(backend.name, backend.pool, backend.url)
        await self.settle()
        await self.scaler.save()
        self._due.set()
        drained, took_s = self.drained, time.time() - now_s
        for backend in backends:
            doing = "is drained" if backend.name in drained else "may get requests again"
            ends = "" if request.seconds is None else f", it ends in {request.seconds:g} s"
            why = f": {request.why}" if request.why else ""
            self._chronicle.say(f"{backend.name} ({backend.url}) {doing}{ends}{why}")
        return {
            "backends": [backend.name for backend in backends],
            "drained": [backend.name for backend in backends if backend.name in drained],
            "in_flight": sum(backend.in_flight for backend in backends),
            "took_s": round(took_s, 3),
        }

    def figures(self) -> dict[str, Any]:
        """As the admin port shows it."""
        scaler, ordering, now_s = self.scaler, self._ordering, asyncio.get_running_loop().time()
        in_flight = {backend.name: backend.in_flight for backend in self._fleet.backends}
        return {
            "leads": scaler.leads(),
            "dry_run": self._loaded.config.scaling.dry_run,
            "horizon_s": round(scaler.horizon_s, 1),
            "peak_requests_per_s": round(scaler.peak_rate, 4),
            "lacks": scaler.lacks,
            "limits": list(ordering.shortages.lines(now_s)),
            "pools": {n: pool_figures(p, ordering, now_s) for n, p in ordering.pools.items()},
            "drained": self._drains.figures(in_flight, time.time()),
            "drained_by_others": [
                {"pool": pool, "url": url, "why": note.why, "gateway": gateway}
                for (pool, url), (gateway, note) in self._others().items()
            ],
        }

    def states(self) -> list[ScalingFigures]:
        """As the metrics show it."""
        pools = {pool.name: pool for pool in self._loaded.pools}
        draining = [drain.pool for drain in self._drains.all.values()]
        return [
            pool_metrics(pool, self._ordering, pools.get(name), draining.count(name))
            for name, pool in self._ordering.pools.items()
        ]


def _forecast(loaded: Loaded, learned: Any) -> LastingForecast:
    """One series for each class. learned: by an earlier forecast; `None`: nothing."""
    made, day_s = _seasonal(loaded, learned), loaded.config.scaling.day_s
    return made if day_s == DAY_S else ShortDays(made, day_s)


def _seasonal(loaded: Loaded, learned: Any) -> SeasonalForecast:
    buckets = loaded.buckets
    groups = buckets.class_numbers
    if learned is not None:
        try:
            return SeasonalForecast.restored(learned, buckets.count, groups)
        except InvalidValue as error:
            log.warning("what was learned of the demand is not used: %s", error)
    return SeasonalForecast(buckets.count, groups)


def _policy(loaded: Loaded) -> CountPolicy:
    return _hysteresis(loaded, loaded.config.scaling.hold_s)


def _awake_policy(loaded: Loaded) -> CountPolicy:
    """Of those that are awake: a mistake costs a waking, not a start."""
    return _hysteresis(loaded, REST_SHARE * loaded.config.scaling.hold_s)


def _hysteresis(loaded: Loaded, hold_s: float) -> CountPolicy:
    """Pools of one model serve one load."""
    models = list(dict.fromkeys(pool.model for pool in loaded.pools))
    return Hysteresis(
        len(loaded.pools),
        groups=[models.index(pool.model) for pool in loaded.pools],
        down_s=hold_s,
        small_down_s=SMALL * hold_s,
        hold_s=hold_s,
    )

"""Plays a day: a cloud, a gateway that scales on it, and traffic that swings; then the bill.

Owns the run's clock and what happens at which hour. Prints nothing.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import yaml

from gateway.actuation.memory import LearnedState, write_state
from gateway.config.load import Loaded, load
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from loadtest.day.bill import Counts, DayDemand, LaneBill, delay_slots, spent_usd
from loadtest.day.cloud import LocalCloud
from loadtest.day.instances import EngineProcess
from loadtest.demo.gateway import LocalGateway
from loadtest.replay.record import Record
from loadtest.replay.report import met_slo
from loadtest.replay.send import ReplayOptions, replay
from planner.model.demand import Demand
from planner.program.limits import backend_price
from planner.scaling.forecast import SeasonalForecast
from planner.scaling.short_day import DAY_S
from planner.sizes import FloatArray
from planner.traffic import arrivals
from planner.traffic.trace import Trace, read_trace

HOURS = 24.0
SLOTS = 96  # quarters of an hour
MEAN_RATE, SWING = 15.0, 0.75  # requests/s; highest at noon
STOCK_OUT = (8.0, 11.0)  # hours in which one GPU type cannot be had: as traffic rises
BEFORE_DAYS = 3  # that the forecast has seen: of the same curve, each a tenth more or less
SEEN_S = 15.0  # real seconds that each rate of theirs is counted over, as the gateway does
LEAD_S = 6.0  # real seconds until the day begins: the gateway starts in them
SPOT_LOSS = 15.0  # hour at which a machine is taken away
NOTICE_S = 30.0  # of it, real seconds, as the shortest of clouds
OWN = "Cuvée"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySetting:
    """A day to play. day_s: real seconds that it takes. startup_s: median of a machine's start-up,
    real seconds."""

    path: Path
    day_s: float = 360.0
    startup_s: float = 3.0
    seed: int = 0
    log: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMoment:
    """How it is at one moment. hour: of the day. rate: requests/s, as drawn. serving: machines by
    pool. kept: share of the requests within their promise until now, `None` before the first."""

    hour: float
    rate: float
    serving: dict[str, int]
    usd_per_hour: float
    kept: float | None
    event: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayResult:
    """The whole day. refused: wishes that met an empty stock. starts, stops: of machines.
    unfinished: requests that failed, with the reason of the first."""

    requests: int
    failed: int
    why: str
    kept: float
    lanes: tuple[LaneBill, ...]
    starts: int
    stops: int
    refused: int
    decisions: int


class DayRun:
    """One day that is played."""

    def __init__(self, setting: DaySetting, on_moment: Callable[[DayMoment], None]) -> None:
        """on_moment: called at each hour, and when something happens."""
        self._setting = setting
        self._on_moment = on_moment
        self.loaded = load(setting.path)
        self._rng = np.random.default_rng(setting.seed)
        self._history = _history(self.loaded)
        self.rates = _slots(arrivals.daily(MEAN_RATE, SWING))
        self.demand = DayDemand(_mix(self._history, self.loaded), self.loaded.pools, self.rates)
        self._pools = {pool.name: pool for pool in self.loaded.pools}
        self._records: list[Record] = []
        self._counts: list[Counts] = []
        self._start_s = 0.0

    async def play(self) -> DayResult:
        """Play it. Raises LocalFleetError where gateway or engines do not start."""
        setting = self._setting
        async with AsyncExitStack() as stack:
            begins_s = time.time() + LEAD_S
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cuvee-day-")))
            engines = await stack.enter_async_context(EngineProcess())
            cloud = self._cloud = await stack.enter_async_context(
                LocalCloud(
                    engines, self._pools, startup_s=setting.startup_s, folder=folder,
                    rng=np.random.default_rng(setting.seed + 1), now=self._now,
                )
            )  # fmt: skip
            await cloud.begin(self._morning())
            state = folder / "learned.json"
            await write_state(state, LearnedState(forecast=self._learned(begins_s)))
            raw = self._raw(cloud, state)
            gateway = await stack.enter_async_context(
                LocalGateway(raw, setting.path.parent, log=setting.log)
            )
            self._admin = await stack.enter_async_context(aiohttp.ClientSession(gateway.admin_url))
            await asyncio.sleep(max(0.0, begins_s - time.time()))
            self._start_s = asyncio.get_running_loop().time()
            for machine in cloud.machines:
                machine.from_s = 0.0
            tasks = [asyncio.create_task(step) for step in (self._watch(), self._happen())]
            try:
                options = ReplayOptions(model=self.loaded.config.pools[self._some].model)
                await replay(gateway.url, self._traffic(), options, on_record=self._records.append)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            decisions = await self._decisions()
            spans = self._spans(setting.day_s)
        return self._result(spans, decisions)

    @property
    def _some(self) -> str:
        return next(iter(self._pools))

    def _now(self) -> float:
        """Real seconds since the day began."""
        if not self._start_s:
            return 0.0
        return asyncio.get_running_loop().time() - self._start_s

    def _hour(self) -> float:
        return self._now() / self._setting.day_s * HOURS

    def _morning(self) -> dict[str, int]:
        """What the first slot takes: machines that are there when the day begins."""
        return dict(
            zip(self._pools, self.demand.required(float(np.ceil(self.rates[0]))), strict=True)
        )

    def _learned(self, begins_s: float) -> Any:
        """What a forecast has learned from the days before. begins_s: of this day, Unix time."""
        pace = DAY_S / self._setting.day_s
        buckets, mix = self.loaded.buckets, self.demand.mix
        forecast = SeasonalForecast(buckets.count, buckets.class_numbers)
        curve, minutes = arrivals.daily(MEAN_RATE, SWING), int(DAY_S / 60)
        for before in range(BEFORE_DAYS, 0, -1):
            factor = 1 + 0.1 * self._rng.standard_normal()
            for minute in range(minutes):
                mean = factor * curve[minute * len(curve) // minutes] * mix
                at_s = begins_s * pace - before * DAY_S + 60 * minute
                forecast.observe(at_s, self._rng.poisson(mean * SEEN_S) / SEEN_S)
        return forecast.state()

    def _raw(self, cloud: LocalCloud, state: Path) -> dict[str, Any]:
        """The configuration, on this cloud."""
        raw: dict[str, Any] = yaml.safe_load(self._setting.path.read_text())
        raw["pools"] = {
            name: pool
            | {
                "discover": {"file": str(cloud.file)},
                "scale": pool["scale"] | {"webhook": {"url": f"{cloud.url}/{name}"}},
            }
            for name, pool in raw["pools"].items()
        }
        own = {"day_s": self._setting.day_s, "state": str(state)}
        raw["scaling"] = raw.get("scaling", {}) | own
        # What a start costs is to be won back within an hour, as by default: one of this day.
        raw["limits"] = raw.get("limits", {}) | {"horizon_h": self._setting.day_s / DAY_S}
        return raw

    def _traffic(self) -> Trace:
        """The requests of the day."""
        day_s, rng = self._setting.day_s, self._rng
        count = int(self.rates.mean() * day_s * 1.2)
        times = arrivals.modulated(arrivals.daily(MEAN_RATE, SWING), day_s, count, rng)
        return arrivals.resample(self._history, times[times < day_s], rng)

    async def _watch(self) -> None:
        """Note what serves in each slot, and tell each hour."""
        for slot in range(SLOTS):
            middle_s = (slot + 0.5) / SLOTS * self._setting.day_s
            await asyncio.sleep(max(0.0, middle_s - self._now()))
            serving = self._cloud.serving()
            self._counts.append(tuple(serving[name] for name in self._pools))
            if slot % 4 == 0:
                self._tell("")

    async def _happen(self) -> None:
        """The stock-out, and the machine that is taken away."""
        begins, ends = STOCK_OUT
        await self._until(begins)
        gpu = self._risen()
        self._cloud.out_of_stock.add(gpu)
        self._tell(f"no {gpu} can be had")
        await self._until(ends)
        self._cloud.out_of_stock.discard(gpu)
        self._tell(f"{gpu} can be had again")
        await self._until(SPOT_LOSS)
        serving = self._cloud.serving()
        pool = max(serving, key=lambda name: serving[name])
        url = await self._cloud.lose(pool, NOTICE_S)
        self._tell(f"a machine of {pool} is taken away in {NOTICE_S:g} s")
        if url is not None:
            notice = {"url": url, "seconds": NOTICE_S}
            with suppress(aiohttp.ClientError):
                async with self._admin.post("/cuvee/drain", json=notice) as reply:
                    await reply.read()

    def _risen(self) -> str:
        """The GPU type of which the day's peak takes most more than there is now."""
        peak = self.demand.required(float(np.ceil(self.rates.max())))
        serving = self._cloud.serving()
        more = {name: count - serving[name] for name, count in zip(self._pools, peak, strict=True)}
        return self._pools[max(more, key=lambda name: more[name])].gpu

    async def _until(self, hour: float) -> None:
        await asyncio.sleep(max(0.0, hour / HOURS * self._setting.day_s - self._now()))

    def _tell(self, event: str) -> None:
        serving = self._cloud.serving()
        slot = min(SLOTS - 1, int(self._hour() / HOURS * SLOTS))
        self._on_moment(
            DayMoment(
                hour=self._hour(),
                rate=float(self.rates[slot]),
                serving=serving,
                usd_per_hour=self.demand.usd_per_hour(list(serving.values())),
                kept=self._kept(),
                event=event,
            )
        )

    def _kept(self) -> float | None:
        slo = self.loaded.buckets.classes[0].slo
        met = [met_slo(record, slo) for record in self._records]
        return sum(met) / len(met) if met else None

    async def _decisions(self) -> int:
        """Lines of the gateway's journal that are no looks."""
        async with self._admin.get("/cuvee/history") as reply:
            entries = (await reply.json())["entries"]
        return sum(entry["kind"] != "looks" for entry in entries)

    def _spans(self, end_s: float) -> list[tuple[str, float, float]]:
        return [
            (one.pool, one.from_s, min(end_s, end_s if one.until_s is None else one.until_s))
            for one in self._cloud.machines
        ]

    def _result(self, spans: Sequence[tuple[str, float, float]], decisions: int) -> DayResult:
        setting, day = self._setting, self.demand
        prices = {name: backend_price(pool) for name, pool in self._pools.items()}
        spent = spent_usd(spans, prices, HOURS / setting.day_s)
        delay = delay_slots(setting.startup_s, setting.day_s / SLOTS)
        lanes = [
            day.own(OWN, spent, self._counts),
            day.clairvoyant("clairvoyant", HOURS),
            day.naive("naive loop", HOURS, delay),
            *(day.single(HOURS) or ()),
        ]
        failed = [record for record in self._records if record.error]
        return DayResult(
            requests=len(self._records),
            failed=len(failed),
            why=failed[0].error or "" if failed else "",
            kept=self._kept() or 0.0,
            lanes=tuple(lanes),
            starts=sum(from_s > 0.0 for _, from_s, _ in spans),
            stops=sum(one.until_s is not None for one in self._cloud.machines),
            refused=self._cloud.refused,
            decisions=decisions,
        )


def _history(loaded: Loaded) -> Trace:
    assert loaded.workload is not None
    return read_trace(loaded.workload)


def _mix(history: Trace, loaded: Loaded) -> Demand:
    return demand_of(history, loaded, estimator=Estimator())


def _slots(rates: FloatArray) -> FloatArray:
    """(SLOTS,) the mean rate of each slot."""
    return np.asarray(rates.reshape(SLOTS, -1).mean(axis=1))

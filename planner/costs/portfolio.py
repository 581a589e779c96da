"""What to buy: how many GPUs of each type to commit to, and what to rent by the hour for the rest.

Every hour of a demand history gets the plans that could serve it; `market` weighs them against each
other. Knows demands, pools and prices; nothing of how a fleet is started or a contract is made.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.costs.market import PENNY, SPOT_SHARE, Market, Offer, search
from planner.costs.single_types import single_types
from planner.errors import InvalidFile, InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import FloatArray, IntArray
from planner.traffic.trace import parse_number, parse_rows

HOUR_S = 3600.0
LEVELS = 48  # rates that fleets are planned for, in even steps up to the highest
SPAN = 1000.0  # below this part of the highest rate an hour is as good as any other quiet one
COLUMNS = ("t_s", "requests_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioLine:
    """One GPU type in a portfolio: GPUs committed, GPU-hours rented, and dollars for all hours."""

    gpu: str
    committed: int
    committed_usd: float
    on_demand_hours: int
    on_demand_usd: float
    spot_hours: int
    spot_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What to commit to and what all hours cost, in dollars over the history.

    on_demand_usd: the same hours without commitments or spot. single, single_usd: the GPU type that
    is cheapest alone, with commitments and spot of its own; single_on_demand_usd: the cheapest type
    alone without them; `None` if no type can serve alone. peak_rate: requests/s of the busiest
    hour. unserved_share: of the requests of that hour, what no fleet can serve within its SLO.
    """

    hours: int
    peak_rate: float
    lines: tuple[PortfolioLine, ...]
    usd: float
    on_demand_usd: float
    single: str | None
    single_usd: float | None
    single_on_demand_usd: float | None
    unserved_share: float = 0.0

    @property
    def saving(self) -> float:
        """Against renting everything by the hour."""
        return 1 - self.usd / self.on_demand_usd if self.on_demand_usd else 0.0

    @property
    def single_saving(self) -> float | None:
        """Against the best single type, bought as well."""
        return None if not self.single_usd else 1 - self.usd / self.single_usd


def buy(
    demand: Demand,
    pools: tuple[Pool, ...],
    rates: FloatArray,
    *,
    discount: float,
    spot: Mapping[str, float] | None = None,
    spot_share: float = SPOT_SHARE,
) -> Portfolio:
    """The portfolio for (H,) hourly rates in requests/s of a demand's mix of sizes.

    discount: what a commitment takes off the on-demand price. spot: $ per GPU-hour by GPU type.
    Pools of spot backends are left out and nothing counts as reserved: both are the answer here.
    Raises InvalidValue for rates, discounts or prices that make no sense.
    """
    if not 0 <= discount <= 1 or not 0 <= spot_share <= 1:
        raise InvalidValue(f"discount and spot share must be in [0, 1]: {discount}, {spot_share}")
    if demand.total_rate == 0:
        raise InvalidValue("no demand to scale: its rate is zero")
    pools = tuple(replace(pool, reserved=0) for pool in pools if pool.spot is None)
    offers = _offers(pools, discount, spot or {})
    tops, hours = _levels(rates)
    asked = [replace(demand, rate=demand.rate * (rate / demand.total_rate)) for rate in tops]
    plans = [provision(level, pools) for level in asked]
    alone = [single_types(level, pools) for level in asked]
    mix = _gpus(plans, pools, offers)
    singles = {
        gpu: _gpus([found[gpu] for found in alone], pools, offers)
        for gpu in alone[0]
        if not any(found[gpu].unserved for found in alone)
    }
    order = np.arange(len(tops))
    market = Market(
        offers=offers,
        hours=hours,
        fleets=np.concatenate([mix, *singles.values()]),
        level=np.tile(order, 1 + len(singles)),
        spot_share=spot_share,
    )
    own = {gpu: replace(market, fleets=fleets, level=order) for gpu, fleets in singles.items()}
    return _portfolio(market, own, float(rates.max()), _missing(plans[0]))


def hourly(t_s: FloatArray, rate: FloatArray) -> FloatArray:
    """(H,) the highest rate of every hour; an hour without a reading has the last one before it."""
    hour = ((t_s - t_s[0]) // HOUR_S).astype(np.int64)
    highest = np.full(int(hour[-1]) + 1, -np.inf)
    np.maximum.at(highest, hour, rate)
    last = np.searchsorted(hour, np.arange(len(highest)), side="right") - 1
    return np.where(np.isfinite(highest), highest, rate[last])


def read_history(path: Path) -> FloatArray:
    """The hourly rates of a CSV with the columns `t_s,requests_per_s`; others are not looked at.

    Raises InvalidFile, `path:line: …`, for the first thing that is wrong.
    """
    rows = parse_rows(path, _rows, empty="no rates")
    return hourly(*np.array(rows, dtype=float).T)


def _rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    reader = csv.DictReader(lines, restval="")
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidValue(f"the header lacks {', '.join(missing)}")
        before_s = -float("inf")
        for row in reader:
            t_s, rate = (parse_number(name, row[name]) for name in COLUMNS)
            if t_s <= before_s:
                raise InvalidValue(f"t_s {row['t_s']} is not after the line above")
            before_s = t_s
            yield t_s, rate
    except (InvalidValue, csv.Error) as error:
        raise InvalidFile(f"{path}:{max(reader.line_num, 1)}: {error}") from error


def _levels(rates: FloatArray) -> tuple[list[float], IntArray]:
    """At most `LEVELS` rates, descending, and how many hours each stands for; then the idle ones.

    Every hour is rounded up, to the highest rate within a step, so its fleet is never too small.
    """
    if not len(rates) or not np.all(np.isfinite(rates)) or rates.min() < 0 or rates.max() == 0:
        raise InvalidValue("hourly rates must be finite, not negative, and some of them positive")
    top = float(rates.max())
    busy = np.maximum(rates[rates > 0], top / SPAN)
    place = np.minimum(((top - busy) / top * LEVELS).astype(np.int64), LEVELS - 1)
    highest = np.zeros(LEVELS)
    np.maximum.at(highest, place, busy)
    found, hours = np.unique(place, return_counts=True)
    levels = highest[found].tolist()
    idle = len(rates) - len(busy)
    if idle:
        levels, hours = [*levels, 0.0], np.append(hours, idle)
    return levels, hours.astype(np.int64)


def _types(pools: tuple[Pool, ...]) -> tuple[list[str], list[float]]:
    """Every pool's kind of GPU and its $/h: the GPU's name, or the pool's where prices differ."""
    names = [pool.gpu for pool in pools]
    usd = [pool.usd_per_hour / pool.gpus for pool in pools]
    first: dict[str, float] = {}
    kinds = [
        name if abs(first.setdefault(name, price) - price) <= PENNY else pool.name
        for name, price, pool in zip(names, usd, pools, strict=True)
    ]
    return kinds, usd


def _offers(
    pools: tuple[Pool, ...], discount: float, spot: Mapping[str, float]
) -> tuple[Offer, ...]:
    kinds, usd = _types(pools)
    prices = dict(zip(kinds, usd, strict=True))
    unknown = sorted(set(spot) - set(prices))
    if unknown:
        raise InvalidValue(
            f"spot price of {unknown[0]}: no pool has it; known: {', '.join(prices)}"
        )
    return tuple(
        Offer(
            gpu=gpu,
            usd_per_hour=price,
            committed_usd_per_hour=price * (1 - discount),
            spot_usd_per_hour=spot.get(gpu),
        )
        for gpu, price in prices.items()
    )


def _gpus(plans: list[Plan], pools: tuple[Pool, ...], offers: tuple[Offer, ...]) -> IntArray:
    """(L, G) GPUs by type of every plan."""
    place = {offer.gpu: g for g, offer in enumerate(offers)}
    column = {pool.name: place[kind] for pool, kind in zip(pools, _types(pools)[0], strict=True)}
    gpus = {pool.name: pool.gpus for pool in pools}
    table = np.zeros((len(plans), len(offers)), dtype=np.int64)
    for row, plan in enumerate(plans):
        for name, count in zip(plan.pools, plan.backends, strict=True):
            table[row, column[name]] += count * gpus[name]
    return table


def _missing(plan: Plan) -> float:
    total = sum(plan.rate)
    return sum(unserved.rate for unserved in plan.unserved) / total if total else 0.0


def _portfolio(market: Market, own: Mapping[str, Market], peak: float, missing: float) -> Portfolio:
    committed = search(market)
    alone = {gpu: single.usd(search(single)) for gpu, single in own.items()}
    rented = [_on_demand(single) for single in own.values()]
    best = min(alone, key=lambda gpu: alone[gpu], default=None)
    return Portfolio(
        hours=int(market.hours.sum()),
        peak_rate=peak,
        lines=_lines(market, committed),
        usd=market.usd(committed),
        on_demand_usd=_on_demand(market),
        single=best,
        single_usd=alone[best] if best else None,
        single_on_demand_usd=min(rented, default=None),
        unserved_share=missing,
    )


def _on_demand(market: Market) -> float:
    plain = replace(market, spot_share=0.0)
    return plain.usd(np.zeros(len(market.offers), dtype=np.int64))


def _lines(market: Market, committed: IntArray) -> tuple[PortfolioLine, ...]:
    fleet, _ = market.chosen(committed)
    spot = market.spot(committed)[fleet].T @ market.hours
    rest = np.maximum(market.fleets[fleet] - committed, 0).T @ market.hours
    total = int(market.hours.sum())
    return tuple(
        PortfolioLine(
            gpu=offer.gpu,
            committed=int(count),
            committed_usd=float(count) * offer.committed_usd_per_hour * total,
            on_demand_hours=int(all_ - cheap),
            on_demand_usd=float(all_ - cheap) * offer.usd_per_hour,
            spot_hours=int(cheap),
            spot_usd=float(cheap) * (offer.spot_usd_per_hour or 0.0),
        )
        for offer, count, all_, cheap in zip(market.offers, committed, rest, spot, strict=True)
    )

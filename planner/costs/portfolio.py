"""What to buy: how many GPUs of each type to commit to, and what to rent by the hour beside them.

Every hour of a demand history gets the plans that could serve it; `market` chooses among them. Must
not know how a plan is found, how a fleet is started, or how a contract is made.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.costs.market import PENNY, SPOT_SHARE, Market, Offer, best_commitments
from planner.costs.single_types import single_types
from planner.errors import InvalidFile, InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import FloatArray, IntArray
from planner.traffic.trace import MOST_RATE, YEAR_S, parse_number, parse_rows

HOUR_S = 3600.0
# Rates that fleets are planned for, in even steps up to the highest. An hour is rounded up by a
# 48th of the highest rate at most; a year of hours would otherwise be thousands of plans.
LEVELS = 48
SPAN = 1000.0  # hours below the highest rate ÷ this all count as the same quiet hour
COLUMNS = ("t_s", "requests_per_s")
LONGEST_HISTORY_S = 20 * YEAR_S  # every hour of a history has its place in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioLine:
    """One GPU type in a portfolio: GPUs committed, GPU-hours rented, and dollars of each kind.

    Dollars are for all hours of the history.
    """

    gpu: str
    committed: int
    committed_usd: float
    on_demand_hours: int
    on_demand_usd: float
    spot_hours: int
    spot_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What to commit to, and the cost of all hours, in dollars over the history.

    on_demand_usd: the same hours without commitments or spot. single, single_usd: the GPU type that
    is cheapest alone, with commitments and spot of its own. single_on_demand_usd: the cheapest type
    alone without them. All three `None` if no type can serve alone. peak_rate: requests/s of the
    busiest hour. unserved_share: the share of its requests that no fleet can serve within its SLO.
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
        """The share saved against renting everything by the hour."""
        return 1 - self.usd / self.on_demand_usd if self.on_demand_usd else 0.0

    @property
    def single_saving(self) -> float | None:
        """The share saved against the best single type with commitments of its own."""
        return None if not self.single_usd else 1 - self.usd / self.single_usd


def buy_portfolio(
    demand: Demand,
    pools: tuple[Pool, ...],
    rates: FloatArray,
    *,
    discount: float,
    spot: Mapping[str, float] | None = None,
    spot_share: float = SPOT_SHARE,
) -> Portfolio:
    """The portfolio for (H,) hourly rates (requests/s) of a demand's mix of sizes.

    discount: the share that a commitment takes off the on-demand price. spot: $ per GPU-hour by GPU
    type. spot_share: the part of each type in a fleet that may be spot. Spot pools are left out and
    no backend counts as reserved, because both are what is to be found here.
    Raises InvalidValue for rates, discounts or prices outside their domain.
    """
    if not 0 <= discount <= 1 or not 0 <= spot_share <= 1:
        raise InvalidValue(f"discount and spot share must be in [0, 1]: {discount}, {spot_share}")
    if demand.total_rate == 0:
        raise InvalidValue("no demand to scale: its rate is zero")
    pools = tuple(replace(pool, reserved=0) for pool in pools if pool.spot is None)
    offers = _offers(pools, discount, spot or {})
    tops, hours = _levels(rates)
    levels = [replace(demand, rate=demand.rate * (rate / demand.total_rate)) for rate in tops]
    plans = [provision(level, pools) for level in levels]
    alone = [single_types(level, pools) for level in levels]
    mix = _gpus(plans, pools, offers)
    # Only types that can serve every level: the portfolio of one type must not cost less because it
    # serves less.
    singles = {
        gpu: _gpus([plan_of[gpu] for plan_of in alone], pools, offers)
        for gpu in alone[0]
        if not any(plan_of[gpu].unserved for plan_of in alone)
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
    return _portfolio(market, own, float(rates.max()), plans[0].unserved_share)


def hourly_rates(t_s: FloatArray, rate: FloatArray) -> FloatArray:
    """(H,) the highest of (N,) rates in every hour.

    An hour without a reading has the last reading before it.
    """
    hour = ((t_s - t_s[0]) // HOUR_S).astype(np.int64)
    highest = np.full(int(hour[-1]) + 1, -np.inf)
    np.maximum.at(highest, hour, rate)
    last = np.searchsorted(hour, np.arange(len(highest)), side="right") - 1
    return np.where(np.isfinite(highest), highest, rate[last])


def read_hourly_rates(path: Path) -> FloatArray:
    """(H,) the hourly rates of a CSV file with the columns `t_s,requests_per_s`.

    Other columns are ignored. Raises InvalidFile, `path:line: …`, for the first thing that is
    wrong.
    """
    rows = parse_rows(path, _rows, empty="no rates")
    return hourly_rates(*np.array(rows, dtype=float).T)


def _rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    reader = csv.DictReader(lines, restval="")
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidValue(f"the header lacks {', '.join(missing)}")
        before_s, first_s = -float("inf"), None
        for row in reader:
            t_s, rate = (parse_number(name, row[name]) for name in COLUMNS)
            if t_s <= before_s:
                raise InvalidValue(f"t_s {row['t_s']} is not after the line above")
            before_s = t_s
            first_s = t_s if first_s is None else first_s
            if t_s - first_s > LONGEST_HISTORY_S:
                years = (t_s - first_s) / YEAR_S
                raise InvalidValue(f"t_s {row['t_s']} is {years:.3g} years after the first line")
            if rate > MOST_RATE:
                text = f"requests_per_s {row['requests_per_s']} is more than any fleet serves"
                raise InvalidValue(text)
            yield t_s, rate
    except (InvalidValue, csv.Error) as error:
        raise InvalidFile(f"{path}:{max(reader.line_num, 1)}: {error}") from error


def _levels(rates: FloatArray) -> tuple[list[float], IntArray]:
    """At most `LEVELS` rates, descending, and the number of hours of each; idle hours come last.

    Every hour is rounded up to the highest rate within its step, so its fleet is never too small.
    """
    if not len(rates) or not np.all(np.isfinite(rates)) or rates.min() < 0 or rates.max() == 0:
        raise InvalidValue("hourly rates must be finite, not negative, and some of them positive")
    top = float(rates.max())
    busy = np.maximum(rates[rates > 0], top / SPAN)
    place = np.minimum(((top - busy) / top * LEVELS).astype(np.int64), LEVELS - 1)
    highest = np.zeros(LEVELS)
    np.maximum.at(highest, place, busy)
    used, hours = np.unique(place, return_counts=True)
    levels = highest[used].tolist()
    idle = len(rates) - len(busy)
    if idle:  # min_backends run, and cost, in idle hours too
        levels, hours = [*levels, 0.0], np.append(hours, idle)
    return levels, hours.astype(np.int64)


def _types(pools: tuple[Pool, ...]) -> tuple[list[str], list[float]]:
    """The type that each pool's GPUs are bought as, and their $ per GPU-hour.

    It is the GPU's name. A pool whose price differs from the first pool's of that GPU, say because
    it is in another zone, has a type of its own, with the pool's name.
    """
    usd = [pool.usd_per_hour / pool.gpus for pool in pools]
    first: dict[str, float] = {}
    types = [
        pool.gpu if abs(first.setdefault(pool.gpu, price) - price) <= PENNY else pool.name
        for price, pool in zip(usd, pools, strict=True)
    ]
    return types, usd


def _offers(
    pools: tuple[Pool, ...], discount: float, spot: Mapping[str, float]
) -> tuple[Offer, ...]:
    types, usd = _types(pools)
    prices = dict(zip(types, usd, strict=True))
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
    types, _ = _types(pools)
    column = {pool.name: place[gpu] for pool, gpu in zip(pools, types, strict=True)}
    gpus = {pool.name: pool.gpus for pool in pools}
    table = np.zeros((len(plans), len(offers)), dtype=np.int64)
    for row, plan in enumerate(plans):
        for name, count in zip(plan.pools, plan.backends, strict=True):
            table[row, column[name]] += count * gpus[name]
    return table


def _portfolio(
    market: Market, own: Mapping[str, Market], peak: float, unserved_share: float
) -> Portfolio:
    """The portfolio of a market; own: the market of each GPU type that can serve alone."""
    committed = best_commitments(market)
    alone = {gpu: single.usd(best_commitments(single)) for gpu, single in own.items()}
    rented = [_on_demand_usd(single) for single in own.values()]
    best = min(alone, key=lambda gpu: alone[gpu], default=None)
    return Portfolio(
        hours=int(market.hours.sum()),
        peak_rate=peak,
        lines=_lines(market, committed),
        usd=market.usd(committed),
        on_demand_usd=_on_demand_usd(market),
        single=best,
        single_usd=alone[best] if best else None,
        single_on_demand_usd=min(rented, default=None),
        unserved_share=unserved_share,
    )


def _on_demand_usd(market: Market) -> float:
    """Dollars for all hours without commitments or spot."""
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
            on_demand_hours=int(rented - by_spot),
            on_demand_usd=float(rented - by_spot) * offer.usd_per_hour,
            spot_hours=int(by_spot),
            spot_usd=float(by_spot) * (offer.spot_usd_per_hour or 0.0),
        )
        for offer, count, rented, by_spot in zip(market.offers, committed, rest, spot, strict=True)
    )

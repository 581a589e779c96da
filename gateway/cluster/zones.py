"""Lets gateways prefer the pools of their own zone, inside the shares of the plan. Pure.

All gateways together send each pool what the plan says. Each sends its own zone's pools as much as
these may have of its zone's traffic; what is left goes where other zones leave room.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gateway.cluster.load_frame import NOWHERE, zone_key
from gateway.cluster.views import Views
from gateway.routing.table import RoutingTable, compile_table
from planner.model.plan import Plan
from planner.model.pool import Pool

MOVED = 0.05  # of all traffic, between zones, before the shares are others
LEAST_RATE = 0.1  # requests/s of all gateways, below which shares of traffic are chance


def zoned(
    weights: Sequence[float], zones: Sequence[bytes], zone: bytes, traffic: Mapping[bytes, float]
) -> tuple[float, ...]:
    """(P,) shares of one bucket at a gateway of this zone.

    weights: (P,) shares of the plan, of sum 1 or 0. zones: (P,) of the pools. traffic: shares of
    the zones, of sum 1. A zone of share t whose pools have share w of the plan keeps min(t, w), so
    what all zones lack is what all others leave: each pool gets its weight in all.
    """
    rooms: dict[bytes, float] = {}
    for weight, where in zip(weights, zones, strict=True):
        rooms[where] = rooms.get(where, 0.0) + weight
    mine, room = traffic.get(zone, 0.0), rooms.get(zone, 0.0)
    if zone == NOWHERE or mine <= 0.0:
        return tuple(weights)
    kept = min(1.0, room / mine)
    left = {
        where: max(0.0, own - (traffic.get(where, 0.0) if where != NOWHERE else 0.0))
        for where, own in rooms.items()
    }
    if zone in left and kept < 1.0:
        left[zone] = 0.0
    whole = sum(left.values())

    def share(weight: float, where: bytes) -> float:
        own = weight / rooms[where] if rooms[where] else 0.0
        away = (1.0 - kept) * left[where] / whole if whole else 0.0
        return own * ((kept if where == zone else 0.0) + away)

    return tuple(share(weight, where) for weight, where in zip(weights, zones, strict=True))


class ZonePreference:
    """The table of a gateway in a zone."""

    def __init__(self, zone: str | None, views: Views) -> None:
        self._zone = zone_key(zone)
        self._views = views
        self._traffic: dict[bytes, float] = {}
        self._table: RoutingTable | None = None

    def __repr__(self) -> str:
        return f"<ZonePreference of {len(self._traffic)} zones>"

    def table(
        self,
        plan: Plan,
        pools: Callable[[], Sequence[Pool]],
        table: RoutingTable,
        now_s: float,
    ) -> RoutingTable | None:
        """The table to put in place of the one in force; `None` if that is right. plan: in
        force. pools: returns the planner's."""
        if self._zone == NOWHERE or plan.plan_id != table.plan_id:
            return None
        traffic = self._shares(now_s)
        if traffic is None:
            return None
        before = self._traffic
        moved = sum(abs(traffic.get(z, 0.0) - before.get(z, 0.0)) for z in {*traffic, *before}) / 2
        if table is self._table and moved < MOVED:
            return None
        self._traffic = traffic
        present = pools()
        zones = [zone_key(pool.zone) for pool in present]
        weights = tuple(zoned(row, zones, self._zone, traffic) for row in plan.weights)
        self._table = compile_table(replace(plan, weights=weights), present)
        return self._table

    def _shares(self, now_s: float) -> dict[bytes, float] | None:
        """Of the traffic, by zone; `None` where there is too little. What gateways without a zone
        get is as that of all others."""
        rates = {self._zone: self._views.rate}
        for frame in self._views.fresh(now_s):
            if frame.zone != NOWHERE:
                rates[frame.zone] = rates.get(frame.zone, 0.0) + max(0.0, frame.rate)
        whole = sum(rates.values())
        if not LEAST_RATE <= whole < 1e12:
            return None
        return {where: rate / whole for where, rate in rates.items()}

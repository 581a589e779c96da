"""The race: what other fleets make of the demo's own requests, played in virtual time. Pure.

Owns the two lanes beside the gateway's: the best fleet of one GPU type behind the same router, and
round robin over the fleet of the gateway's own plan. Both change their fleet when the gateway
changes its plan, to what is known of the demand at that moment. Must not know processes, consoles
or the clock.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.play import rehearse
from gateway.routing.estimator import Estimator
from loadtest.compare.policies import SimulationCase, simulate_policy
from loadtest.replay.record import Record
from loadtest.replay.report import met_slo
from planner.program import solve
from planner.proof.simulate import SimulationResult
from planner.slo import Slo
from planner.traffic.trace import Trace

CUVEE, SINGLE, ROUND_ROBIN = "Cuvée", "one GPU type", "round robin"
# A fleet that takes over has been at work for so long: an idle one would flatter the lane.
WARM_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetInForce:
    """A fleet and since when a lane has it.

    from_s: seconds since the start. backends: by pool, without pools that have none. gpu: of a
    fleet of one GPU type. certified: whether it was played for the demand, and holds.
    """

    from_s: float
    backends: Mapping[str, int]
    usd_per_hour: float
    gpu: str | None = None
    certified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRequest:
    """What became of one request in a lane; arrival and end in seconds since the start."""

    arrival_s: float
    ended_s: float
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One of those that race.

    fleets: in order of time. requests: in order of arrival. played: whether in virtual time.
    """

    name: str
    fleets: tuple[FleetInForce, ...]
    requests: tuple[LaneRequest, ...]
    played: bool

    def kept(self, until_s: float = inf, since_s: float = -inf) -> float | None:
        """The share within the SLO, of the requests that arrived since and have ended until then;
        `None` without any."""
        met = [r.met for r in self.requests if r.ended_s <= until_s and r.arrival_s >= since_s]
        return sum(met) / len(met) if met else None

    def fleet(self, at_s: float) -> FleetInForce | None:
        """The fleet at a moment; `None` before the first."""
        number = bisect_right([fleet.from_s for fleet in self.fleets], at_s)
        return self.fleets[number - 1] if number else None

    def spent_usd(self, until_s: float) -> float:
        """What the lane's fleets have cost from the start until a moment."""
        ends = [*(fleet.from_s for fleet in self.fleets[1:]), inf]
        return sum(
            max(0.0, min(end_s, until_s) - fleet.from_s) / 3600 * fleet.usd_per_hour
            for fleet, end_s in zip(self.fleets, ends, strict=True)
        )


def gateway_lane(records: Sequence[Record], fleets: Sequence[FleetInForce], slo: Slo) -> Lane:
    """The lane of the gateway itself, from what its clients saw."""
    requests = [
        LaneRequest(arrival_s=r.arrival_s, ended_s=r.sent_s + r.e2e_s, met=met_slo(r, slo))
        for r in sorted(records, key=lambda record: record.arrival_s)
    ]
    return Lane(name=CUVEE, fleets=tuple(fleets), requests=tuple(requests), played=False)


def fleet_of(body: Mapping[str, Any], from_s: float) -> FleetInForce:
    """The fleet of a plan. body: the answer of `/cuvee/plan`."""
    certificate = body["certificate"]
    return FleetInForce(
        from_s=from_s,
        backends={name: n for name, n in body["backends"].items() if n},
        usd_per_hour=body["usd_per_hour"],
        certified=certificate is not None and certificate["holds"],
    )


def best_single(body: Mapping[str, Any], from_s: float) -> FleetInForce | None:
    """The cheapest fleet of one GPU type for a plan's demand: of those that were certified, and
    without any of those that the program says; `None` if no type can serve all requests."""
    singles = {g: s for g, s in body["single_types"].items() if s["feasible"] and s["backends"]}
    chosen = {g: s for g, s in singles.items() if s["certified"]} or singles
    if not chosen:
        return None
    gpu = min(chosen, key=lambda name: chosen[name]["usd_per_hour"])
    return FleetInForce(
        from_s=from_s,
        backends={name: n for name, n in chosen[gpu]["backends"].items() if n},
        usd_per_hour=chosen[gpu]["usd_per_hour"],
        gpu=gpu,
        certified=chosen[gpu]["certified"],
    )


_Play = Callable[[Trace, FleetInForce, Loaded], SimulationResult]


class Race:
    """The two lanes that are played, as far as the plans are known.

    Each new plan plays the rest of the requests again, on the fleets of that plan.
    """

    def __init__(self, loaded: Loaded, trace: Trace) -> None:
        self._loaded = loaded
        self._trace = trace
        self.single = Lane(name=SINGLE, fleets=(), requests=(), played=True)
        self.round_robin = Lane(name=ROUND_ROBIN, fleets=(), requests=(), played=True)

    def on_plan(self, body: Mapping[str, Any], at_s: float) -> None:
        """Change the fleets of both lanes, and play the requests that arrive from then on. With no
        fleet of one type that can serve all, that lane keeps what it has."""
        single, mix = best_single(body, at_s), fleet_of(body, at_s)
        if single is not None:
            self.single = _turned(self.single, single, self._played(single, _routed))
        self.round_robin = _turned(self.round_robin, mix, self._played(mix, _dealt))

    def _played(self, fleet: FleetInForce, play: _Play) -> tuple[LaneRequest, ...]:
        """The requests that arrive after a fleet has come."""
        begin_s = max(0.0, fleet.from_s - WARM_S)
        rest = self._trace.slice(begin_s, inf)
        if not len(rest):
            return ()
        result = play(rest, fleet, self._loaded)
        met = result.met(self._loaded.buckets.classes[0].slo)
        steps = np.maximum(rest.output_tokens - 1, 0)
        ends = rest.arrival_s + np.nan_to_num(result.ttft_s) + steps * np.nan_to_num(result.tpot_s)
        rows = zip(rest.arrival_s.tolist(), ends.tolist(), met.tolist(), strict=True)
        return tuple(
            LaneRequest(arrival_s=begin_s + arrival_s, ended_s=begin_s + end_s, met=good)
            for arrival_s, end_s, good in rows
            if begin_s + arrival_s >= fleet.from_s
        )


def _turned(lane: Lane, fleet: FleetInForce, later: tuple[LaneRequest, ...]) -> Lane:
    """A lane with another fleet from a moment on; what arrived before stays as it was."""
    before = tuple(r for r in lane.requests if r.arrival_s < fleet.from_s)
    return replace(lane, fleets=(*lane.fleets, fleet), requests=before + later)


def _routed(trace: Trace, fleet: FleetInForce, loaded: Loaded) -> SimulationResult:
    """Play requests through the gateway's own router onto a fleet."""
    slo_class = loaded.buckets.classes[0]
    source = TraceSource(trace=trace, model=slo_class.model, slo_class=slo_class.name)
    demand = demand_together([source], loaded, estimator=Estimator())
    counts = tuple(fleet.backends.get(pool.name, 0) for pool in loaded.pools)
    plan = solve.assign(demand, loaded.pools, counts)
    return rehearse(trace, plan, loaded.pools).result


def _dealt(trace: Trace, fleet: FleetInForce, loaded: Loaded) -> SimulationResult:
    """Deal requests to the backends of a fleet, one after the other."""
    engines = tuple(
        pool.profile for pool in loaded.pools for _ in range(fleet.backends.get(pool.name, 0))
    )
    slo = loaded.buckets.classes[0].slo
    return simulate_policy("round-robin", SimulationCase(trace=trace, engines=engines, slo=slo), 0)

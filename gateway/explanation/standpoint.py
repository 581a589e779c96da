"""All that a router decides by at one moment, and the request that is asked about. Values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.llm_request import LlmRequest
from gateway.routing.pressure import PROMPT
from gateway.routing.table import RoutingTable
from planner.model.plan import Plan
from planner.model.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standpoint:
    """What is in force and how everything is.

    fleet: a copy, on which may be reserved. pools: of the planner, (P,) in the order of the plan.
    states: of each backend and the reason, by name. queued: requests that wait. now_s: on the
    clock of the fleet.
    """

    plan: Plan
    table: RoutingTable
    fleet: Fleet
    pools: Sequence[Pool]
    states: Mapping[str, tuple[str, str]]
    queued: int
    now_s: float

    def at_turn(self, bucket: int, pool: int) -> RoutingTable:
        """The table as it is when it is the turn of this pool."""
        slices = list(self.table.slices)
        slices[bucket] = ((pool, 1.0),)
        return replace(self.table, slices=tuple(slices))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRequest:
    """A request that is asked about, as the router believes it to be.

    promised: whether a latency is promised to it. exclude: names of backends that cannot have it.
    """

    request: LlmRequest
    estimate: Estimate
    caller: str
    bucket: int
    promised: bool
    exclude: Collection[str] = ()

    def slack_s(self, table: RoutingTable) -> float:
        """Seconds of prefill, its own and what waits before it, that its promise leaves now."""
        if not self.promised:
            return inf
        return PROMPT * table.allowed_s[self.bucket // table.buckets.grid.cells]

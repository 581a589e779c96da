"""What a plan would change of the fleet that a configuration has, and whether that fleet holds.

Knows no command. The fleet that there is, is judged by a rehearsal, as a plan is before it is put
in force: the planner's formula keeps more headroom than a certified fleet has.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.certify import sealed
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import Limits, fleet_bill
from planner.program.request import PlanRequest
from planner.proof.refine import MISFIT, OVERLOADED, peak

COUNTED = 1e-9  # requests/s or $/h below which two figures are the same


class FleetVerdict(IntEnum):
    """What follows for the fleet that there is; the number is the exit code of `plan --diff`."""

    HOLDS = 0
    CHANGES = 1
    UNSERVED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDiff:
    """The fleet that there is beside the plan.

    present: its plan, with a certificate where there is traffic to play. pools, plan: as planned.
    usd_per_hour: what the present fleet costs. min_saving: the share of its cost that a plan must
    save to replace a fleet that holds.
    """

    present: Plan
    plan: Plan
    pools: tuple[Pool, ...]
    usd_per_hour: float
    min_saving: float

    @property
    def holds(self) -> bool:
        """Whether the present fleet is certified for the demand."""
        certificate = self.present.certificate
        return certificate is not None and certificate.holds

    @property
    def steps(self) -> tuple[tuple[str, int, int], ...]:
        """For each pool its name, the backends that there are, and those of the plan."""
        return tuple(zip(self.plan.pools, self.present.backends, self.plan.backends, strict=True))

    @property
    def saving(self) -> float | None:
        """What the plan saves of the present cost; `None` where only one of the two serves all."""
        if not self.holds or self.plan.unserved or not self.usd_per_hour:
            return None
        return 1 - self.plan.usd_per_hour / self.usd_per_hour

    @property
    def verdict(self) -> FleetVerdict:
        """As the gateway decides: a fleet that holds stays, unless a plan that serves all is
        cheaper by `min_saving`. The plan's own fleet stays, too."""
        if self.holds or (self.plan.backends == self.present.backends and not self.plan.unserved):
            saves = self.saving is not None and self.saving >= max(self.min_saving, COUNTED)
            return FleetVerdict.CHANGES if saves else FleetVerdict.HOLDS
        return FleetVerdict.UNSERVED if self.plan.unserved else FleetVerdict.CHANGES


def present_fleet(loaded: Loaded) -> tuple[int, ...]:
    """The number of backends of each pool of a configuration."""
    return tuple(len(loaded.config.pools[pool.name].backends) for pool in loaded.pools)


def limits_of_change(loaded: Loaded) -> Limits:
    """The limits of a plan that is to replace the fleet that there is: changes have their cost."""
    return replace(loaded.limits, running=present_fleet(loaded))


def compare_fleet(plan: Plan, demand: Demand, loaded: Loaded) -> FleetDiff:
    """Rehearse the fleet of a configuration and put it beside a plan for the same demand.

    It is played on engines and demand as believed, since the plan was made for these. A fleet
    without any backend, or with a load far above what it takes, is not played: it holds nothing.
    """
    counts, pools = present_fleet(loaded), loaded.pools
    present = solve.assign(demand, pools, counts)
    if any(counts) and present.unserved_share <= MISFIT and peak(present) <= OVERLOADED:
        request = PlanRequest(objective="assign", demand=demand, pools=pools, running=counts)
        present, _ = sealed(request, present, margin=0.0)
    return FleetDiff(
        present=present,
        plan=plan,
        pools=pools,
        usd_per_hour=fleet_bill(pools, np.array(counts, dtype=float)),
        min_saving=loaded.config.planner.min_saving,
    )

"""Tells all who must know which plan is in force: log, journal, metrics, admin port, the other
gateways of a cluster, and routes of others that follow it. Makes no plan.
"""

import logging
import time

from gateway.actuation.weights import RouteWeights
from gateway.alliance import Alliance
from gateway.insight import Insight
from gateway.journal.journal import DecisionJournal
from gateway.solitary import Solitary
from gateway.telemetry.metrics import Metrics
from planner.model.plan import Plan

log = logging.getLogger("cuvee")


class Announcement:
    """Of the plans of one gateway."""

    def __init__(
        self,
        *,
        insight: Insight,
        journal: DecisionJournal,
        metrics: Metrics,
        alliance: Alliance | Solitary,
        weights: RouteWeights,
    ) -> None:
        self._insight = insight
        self._journal = journal
        self._metrics = metrics
        self._alliance = alliance
        self._weights = weights

    def first(self, plan: Plan) -> None:
        """The plan that the gateway begins with."""
        self._metrics.planned(plan, time.time())
        self._weights.planned(plan)

    def planned(self, plan: Plan, reason: str) -> None:
        """Another plan is in force."""
        self._insight.reason = reason
        self._alliance.planned(reason)
        self._journal.planned(plan, reason)
        self._metrics.planned(plan, time.time())
        self._weights.planned(plan)
        backends = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True))
        log.info(
            "plan %s in force: %s, $%.2f/h (%s)", plan.plan_id, backends, plan.usd_per_hour, reason
        )

    def moved(self, plan: Plan) -> None:
        """Another plan is in force, because the fleet is another one."""
        self.planned(plan, "there are other backends")

    def certified(self, plan: Plan) -> None:
        """The plan in force has its certificate."""
        self._journal.certified(plan)
        self._alliance.sealed()

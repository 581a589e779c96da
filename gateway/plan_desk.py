"""Plans that are asked for: what would be planned now, and to put that in force.

What is put in force is what was shown, and only while plan and fleet are those that it was shown
beside: an index names the three.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from gateway.control.replan import Proposal, Replanner
from gateway.errors import BadRequest, Conflict, GatewayError
from gateway.planning import Planning
from gateway.routing.fleet import Fleet
from planner.errors import PlannerError
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures

KEPT = 8  # plans that were shown and can be applied
LONGEST_WHY = 200  # characters of a reason
NOTHING_TO_TELL = "too few requests came to tell: the plan in force stays"
DIGITS = 8


class Application(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for. index: as a diff told it. why: for the journal."""

    index: str
    why: str = ""


class Shown(NamedTuple):
    """A proposal that was shown. fleet: digest of the fleet that it was made for. by: what made
    it, which another configuration replaces."""

    proposal: Proposal
    fleet: str
    by: Replanner


class PlanDesk:
    """The proposals of one gateway."""

    def __init__(self, *, planning: Planning, fleet: Fleet, leads: Callable[[], bool]) -> None:
        """leads: whether this gateway plans for its cluster."""
        self._planning, self._fleet, self._leads = planning, fleet, leads
        self._clock = asyncio.get_running_loop().time
        self._shown: OrderedDict[str, Shown] = OrderedDict()

    def __repr__(self) -> str:
        return f"<PlanDesk, {len(self._shown)} shown>"

    async def propose(self) -> dict[str, Any]:
        """The plan that would be made now beside the one in force. Changes nothing. Raises
        Conflict at a gateway that does not plan."""
        self._check_lead()
        by, fleet = self._planning.replanner, self.fleet_digest()
        try:
            proposal = await by.propose(self._clock())
        except PlannerError as error:
            raise GatewayError(f"no plan could be made: {error}") from error
        if proposal is None:
            told = plan_figures(self._planning.plan)
            return {"index": None, "why": NOTHING_TO_TELL, "in_force": told, "proposed": None}
        index = _index(proposal.before, fleet, proposal.plan)
        self._shown[index] = Shown(proposal, fleet, by)
        while len(self._shown) > KEPT:
            self._shown.popitem(last=False)
        compared = proposal.comparison
        return {
            "index": index,
            "why": _words(proposal),
            "in_force": plan_figures(proposal.before),
            "proposed": plan_figures(proposal.plan),
            "holds": compared.holds,
            "saving": compared.saving,
        }

    async def apply(self, text: bytes) -> dict[str, Any]:
        """Put a plan in force that was shown. text: an `Application` as JSON. Raises BadRequest,
        and Conflict, changing nothing, where plan or fleet are others than it was shown beside."""
        asked = _read(text)
        self._check_lead()
        parts = asked.index.split(".")
        if len(parts) != 3:
            raise BadRequest(f"`{asked.index}` is no index of a diff: PLAN.FLEET.PLAN")
        in_force, fleet = self._planning.plan.plan_id, self.fleet_digest()
        if parts[0] != in_force:
            raise Conflict(
                f"the plan has moved: the diff was against plan {parts[0]}, and plan {in_force} is "
                "in force; look at the diff again"
            )
        if parts[1] != fleet:
            raise Conflict(
                "the fleet has moved: backends came, left, were drained, went down or came up "
                "since the diff was made; look at the diff again"
            )
        shown = self._shown.get(asked.index)
        if shown is None or shown.by is not self._planning.replanner:
            raise Conflict(
                f"the plan of {asked.index} is not known any more: the configuration is another "
                f"one, or {KEPT} later diffs were made; look at the diff again"
            )
        reason = f"applied by hand{f': {asked.why}' if asked.why else ''}"
        await shown.by.take(shown.proposal, reason)
        plan = shown.proposal.plan
        return {"status": "in force", "plan_id": plan.plan_id, "before": in_force, "why": reason}

    def fleet_digest(self) -> str:
        """Eight digits that are others when a backend came or left, is drained or not any more, or
        when other numbers of backends can be planned with."""
        members = sorted((m.pool, m.url, m.drained) for m in self._fleet.membership.members)
        told = msgspec.json.encode([members, self._planning.ready])
        return hashlib.sha256(told).hexdigest()[:DIGITS]

    def _check_lead(self) -> None:
        if not self._leads():
            raise Conflict("another gateway of the cluster plans: ask that one")


def _index(before: Plan, fleet: str, proposed: Plan) -> str:
    return f"{before.plan_id}.{fleet}.{proposed.plan_id}"


def _words(proposal: Proposal) -> str:
    """What the gateway thinks of the plan in force beside the proposed one."""
    compared, saving = proposal.comparison, proposal.comparison.saving
    if proposal.plan.plan_id == proposal.before.plan_id:
        return "the plan in force is the best one"
    better = "less loaded" if proposal.request.objective == "assign" else "cheaper"
    gain = f"the proposed plan is {saving:.1%} {better}" if saving > 0 else "it is not bettered"
    if not compared.holds:
        peak = f"its fullest pool is at {compared.peak:.2f} of what it keeps"
        if compared.peak == float("inf"):
            peak = "it has no backend for some of the sizes that came"
        return f"the plan in force does not hold the demand of now: {peak}"
    return f"the plan in force holds the demand of now; {gain}"


def _read(text: bytes) -> Application:
    try:
        asked = msgspec.json.decode(text, type=Application)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is no application of a plan: {error}") from error
    return msgspec.structs.replace(asked, why=" ".join(asked.why.split())[:LONGEST_WHY])

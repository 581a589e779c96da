"""What the router would do with a request at this moment, and why. Pure: nothing is reserved.

The decision is made by the real router, on a copy of the fleet, once for each pool whose turn it
may be.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from gateway.errors import Unavailable
from gateway.explanation.candidates import PoolRanking
from gateway.explanation.standpoint import AskedRequest, Standpoint
from gateway.overview.requests_view import DECISIONS
from gateway.routing.class_names import LEFT_OVER
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.router import Router

SECONDS_DIGITS = 4


def asked(
    request: LlmRequest, estimate: Estimate, at: Standpoint, *, caller: str = ""
) -> AskedRequest:
    """The request as the router believes it. Raises ModelNotFound or ClassNotFound."""
    router = Router(at.table, at.fleet)
    bucket = router.bucket(estimate)
    return AskedRequest(
        request=request,
        estimate=estimate,
        caller=caller,
        bucket=bucket,
        promised=router.promised(estimate, bucket),
        exclude=at.fleet.lacking.get(request.model or "", frozenset()),
    )


def explained(one: AskedRequest, at: Standpoint, *, notes: Sequence[str] = ()) -> dict[str, Any]:
    """All of it, as plain values for JSON. Takes some ten milliseconds; nothing outside the copy
    of the fleet changes, and that is as it was afterwards."""
    turns = _turns(one, at)
    chosen = {turn["backend"] for turn in turns if turn["backend"] is not None}
    return {
        "plan": at.plan.plan_id,
        "request": _request(one),
        "believed": _believed(one, at),
        "promise": _promise(one, at),
        "turns": turns,
        "pools": PoolRanking(at, one, chosen).rows(),
        "queued": at.queued,
        "notes": list(notes),
    }


def _request(one: AskedRequest) -> dict[str, Any]:
    request, estimate = one.request, one.estimate
    return {
        "endpoint": request.endpoint.name,
        "model": estimate.model,
        "slo_class": estimate.slo_class,
        "stream": request.stream,
        "prompt_bytes": request.prompt_bytes,
        "max_tokens": request.max_tokens,
        "sequences": estimate.width,
        "caller": one.caller,
    }


def _believed(one: AskedRequest, at: Standpoint) -> dict[str, Any]:
    estimate = one.estimate
    return {
        "input_tokens": estimate.input_tokens,
        "output_tokens": estimate.output_tokens,
        "output_p90": estimate.output_p90,
        "bucket": one.bucket,
        "what": at.table.buckets.describe(one.bucket),
        "planned_rate": at.plan.rate[one.bucket],
    }


def _promise(one: AskedRequest, at: Standpoint) -> dict[str, Any] | None:
    """`None` for a request without one."""
    if one.estimate.slo_class == LEFT_OVER:
        return None
    slo, slack_s = at.table.buckets.class_of(one.bucket).slo, one.slack_s(at.table)
    return {
        "ttft_s": slo.ttft_s,
        "tpot_s": slo.tpot_s,
        "attainment": slo.attainment,
        "kept": one.promised,
        "slack_s": round(slack_s, SECONDS_DIGITS) if isfinite(slack_s) else None,
    }


def _turns(one: AskedRequest, at: Standpoint) -> list[dict[str, Any]]:
    """For each pool whose turn it may be, with the plan's share: what is decided then."""
    slices = at.table.slices[one.bucket]
    if not one.promised or not slices:
        return [_turn(one, at, Router(at.table, at.fleet), None, 1.0)]
    return [
        _turn(one, at, Router(at.at_turn(one.bucket, pool), at.fleet), at.table.pools[pool], share)
        for pool, share in sorted(slices, key=lambda piece: -piece[1])
    ]


def _turn(
    one: AskedRequest, at: Standpoint, router: Router, turn: str | None, share: float
) -> dict[str, Any]:
    made = {
        "turn": turn, "share": share, "pool": None, "backend": None, "decision": None, "why": "",
    }  # fmt: skip
    try:
        lease = router.route(
            one.estimate, bucket=one.bucket, now_s=at.now_s, exclude=one.exclude,
            slack_s=one.slack_s(at.table), promised=one.promised,
        )  # fmt: skip
    except Unavailable:
        return made | {"decision": "unavailable", "why": "no backend that can serve it is up"}
    if lease is None:
        return made | {"decision": "wait", "why": _waits(one, at)}
    lease.release()
    backend, decision = lease.backend, lease.decision
    why = DECISIONS.get(decision, "")
    if decision == LEFT_OVER and one.estimate.slo_class != LEFT_OVER:
        why = "no pool keeps the promise for such a request: it is served without one"
    return made | {
        "pool": backend.pool, "backend": backend.name, "decision": decision, "why": why,
    }  # fmt: skip


def _waits(one: AskedRequest, at: Standpoint) -> str:
    if not one.promised:
        return "it waits for its turn, after the requests with a promise"
    allowed_s = at.table.allowed_s[one.bucket // at.table.buckets.grid.cells]
    return f"no backend has room: it waits for its turn, {allowed_s:.2f} s at most, or is refused"

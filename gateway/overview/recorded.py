"""A request that was served: what was estimated beside what came. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.overview.requests_view import SeenAt, request_row
from gateway.telemetry.seen_request import SeenRequest
from planner.model.plan import Plan

SMALL = 1e-3


def recorded_view(seen: SeenAt, plan: Plan) -> dict[str, Any]:
    """The request with its receipt explained, and pairs of estimates and facts. plan: in force
    now."""
    return request_row(seen, plan) | {
        "recorded": True,
        "promise": None
        if seen.promise is None
        else {"ttft_s": seen.promise.ttft_s, "tpot_s": seen.promise.tpot_s},
        "bucket": seen.what,
        "plan_id": seen.request.plan_id,
        "compared": compared(seen, plan),
    }


def compared(seen: SeenAt, plan: Plan) -> list[dict[str, Any]]:
    """What was believed or promised of a request, and what came of it; `None`: not known."""
    one = seen.request
    rows = [
        _tokens("input tokens", one.estimated_input, one.input_tokens, one),
        _tokens("output tokens", one.estimated_output, one.output_tokens, one),
    ]
    if seen.promise is not None and one.slo_class != "best-effort":
        rows += [
            _row("TTFT, s", seen.promise.ttft_s, _short(one.ttft_s)),
            _row("TPOT, s", seen.promise.tpot_s, _short(one.tpot_s)),
        ]
    rows.append(_row("pool", _planned(one, plan), one.pool))
    return rows


def _row(what: str, expected: Any, actual: Any) -> dict[str, Any]:
    numbers = isinstance(expected, int | float) and isinstance(actual, int | float)
    ratio = round(actual / expected, 3) if numbers and expected > SMALL else None
    return {"what": what, "expected": expected, "actual": actual, "ratio": ratio}


def _tokens(what: str, expected: int, actual: int | None, one: SeenRequest) -> dict[str, Any]:
    """Estimates are of one sequence, and reports of all: they compare where there is one."""
    if one.width == 1:
        return _row(what, expected, actual)
    words = f"{what}: of one sequence, and of all {one.width}"
    return _row(words, expected, actual) | {"ratio": None}


def _planned(one: SeenRequest, plan: Plan) -> str | None:
    """The pools that the plan gives the size, with their shares; `None` if that plan is gone."""
    if one.plan_id != plan.plan_id or not 0 <= one.bucket < len(plan.weights):
        return None
    return _listed(plan.pools, plan.weights[one.bucket])


def _listed(pools: Sequence[str], weights: Sequence[float]) -> str:
    shares = [(pool, share) for pool, share in zip(pools, weights, strict=True) if share >= SMALL]
    shares.sort(key=lambda item: -item[1])
    return ", ".join(f"{pool} {share:.0%}" for pool, share in shares) or "none"


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)

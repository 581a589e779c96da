"""One request in words: what was believed, what was decided and why, and what came of it. Pure."""

from typing import Any, NamedTuple

from gateway.telemetry.seen_request import SeenRequest
from planner.model.plan import Plan
from planner.slo import Slo

# What the router says of a request, as `x-cuvee-decision` does.
DECISIONS = {
    "planned": "a pool that the plan gives this size",
    "affinity": "a pool that the plan gives this size; in it the backend where the beginning of "
    "the prompt has been",
    "spill": "another pool than planned, which kept the promise at that moment when the planned "
    "one would not",
    "best-effort": "what the others left, without a promise",
}
OUTCOMES = {
    "ok": "answered whole",
    "shed": "refused for lack of room",
    "failed": "failed by a backend or the gateway",
    "abandoned": "left by the client",
    "rejected": "refused as the client's mistake",
}
MET = {"yes": "the promise was kept", "no": "the promise was missed", "refused": "it was refused"}


class SeenAt(NamedTuple):
    """A request that ended. at_s: when it came, seconds since 1970. what: its bucket in words.
    promise: of its class; both `None` if its model has left the configuration."""

    request: SeenRequest
    at_s: float
    what: str | None
    promise: Slo | None


def request_row(seen: SeenAt, plan: Plan) -> dict[str, Any]:
    """A request in JSON, with its receipt explained. plan: in force now."""
    one = seen.request
    return {
        "id": one.request_id,
        "at_s": round(seen.at_s, 3),
        "model": one.model,
        "class": one.slo_class,
        "caller": one.caller,
        "endpoint": one.endpoint,
        "outcome": one.outcome,
        "status": one.status,
        "met": one.met,
        "slowness": one.slowness,
        "pool": one.pool,
        "backend": one.backend,
        "decision": one.decision,
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        "ttft_s": _short(one.ttft_s),
        "tpot_s": _short(one.tpot_s),
        "duration_s": _short(one.duration_s),
        "words": explained(seen, plan),
    }


def explained(seen: SeenAt, plan: Plan) -> list[list[str]]:
    """Pairs of a subject and what is to be said of it."""
    one = seen.request
    words = [["Asked", _asked(one)], ["Promise", _promise(seen)], ["Believed", _believed(seen)]]
    if one.pool is not None:
        words.append(["Decided", _decided(one, plan)])
    if one.waited_s is not None:
        words.append(["Queue", f"it waited {_time(one.waited_s)} for its turn"])
    if one.retries:
        times = "once" if one.retries == 1 else f"{one.retries} times"
        words.append(["Again", f"it was sent again {times}: a backend failed or had no room"])
    words += [["Took", _took(one)], ["Really", _really(one)], ["End", _end(one)]]
    return [pair for pair in words if pair[1]]


def _asked(one: SeenRequest) -> str:
    how = "as a stream" if one.stream else "as a whole answer"
    most = "" if one.max_tokens is None else f", at most {one.max_tokens:,} tokens"
    many = "" if one.width == 1 else f", {one.width} sequences"
    return f"{one.endpoint} of {one.model} {how}{most}{many}"


def _promise(seen: SeenAt) -> str:
    if seen.promise is None or seen.request.slo_class == "best-effort":
        return f"none (class {seen.request.slo_class})"
    slo = seen.promise
    return (
        f"class {seen.request.slo_class}: the first token within {_time(slo.ttft_s)}, then "
        f"{_time(slo.tpot_s)} a token"
    )


def _believed(seen: SeenAt) -> str:
    one = seen.request
    bucket = "" if seen.what is None else f": bucket {seen.what}"
    return f"{one.estimated_input:,} tokens in, {one.estimated_output:,} out{bucket}"


def _decided(one: SeenRequest, plan: Plan) -> str:
    why = DECISIONS.get(one.decision or "", one.decision or "")
    text = f"{one.backend}: {why}" if why else f"{one.backend}"
    if one.plan_id != plan.plan_id or not 0 <= one.bucket < len(plan.weights):
        return f"{text} (plan {one.plan_id}, which another one has replaced)"
    shares = ", ".join(
        f"{pool} {_percent(weight)}"
        for pool, weight in zip(plan.pools, plan.weights[one.bucket], strict=True)
        if weight >= 0.005
    )
    return f"{text}; the plan sends this size to {shares or 'no pool'}"


def _took(one: SeenRequest) -> str:
    parts = []
    if one.ttft_s is not None:
        parts.append(f"first token after {_time(one.ttft_s)}")
    if one.tpot_s is not None:
        parts.append(f"{_time(one.tpot_s)} a token")
    parts.append(f"{_time(one.duration_s)} in all")
    if one.slowness is not None and one.outcome == "ok":
        parts.append(
            f"{_percent(one.slowness)} of the time that its class promises for such an answer"
        )
    return ", ".join(parts)


def _really(one: SeenRequest) -> str:
    if one.input_tokens is None and one.output_tokens is None:
        return ""
    inputs = "unknown" if one.input_tokens is None else f"{one.input_tokens:,}"
    outputs = "unknown" if one.output_tokens is None else f"{one.output_tokens:,}"
    hits = f", {one.cached_tokens:,} of them from the prefix cache" if one.cached_tokens else ""
    return f"{inputs} tokens in{hits}; {outputs} out"


def _end(one: SeenRequest) -> str:
    reason = f" ({one.reason})" if one.reason else ""
    met = MET.get(one.met, "")
    end = f"{one.status}, {OUTCOMES.get(one.outcome, one.outcome)}{reason}"
    return f"{end}; {met}" if met and one.outcome != "shed" else end


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.4g} s"


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)

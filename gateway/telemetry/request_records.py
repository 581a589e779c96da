"""Makes what is told of single requests to the processes that show and send it. Compiled."""

from collections.abc import Iterable, Sequence

from gateway.routing.observation import NO_BUCKET, Observation
from gateway.telemetry.sampler import Timed
from gateway.telemetry.seen_request import LONGEST_ID, SeenRequest
from gateway.telemetry.traced_request import TracedRequest
from planner.model.buckets import Buckets

Promise = tuple[str, float, float]  # name, TTFT and TPOT of a class, seconds


def promises_of(buckets: Buckets) -> list[Promise]:
    """Those of the classes, in the order of the buckets."""
    return [(one.name, one.slo.ttft_s, one.slo.tpot_s) for one in buckets.classes]


def seen_requests(
    last: Sequence[Observation], slowest: Sequence[Timed], promises: Sequence[Promise], cells: int
) -> list[SeenRequest]:
    """What a sampler kept. promises: of the classes, in the order of the buckets. cells: buckets of
    each class."""
    found = [seen_request(one, promises, cells, sampled=True) for one in last]
    return found + [
        seen_request(one, promises, cells, sampled=False)
        for one, _ in slowest
        if not any(one is other for other in last)
    ]


def seen_request(
    ended: Observation, promises: Sequence[Promise], cells: int, *, sampled: bool
) -> SeenRequest:
    """What is told of one request; see `seen_requests`."""
    met, slowness = "", None
    if ended.bucket != NO_BUCKET:
        _, ttft_s, tpot_s = promises[ended.bucket // cells]
        tokens = (ended.answer_tokens or 1) - 1
        slowness = ended.duration_s / (ttft_s + tpot_s * max(0, tokens))
        met = ended.met(ttft_s, tpot_s)
    return SeenRequest(
        request_id=ended.request_id.decode("latin-1")[:LONGEST_ID],
        arrival_s=ended.arrival_s,
        model=ended.model,
        caller=ended.caller,
        endpoint=ended.endpoint.name,
        stream=ended.stream,
        slo_class=ended.slo_class,
        bucket=ended.bucket,
        outcome=str(ended.outcome),
        status=ended.status,
        reason=ended.reason,
        retries=ended.retries,
        plan_id=ended.plan_id,
        pool=ended.pool,
        backend=ended.backend,
        decision=ended.decision,
        estimated_input=ended.estimated_input,
        estimated_output=ended.estimated_output,
        input_tokens=ended.input_tokens,
        cached_tokens=ended.cached_tokens,
        output_tokens=ended.output_tokens,
        max_tokens=ended.max_tokens,
        width=ended.width,
        waited_s=ended.waited_s,
        ttft_s=ended.ttft_s,
        tpot_s=ended.tpot_s,
        duration_s=ended.duration_s,
        met=met,
        slowness=None if slowness is None else int(slowness * 1e4 + 0.5) / 1e4,
        sampled=sampled,
    )


def traced_requests(
    ended: Iterable[Observation], promises: Sequence[Promise], cells: int
) -> list[TracedRequest]:
    """Of those that have a trace. promises, cells: as of `seen_requests`."""
    return [
        TracedRequest(one.trace.trace_id, seen_request(one, promises, cells, sampled=True))
        for one in ended
        if one.trace is not None
    ]


def promise_kept(ended: Observation, promises: Sequence[Promise], cells: int) -> str:
    """As `Observation.met` says it; empty without a bucket. promises, cells: as of
    `seen_requests`."""
    if ended.bucket == NO_BUCKET:
        return ""
    _, ttft_s, tpot_s = promises[ended.bucket // cells]
    return ended.met(ttft_s, tpot_s)

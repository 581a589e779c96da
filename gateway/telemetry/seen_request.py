"""One request as it is told to the process that shows it: no text, no key, no name of a client's.

Not in `sampler` because mypyc cannot compile a `msgspec.Struct`.
"""

from collections.abc import Sequence

import msgspec

from gateway.routing.observation import NO_BUCKET, Observation
from gateway.telemetry.sampler import Timed

LONGEST_ID = 64  # characters of a client's own id of a request that are kept

Promise = tuple[str, float, float]  # name, TTFT and TPOT of a class, seconds


class SeenRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request that ended. All but these are as of `Observation`.

    met: whether its promise was kept, empty without one. slowness: the time that it took over the
    time that its class promises for such an answer; `None` where that is not known. sampled:
    whether it is one of the last at some moment, chosen by nothing else; the others were slow.
    """

    request_id: str
    arrival_s: float
    model: str
    caller: str
    endpoint: str
    stream: bool
    slo_class: str
    bucket: int
    outcome: str
    status: int
    reason: str | None
    retries: int
    plan_id: str | None
    pool: str | None
    backend: str | None
    decision: str | None
    estimated_input: int
    estimated_output: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    max_tokens: int | None
    width: int
    waited_s: float | None
    ttft_s: float | None
    tpot_s: float | None
    duration_s: float
    met: str
    slowness: float | None
    sampled: bool


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
        outcome=ended.outcome.value,
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
        slowness=None if slowness is None else round(slowness, 4),
        sampled=sampled,
    )

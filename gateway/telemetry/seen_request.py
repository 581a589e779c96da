"""One request as it is told to the process that shows it: no text, no key, no name of a client's.

Apart from what makes it (`request_records`) because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec

LONGEST_ID = 64  # characters of a client's own id of a request that are kept


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

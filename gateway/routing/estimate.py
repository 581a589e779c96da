"""What a request is believed to be before it is served. Values; who believes it is not told."""

import msgspec

from planner.model import DEFAULT


class Length(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Predicted output tokens: the median, and the ninetieth percentile."""

    median: int
    p90: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request as the router believes it to be: whose promise, tokens, the P90 of its output."""

    model: str
    input_tokens: int
    output_tokens: int
    output_p90: int
    slo_class: str = DEFAULT

"""Latency promises."""

import pytest

from planner.errors import InvalidValue
from planner.slo import Slo

SLO = Slo(ttft_s=2.0, tpot_s=0.05)


@pytest.mark.parametrize(
    ("ttft_s", "tpot_s", "met"),
    [(2.0, 0.05, True), (2.1, 0.05, False), (2.0, 0.051, False), (1.0, None, True),
     (None, None, False)],
)  # fmt: skip
def test_a_request_meets_both_targets_or_misses(
    ttft_s: float | None, tpot_s: float | None, met: bool
):
    """TTFT and TPOT both count; no TPOT is met, no first token is missed."""
    assert SLO.met_by(ttft_s, tpot_s) is met


@pytest.mark.parametrize(
    ("field", "value"),
    [("ttft_s", 0.0), ("tpot_s", -1.0), ("ttft_s", float("nan")), ("tpot_s", float("inf")),
     ("attainment", 0.4), ("attainment", 1.0), ("attainment", float("nan"))],
)  # fmt: skip
def test_an_impossible_promise_names_its_field(field: str, value: float):
    """The message names the field that is wrong."""
    with pytest.raises(InvalidValue, match=field):
        Slo(**({"ttft_s": 1.0, "tpot_s": 0.1} | {field: value}))

"""What the trace of a gateway's traffic has of a request."""

from typing import Any

import pytest

from gateway.routing.endpoints import CHAT, EMBEDDINGS
from gateway.routing.observation import Observation, Outcome
from gateway.workers.recorder import TrafficRecorder
from planner.traffic.gateway_trace import ServedRequest

FIELDS: dict[str, Any] = {
    "model": "m", "caller": "k", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": None, "estimated_input": 110, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0,
    "arrival_s": 40.0, "ttft_s": 0.125, "input_tokens": 100, "output_tokens": 60,
    "cached_tokens": 32, "slo_class": "batch",
}  # fmt: skip


def recorded(**fields: Any) -> ServedRequest:
    """The row of a request."""
    made = TrafficRecorder(("tuned",))
    made.add(Observation(**(FIELDS | fields)), 957.5)
    ((row,), _) = made.take()
    return row


def test_a_row_has_sizes_times_and_names():
    """The arrival is by the clock on the wall."""
    assert recorded() == ServedRequest(
        at_s=997.5, caller="k", model="m", adapter="", endpoint=CHAT.name, slo_class="batch",
        outcome="ok", input_tokens=100, output_tokens=60, cached_tokens=32, width=1,
        estimated=False, ttft_s=0.125, duration_s=2.0,
    )  # fmt: skip


def test_sizes_are_those_of_one_sequence():
    """Two prompts of two choices each are four; every second one finds its prompt computed."""
    row = recorded(
        prompts=2, answers=4, width=4, input_tokens=200, output_tokens=240, cached_tokens=20
    )

    assert (row.input_tokens, row.output_tokens, row.width) == (100, 60, 4)
    assert row.cached_tokens == 20 // 2 + 100 // 2


@pytest.mark.parametrize("outcome", [Outcome.SHED, Outcome.FAILED])
def test_an_answer_that_never_came_has_the_size_that_was_believed(outcome: Outcome):
    """Not that of the piece that came: a plan must provide for the whole."""
    row = recorded(outcome=outcome, input_tokens=None, output_tokens=3)

    assert (row.input_tokens, row.output_tokens, row.estimated) == (110, 50, True)


def test_an_answer_that_its_client_left_has_the_size_that_it_got():
    """The engine stopped there too."""
    assert recorded(outcome=Outcome.ABANDONED, output_tokens=3).output_tokens == 3


def test_embeddings_have_no_answer():
    """And none is estimated."""
    row = recorded(endpoint=EMBEDDINGS, output_tokens=None)

    assert (row.output_tokens, row.estimated) == (0, False)


def test_an_adapter_is_named_and_an_alias_is_not():
    """An alias is the same model."""
    assert recorded(asked="tuned").adapter == "tuned"
    assert recorded(asked="nickname").adapter == ""


def test_what_is_too_much_is_counted():
    """A worker whose rows are not fetched does not grow without end."""
    made = TrafficRecorder((), most=2)
    for _ in range(5):
        made.add(Observation(**FIELDS), 0.0)

    rows, lost = made.take()

    assert (len(rows), lost) == (2, 3)
    assert made.take() == ([], 0)

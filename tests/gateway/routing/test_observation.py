"""What became of one request."""

from typing import Any

import pytest

from gateway.routing.endpoints import CHAT
from gateway.routing.observation import Observation, Outcome

FIELDS: dict[str, Any] = {
    "model": "m", "caller": "k", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0,
}  # fmt: skip
TTFT_S, TPOT_S = 1.0, 0.1


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"ttft_s": 1.0, "tpot_s": 0.1}, "yes"),
        ({"ttft_s": 1.1, "tpot_s": 0.1}, "no"),
        ({"ttft_s": 1.0, "tpot_s": 0.11}, "no"),
        ({"ttft_s": 1.0}, "yes"),  # one token has no TPOT
        ({"ttft_s": 0.1, "outcome": Outcome.FAILED}, "no"),
        ({"outcome": Outcome.SHED}, "refused"),
        ({"outcome": Outcome.REJECTED}, ""),
    ],
)
def test_a_stream_is_held_to_both_targets(fields, met):
    """A failure keeps no promise, a refusal is its own answer, and a client's mistake has none."""
    assert Observation(**(FIELDS | fields)).met(TTFT_S, TPOT_S) == met


@pytest.mark.parametrize(
    ("duration_s", "tokens", "met"),
    [
        (1.0, None, "yes"),  # it was whole before its first token was due
        (1.1, None, "unknown"),
        (2.9, 20, "yes"),
        (3.0, 20, "no"),
    ],
)
def test_what_does_not_stream_is_held_to_the_whole(duration_s, tokens, met):
    """The targets come to TTFT + TPOT · (tokens - 1) for an answer that shows no first token."""
    found = Observation(
        **(FIELDS | {"stream": False, "duration_s": duration_s, "output_tokens": tokens})
    )

    assert found.met(TTFT_S, TPOT_S) == met


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"duration_s": 0.9}, "unknown"),
        ({"duration_s": 1.1}, "no"),
        ({"duration_s": 9.0, "ttft_s": 0.9}, "unknown"),
        ({"duration_s": 9.0, "ttft_s": 0.9, "tpot_s": 0.2}, "no"),
        ({"duration_s": 9.0, "stream": False}, "unknown"),
    ],
)
def test_who_leaves_takes_the_answer_along(fields, met):
    """Unless the promise was broken before the client left."""
    abandoned = Observation(**(FIELDS | {"outcome": Outcome.ABANDONED, "status": 499} | fields))

    assert abandoned.met(TTFT_S, TPOT_S) == met


def test_several_answers_are_held_to_the_targets_of_one():
    """Their tokens come at the same time, and are counted together."""
    fields = {"stream": False, "duration_s": 2.9, "output_tokens": 80, "answers": 4, "width": 4}
    found = Observation(**(FIELDS | fields))
    late = Observation(**(FIELDS | fields | {"duration_s": 3.0}))

    assert found.answer_tokens == found.lesson().output_tokens == 20
    assert (found.met(TTFT_S, TPOT_S), late.met(TTFT_S, TPOT_S)) == ("yes", "no")


def test_only_a_refusal_for_length_teaches_of_what_was_refused():
    """Nothing else that was refused has a size."""
    refused = {"outcome": Outcome.REJECTED, "status": 400}

    assert Observation(**(FIELDS | refused)).lesson().least_input is None
    told = Observation(**(FIELDS | refused | {"least_input": 5000})).lesson()
    assert (told.input_tokens, told.least_input) == (None, 5000)

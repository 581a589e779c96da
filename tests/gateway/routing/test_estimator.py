"""What requests that ended teach."""

from gateway.routing.estimator import TAUGHT, Estimator
from gateway.routing.lengths import OutputLengths
from gateway.routing.observation import Observation, Outcome
from gateway.routing.tokens import BytesPerToken


def ended(outcome=Outcome.OK, **fields):
    return Observation(
        **{
            "model": "m", "key": "k", "route": "chat", "stream": False, "bucket": 0,
            "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100,
            "estimated_output": 50, "exact_input": False, "outcome": outcome, "status": 200,
            "duration_s": 1.0, "input_tokens": 200, "output_tokens": 9,
        }
        | fields
    )  # fmt: skip


def estimator():
    return Estimator(OutputLengths(), BytesPerToken({"m": 4.0}))


def learned(found):
    """Tokens of 400 bytes, and the median answer."""
    return found.tokens.estimate("m", "chat", 400), found.lengths.predict(
        "m", "k", "chat", 100, None
    ).median


def test_a_request_teaches_its_size_and_its_length():
    """Bytes per token and the length of the answer move towards what was reported."""
    found = estimator()
    before = learned(found)
    for _ in range(TAUGHT):
        found.learn(ended())
    tokens, median = learned(found)

    assert tokens == 200
    assert median < before[1]


def test_what_was_not_reported_or_not_whole_teaches_nothing():
    """An answer that broke off says nothing of lengths; token ids say nothing of bytes."""
    found = estimator()
    before = learned(found)
    found.learn(ended(Outcome.FAILED, exact_input=True))
    found.learn(ended(input_tokens=None, output_tokens=None))
    found.learn(ended(route="embeddings", exact_input=True))

    assert learned(found) == before


def test_of_very_many_a_sample_teaches():
    """Until the next rest; then again as many."""
    found = estimator()
    for _ in range(2):
        taught = [found.sample(ended()) for _ in range(TAUGHT + 5)]

        assert taught == [True] * TAUGHT + [False] * 5
        found.refill()

"""One estimator for everybody: what it believes of a request, and what requests teach it."""

import pytest

from gateway.cluster.codec import decode, encode
from gateway.routing.endpoints import CHAT, COMPLETIONS, EMBEDDINGS
from gateway.routing.estimator import QUOTA, Estimator
from gateway.routing.estimator_schema import EstimatorState
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Observation, Outcome


def ended(outcome=Outcome.OK, **fields):
    return Observation(
        **{
            "model": "m", "caller": "k", "endpoint": CHAT, "stream": False, "bucket": 0,
            "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100,
            "estimated_output": 50, "exact_input": False, "outcome": outcome, "status": 200,
            "duration_s": 1.0, "input_tokens": 200, "output_tokens": 9,
        }
        | fields
    )  # fmt: skip


def fresh():
    return Estimator({"m": 4.0})


def believed(estimator, endpoint=CHAT, tokens=None, caller="k"):
    """Input, output and P90 of a request of 400 bytes."""
    request = LlmRequest(
        endpoint=endpoint, model="m", stream=False, prompt_bytes=400, prompt_tokens=tokens,
        max_tokens=None,
    )  # fmt: skip
    estimate = estimator.estimate(request, model="m", caller=caller)
    return estimate.input_tokens, estimate.output_tokens, estimate.output_p90


def test_a_request_teaches_its_size_and_its_length():
    """Bytes per token and the length of the answer move towards what was reported."""
    estimator = fresh()
    before = believed(estimator)
    for _ in range(QUOTA):
        estimator.learn(ended().lesson())
    inputs, outputs, _ = believed(estimator)

    assert (before[0], inputs) == (100, 200)
    assert outputs < before[1]


def test_what_was_not_reported_or_not_whole_teaches_nothing():
    """An answer that broke off says nothing of lengths; token ids say nothing of bytes."""
    estimator = fresh()
    before = believed(estimator)
    estimator.learn(ended(Outcome.FAILED, exact_input=True).lesson())
    estimator.learn(ended(input_tokens=None, output_tokens=None).lesson())
    estimator.learn(ended(endpoint=EMBEDDINGS, exact_input=True).lesson())

    assert believed(estimator) == before


def test_of_very_many_a_sample_teaches():
    """Until the next refill; then again as many."""
    estimator = fresh()
    for _ in range(2):
        taught = [estimator.spend() for _ in range(QUOTA + 5)]

        assert taught == [True] * QUOTA + [False] * 5
        estimator.refill()


def test_token_ids_are_taken_as_they_are():
    """An exact prompt is not estimated from its bytes."""
    assert believed(fresh(), COMPLETIONS, tokens=7)[0] == 7


def test_an_embedding_has_one_token_of_output():
    """Nothing is decoded, whatever chats of the same model and caller got."""
    estimator = fresh()
    for _ in range(50):
        estimator.learn(ended(output_tokens=900).lesson())

    assert believed(estimator, EMBEDDINGS)[1:] == (1, 1)


def test_a_trace_teaches_what_serving_learns():
    """The same requests, live or from a trace: the same belief afterwards, for both ways to ask."""
    live, offline = fresh(), fresh()
    for tokens in range(20, 80):
        live.learn(ended(exact_input=True, output_tokens=tokens).lesson())
        offline.learn_size(100, tokens, model="m", caller="k")

    assert believed(live) == believed(offline)
    of_size = offline.estimate_size(100, model="m", caller="k")
    assert (of_size.output_tokens, of_size.output_p90) == believed(live)[1:]


@pytest.mark.parametrize("caller", ["k", "stranger"])
def test_what_was_learned_travels_to_another_process(caller):
    """An estimator that is sent the state believes the same of known and unknown callers."""
    estimator, other = fresh(), fresh()
    for tokens in range(40, 140):
        estimator.learn(ended(output_tokens=tokens).lesson())
    other.restore(decode(encode(estimator.state()), EstimatorState))

    # Quantiles lag by an eighth of the samples, and are up to date in what was restored.
    assert believed(other, caller=caller) == pytest.approx(
        believed(estimator, caller=caller), rel=0.1
    )
    assert other.state() == estimator.state()

"""One estimator for everybody: what it believes of a request, and what requests teach it."""

import json

import pytest

from gateway.cluster.codec import decode, encode
from gateway.routing.body import read_body
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

    assert (before[0], inputs) == (100, pytest.approx(200, rel=0.05))
    assert outputs < before[1]


def test_what_was_not_reported_or_not_whole_teaches_nothing():
    """An answer that broke off says nothing of lengths; token ids say nothing of bytes."""
    estimator = fresh()
    before = believed(estimator)
    estimator.learn(ended(Outcome.FAILED, exact_input=True).lesson())
    estimator.learn(ended(input_tokens=None, output_tokens=None).lesson())
    estimator.learn(ended(endpoint=EMBEDDINGS, exact_input=True).lesson())

    assert believed(estimator) == before


def read(content, **fields):
    body = {"messages": [{"role": "user", "content": content}]} | fields
    return read_body(json.dumps(body).encode(), CHAT)


def tokens_of(estimator, request):
    return estimator.estimate(request, model="m", caller="k").input_tokens


def served(estimator, request, tokens, outcome=Outcome.OK, **fields):
    """A request that an engine answered and counted, or refused."""
    ok = outcome is Outcome.OK
    observed = ended(
        outcome, prompt_bytes=request.prompt_bytes, units=request.units, payload=request.payload,
        wide=request.wide, estimated_input=tokens_of(estimator, request),
        input_tokens=tokens if ok else None, least_input=None if ok else tokens, **fields,
    )  # fmt: skip
    estimator.learn(observed.lesson())


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KG" * 4500}}
PICTURE = [{"type": "text", "text": "what is it"}, IMAGE]
LONG = "word " * 9600  # 12,000 tokens


def test_ten_thousand_pictures_do_not_move_a_text():
    """Neither one of their size nor one of a size that was never seen; and the pictures count what
    they count."""
    estimator = fresh()
    for _ in range(20):
        served(estimator, read(LONG), 12_000)
    texts = [read(LONG), read("word " * 1800), read("word " * 20_000), read("hello")]
    before = [tokens_of(estimator, text) for text in texts]
    for _ in range(10_000):
        served(estimator, read(PICTURE), 1_110)

    assert [tokens_of(estimator, text) for text in texts] == pytest.approx(before, rel=0.02)
    assert tokens_of(estimator, read(PICTURE)) == pytest.approx(1_110, rel=0.05)


def test_tools_and_none_do_not_disturb_each_other():
    """Twenty tools of 14,000 tokens beside a short message, and the message alone."""
    tools = [{"type": "function", "function": {"name": f"f{n}", "description": "d" * 2800}}
             for n in range(20)]  # fmt: skip
    estimator, alone, equipped = fresh(), read("hi " * 20), read("hi " * 20, tools=tools)
    for _ in range(40):
        served(estimator, equipped, 14_237)
        served(estimator, alone, 22)

    assert tokens_of(estimator, alone) == pytest.approx(22, abs=2)
    assert tokens_of(estimator, equipped) == pytest.approx(14_237, rel=0.05)


def test_a_refusal_for_length_heals_a_wrong_estimate():
    """It says how long the prompt is at least; a handful is enough."""
    estimator = fresh()
    for _ in range(80):
        served(estimator, read(LONG), 6_000)
    wrong = tokens_of(estimator, read(LONG))
    for _ in range(10):
        served(estimator, read(LONG), 12_000, Outcome.REJECTED)

    assert wrong == pytest.approx(6_000, rel=0.05)
    assert tokens_of(estimator, read(LONG)) == pytest.approx(12_000, rel=0.1)


@pytest.mark.parametrize("content", [LONG, PICTURE])
def test_a_refusal_never_makes_a_prompt_shorter(content):
    """Engines stop counting where it is too long."""
    estimator = fresh()
    before = tokens_of(estimator, read(content))
    for _ in range(10):
        served(estimator, read(content), 500, Outcome.REJECTED)

    assert tokens_of(estimator, read(content)) == before


def test_a_refusal_of_pictures_teaches_pictures():
    """And not the text."""
    estimator = fresh()
    text = tokens_of(estimator, read(LONG))
    for _ in range(40):
        served(estimator, read(PICTURE), 9_000, Outcome.REJECTED)

    assert tokens_of(estimator, read(PICTURE)) == pytest.approx(9_000, rel=0.1)
    assert tokens_of(estimator, read(LONG)) == text


def test_a_request_of_many_sequences_is_estimated_by_one_of_them():
    """Its bucket is that of one sequence; beside it stands how many there are."""
    body = json.dumps({"prompt": ["say " * 20] * 32, "n": 2, "max_tokens": 16}).encode()
    many = fresh().estimate(read_body(body, COMPLETIONS), model="m", caller="k")
    one = json.dumps({"prompt": "say " * 20, "max_tokens": 16}).encode()
    single = fresh().estimate(read_body(one, COMPLETIONS), model="m", caller="k")

    assert (many.prompts, many.width) == (32, 64)
    assert many.input_tokens == pytest.approx(single.input_tokens, abs=1)
    assert many.output_tokens == single.output_tokens == 16
    assert many.prompt_tokens == 32 * many.input_tokens
    assert many.tokens == 32 * many.input_tokens + 64 * 16


def test_many_answers_teach_the_length_of_one():
    """An engine counts their tokens together."""
    estimator = fresh()
    for _ in range(QUOTA):
        estimator.learn(ended(output_tokens=4 * 60, answers=4, width=4).lesson())

    assert believed(estimator)[1] == pytest.approx(60, abs=25)


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


def test_what_a_template_adds_to_a_counted_prompt_is_learned():
    """From replies: so many tokens for each message, and one more for each of the text's. The bytes
    of the same prompts are learned too, for those that are not counted in time."""
    estimator = fresh()
    for text, messages in ((100, 2), (900, 3), (40, 8), (300, 2)) * QUOTA:
        told = ended(
            counted=text, units=messages, prompt_bytes=5 * text, input_tokens=text + 7 * messages
        )
        estimator.learn(told.lesson())
    restored = fresh()
    restored.restore(decode(encode(estimator.state()), EstimatorState))

    request = LlmRequest(
        endpoint=CHAT, model="m", stream=False, prompt_bytes=2500, prompt_tokens=None,
        max_tokens=None, units=4,
    )  # fmt: skip
    for one in (estimator, restored):
        request.counted = 500
        counted = one.estimate(request, model="m", caller="k").input_tokens
        request.counted = None
        by_bytes = one.estimate(request, model="m", caller="k").input_tokens
        assert (counted, by_bytes) == (pytest.approx(528, abs=2), pytest.approx(528, abs=5))


def test_a_counted_prompt_is_as_long_as_its_tokens_at_first():
    """One for one, with the marks of a usual template, whatever its bytes are."""
    request = LlmRequest(
        endpoint=CHAT, model="m", stream=False, prompt_bytes=9000, prompt_tokens=None,
        max_tokens=None, units=2,
    )  # fmt: skip
    request.counted = 100

    assert fresh().estimate(request, model="m", caller="k").input_tokens == 108

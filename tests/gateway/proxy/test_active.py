"""The record of one request becomes its one observation."""

from types import SimpleNamespace

import pytest

from gateway.errors import BadRequest, ClientGone
from gateway.proxy.active import DETAILS, ActiveRequest
from gateway.proxy.engines import refusal
from gateway.proxy.events_schema import Usage
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.receipt import Receipts
from gateway.routing.backend import Backend, Lease
from gateway.routing.endpoints import CHAT, EMBEDDINGS
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Outcome


def active(endpoint=CHAT, *, stream=True, answers=1):
    return ActiveRequest(
        arrival_s=10.0,
        request_id=b"r1",
        llm_request=LlmRequest(
            endpoint=endpoint, model=None, stream=stream, prompt_bytes=80, prompt_tokens=None,
            max_tokens=9, answers=answers, width=answers,
        ),
        estimate=Estimate(model="m", input_tokens=20, output_tokens=5, output_p90=9),
        caller="k",
        receipts=Receipts(),
        room=lambda now_s: None,
        bucket=4,
        fiber=Fiber(),
        client=SimpleNamespace(),  # nothing is sent
    )  # fmt: skip


def routed():
    w = active()
    backend = Backend(name="a-0", pool="a", url="http://a")
    w.lease = Lease(
        backend, own=0, slots=(0.1,), prefill_s=0.0, bucket=4, plan_id="p", decision="spill"
    )
    return w


def test_a_request_that_was_served():
    """Belief, decision and truth are all in the observation; times count from the arrival."""
    w = routed()
    w.first_at_s, w.tpot_s, w.retries = 10.5, 0.02, 1
    hits = {"cached_tokens": 16}
    w.add_usage(Usage(prompt_tokens=21, completion_tokens=7, prompt_tokens_details=hits))
    w.finish(Outcome.OK, 200)
    seen = w.observation(12.0)

    assert (seen.ttft_s, seen.tpot_s, seen.duration_s) == (0.5, 0.02, 2.0)
    assert (seen.estimated_input, seen.input_tokens, seen.output_tokens) == (20, 21, 7)
    assert seen.cached_tokens == 16
    assert (seen.pool, seen.backend, seen.plan_id, seen.decision) == ("a", "a-0", "p", "spill")
    assert (seen.outcome, seen.status, seen.retries, seen.model) == (Outcome.OK, 200, 1, "m")
    assert not seen.exact_input


@pytest.mark.parametrize(
    ("endpoint", "tokens", "ttft_s"),
    [(CHAT, 1, 2.0), (CHAT, 2, None), (CHAT, None, None), (EMBEDDINGS, None, 2.0)],
)
def test_one_token_is_the_first_one(endpoint, tokens, ttft_s):
    """The TTFT of an answer that does not stream is known only where the first token is all."""
    w = active(endpoint, stream=False)
    w.output_tokens = tokens
    w.finish(Outcome.OK, 200)

    assert w.observation(12.0).ttft_s == ttft_s


@pytest.mark.parametrize(
    ("answers", "tokens", "tpot_s"), [(1, 61, 0.004), (4, 244, 0.0162), (4, 7, None), (4, 0, None)]
)
def test_the_pace_is_that_of_one_answer(answers, tokens, tpot_s):
    """The tokens of four choices come four at a time: 60 steps of 16 ms are no 243 of 4."""
    w = active(answers=answers)
    w.add_pace(tokens, 0.004 if tokens > 1 else None)

    assert (w.output_tokens, w.tpot_s) == (tokens, pytest.approx(tpot_s))


def test_a_refusal_for_length_says_how_long_the_prompt_is():
    """Of an engine; of anybody else it says nothing."""
    words = b'{"error":{"message":"The input (5000 tokens) is longer than the context length (4)"}}'
    for error, least in (
        (refusal(400, words), 5000),
        (refusal(400, b'{"error":{"message":"bad schema"}}'), None),
        (refusal(500, words), None),
        (BadRequest("context length 5: 9 given"), None),
    ):
        w = active()
        w.add_refusal(error)
        assert w.observation(11.0).least_input == least


def test_a_request_that_was_never_routed():
    """What is unknown is None, and an end that nobody told is a failure."""
    seen = active().observation(11.0)

    assert (seen.pool, seen.backend, seen.plan_id, seen.decision) == (None,) * 4
    assert (seen.ttft_s, seen.tpot_s, seen.input_tokens, seen.output_tokens) == (None,) * 4
    assert seen.outcome is Outcome.FAILED


def test_a_report_of_nothing_changes_nothing():
    """A reply without usage leaves what was counted."""
    w = active()
    w.output_tokens = 3
    w.add_usage(None)

    assert w.output_tokens == 3


@pytest.mark.parametrize(
    ("one_choice", "retries", "in_flight"), [(True, 0, 1.0), (False, 0, None), (True, 1, None)]
)
def test_the_load_is_known_where_one_backend_made_one_answer(one_choice, retries, in_flight):
    """Several answers at once, or an attempt before, take time that no profile tells."""
    w = routed()
    w.llm_request.one_choice = one_choice
    w.retries = retries
    w.finish(Outcome.OK, 200)

    assert w.observation(12.0).in_flight == in_flight


def test_the_receipt():
    """Every answer says its id and bucket, and what was decided once something was."""
    assert active().receipt() == b"x-request-id: r1\r\nx-cuvee-bucket: 4\r\n"
    assert routed().receipt() == (
        b"x-request-id: r1\r\nx-cuvee-bucket: 4\r\nx-cuvee-pool: a\r\nx-cuvee-backend: a-0\r\n"
        b"x-cuvee-plan: p\r\nx-cuvee-decision: spill\r\n"
    )


def test_the_first_token_frees_the_prefill():
    """Its time is kept, and the backend has that much less to do."""
    w = active()
    backend = Backend(name="a-0", pool="a", url="http://a")
    w.lease = Lease(
        backend, own=0, slots=(0.1,), prefill_s=0.5, bucket=4, plan_id="p", decision="planned"
    )
    before = backend.pending_s
    w.first_token(10.5)

    assert (before, backend.pending_s, w.first_at_s) == (0.5, 0.0, 10.5)


def test_a_client_that_leaves_ends_its_request_where_it_is():
    """The handler gets ClientGone at whatever it waits for."""
    w, ended = active(), []

    async def handler():
        try:
            await Promise()
        except ClientGone:
            ended.append(True)

    w.fiber.start(handler())
    w.abandon()

    assert ended == [True]


def test_a_usage_says_of_hits_behind_its_sums() -> None:
    assert Usage.__struct_fields__[:2] == ("prompt_tokens", "completion_tokens")
    assert Usage.__struct_fields__[DETAILS:] == (
        "prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens",
    )  # fmt: skip

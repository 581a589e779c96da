"""Heads of streamed answers, and what an error makes of a request."""

from types import SimpleNamespace

import pytest

from gateway.errors import (
    GatewayError,
    ModelNotFound,
    Saturated,
    StreamBroken,
    TooLarge,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.engines import EngineRefusal
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.reply import Reply
from gateway.proxy.receipt import Receipts
from gateway.proxy.responses import outcome_of, stream_head
from gateway.routing.endpoints import CHAT
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Outcome

RECEIPT = b"x-request-id: r\r\nx-cuvee-bucket: 4\r\n"


def active():
    """Of a request that was routed nowhere yet."""
    llm_request = LlmRequest(
        endpoint=CHAT, model="m", stream=True, prompt_bytes=1, prompt_tokens=None,
        max_tokens=None,
    )  # fmt: skip
    estimate = Estimate(model="m", input_tokens=1, output_tokens=1, output_p90=1)
    return ActiveRequest(
        arrival_s=0.0, request_id=b"r", llm_request=llm_request, estimate=estimate, caller="",
        receipts=Receipts(), room=lambda now_s: None, bucket=4, fiber=Fiber(),
        client=SimpleNamespace(),
    )  # fmt: skip


def answered(*headers):
    reply = Reply(SimpleNamespace(), BodyBudget())
    reply.status, reply.headers = 200, list(headers)
    return reply


def test_a_stream_is_announced_before_any_backend_answered():
    """As an event stream that nothing on the way may hold back, with its receipt."""
    assert stream_head(None, active()) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"cache-control: no-cache\r\nx-accel-buffering: no\r\n" + RECEIPT
    )


def test_a_backends_own_word_on_caching_counts():
    """Ours is added only where it says nothing."""
    said = stream_head(answered((b"cache-control", b"no-store"), (b"x-request-id", b"e")), active())
    silent = stream_head(answered(), active())

    assert said == (
        b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n" + RECEIPT
    )
    assert silent.count(b"cache-control: no-cache\r\n") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Saturated("full", retry_after_s=1.0), Outcome.SHED),
        (Unavailable("none"), Outcome.SHED),
        (EngineRefusal(429, {"message": "full"}), Outcome.SHED),
        (EngineRefusal(400, {"message": "no"}), Outcome.REJECTED),
        (ModelNotFound("what"), Outcome.REJECTED),
        (TooLarge("long"), Outcome.REJECTED),
        (EngineRefusal(500, {"message": "oh"}), Outcome.FAILED),
        (UpstreamError("oh"), Outcome.FAILED),
        (UpstreamTimeout("oh"), Outcome.FAILED),
        (StreamBroken("oh"), Outcome.FAILED),
        (GatewayError("oh"), Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_how_a_request_ended(error, outcome):
    """Refused for lack of room, the client's own mistake, or somebody's fault."""
    assert outcome_of(error) is outcome

"""Heads of streamed answers, and what an error makes of a request."""

import json
from types import SimpleNamespace

import pytest

from gateway.errors import (
    BadRequest,
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
from gateway.proxy.responses import KINDS, error_body, error_event, outcome_of, stream_head
from gateway.routing.endpoints import CHAT, MESSAGES, RESPONSES
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


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TooLarge("long"), "request_too_large"),
        (BadRequest("wrong"), "invalid_request_error"),
        (ModelNotFound("what"), "not_found_error"),
        (Saturated("full", retry_after_s=1.0), "rate_limit_error"),
        (Unavailable("none"), "overloaded_error"),
        (UpstreamError("oh"), "api_error"),
        (EngineRefusal(404, {"message": "x", "type": "NotFoundError", "code": 404}), KINDS[404]),
        (EngineRefusal(400, {"message": "x", "type": "permission_error"}), "permission_error"),
    ],
)
def test_anthropics_clients_get_an_error_of_their_kind(error, kind):
    """Whoever the error comes from; all others get OpenAI's."""
    body = json.loads(error_body(error, MESSAGES))

    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["error"]["message"] == error.message
    assert error_body(error, CHAT) == error.body()


def test_a_clients_own_words_are_not_told_without_end():
    """A name that nobody serves may have a megabyte."""
    body = error_body(ModelNotFound(f"The model `{'x' * 1_000_000}` does not exist."), CHAT)

    assert len(body) < 1200
    assert json.loads(body)["error"]["message"].startswith("The model `xxx")


def test_an_error_ends_a_stream_as_its_clients_read_it():
    """By the name of the event where events have one."""
    error = StreamBroken("oh")

    assert error_event(error, CHAT) == b"data: " + error.body() + b"\n\n"
    for endpoint in (MESSAGES, RESPONSES):
        name, _, data = error_event(error, endpoint).partition(b"\ndata: ")
        assert name == b"event: error"
        assert json.loads(data)["type"] == "error"
        assert json.loads(data)["error"]["message"] == "oh"
    assert json.loads(data)["message"] == "oh"

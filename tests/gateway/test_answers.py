"""Heads of our own answers, and what an error makes of a request."""

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
from gateway.proxy.answers import error_head, outcome_of, stream_head
from gateway.proxy.refusal import Refused
from gateway.routing.observation import Outcome

JSON = b"content-type: application/json\r\n"


class Told:
    """The part of a watch that a head needs."""

    def receipt(self):
        return b"x-request-id: r\r\n"


class Answered:
    """The part of a reply that a head needs."""

    status = 200

    def __init__(self, *headers):
        self.headers = list(headers)


def test_a_stream_is_announced_before_any_backend_answered():
    """As an event stream that nothing on the way may hold back, with its receipt."""
    assert stream_head(None, Told()) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        b"cache-control: no-cache\r\nx-accel-buffering: no\r\nx-request-id: r\r\n"
    )


def test_a_backends_own_word_on_caching_counts():
    """Ours is added only where it says nothing."""
    said = stream_head(Answered((b"cache-control", b"no-store"), (b"x-request-id", b"e")), Told())
    silent = stream_head(Answered(), Told())

    assert said == (
        b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\nx-accel-buffering: no\r\n"
        b"x-request-id: r\r\n"
    )
    assert silent.count(b"cache-control: no-cache\r\n") == 1


def test_an_error_says_when_to_come_again():
    """In whole seconds, at least one; where it says nothing there is no header."""
    assert error_head(BadRequest("no")) == b"HTTP/1.1 400 Bad Request\r\n" + JSON
    assert error_head(Saturated("full", retry_after_s=0.2)).endswith(JSON + b"retry-after: 1\r\n")
    assert error_head(Unavailable("none", retry_after_s=2.4)).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Saturated("full"), Outcome.SHED),
        (Unavailable("none"), Outcome.SHED),
        (Refused(429, {"message": "full"}), Outcome.SHED),
        (Refused(400, {"message": "no"}), Outcome.REJECTED),
        (ModelNotFound("what"), Outcome.REJECTED),
        (TooLarge("long"), Outcome.REJECTED),
        (Refused(500, {"message": "oh"}), Outcome.FAILED),
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

"""Every engine's errors, in the one shape that clients know."""

import json

import pytest

from gateway.proxy.engines import LONGEST_PAUSE_S, pause_s, refusal, stream_refusal


def told(refused):
    return json.loads(refused.body())["error"]


def test_an_openai_error_object_passes_as_it_is():
    """vLLM's own words reach the client unchanged, extra fields and all."""
    error = {"message": "too long", "type": "BadRequestError", "param": "x", "code": 400, "z": 1}

    refused = refusal(400, json.dumps({"error": error}).encode())

    assert (refused.status, told(refused), refused.retriable) == (400, error, False)


@pytest.mark.parametrize(
    ("status", "body", "our_status", "message"),
    [
        (422, b'{"error":"Input validation error","error_type":"validation"}', 400, "Input valid"),
        (424, b'{"error":"Request failed","error_type":"generation"}', 502, "Request failed"),
        (429, b'{"error":"Model is overloaded","error_type":"overloaded"}', 429, "Model is over"),
        (401, b'{"error":"Unauthorized"}', 401, "Unauthorized"),
        (404, b'{"detail":"Not Found"}', 404, "Not Found"),
        (400, b'{"detail":[{"loc":["body"],"msg":"field required"}]}', 400, "field required"),
        (500, b'{"object":"error","message":"old vLLM","code":50001}', 500, "old vLLM"),
        (500, b"Internal Server Error", 500, "Internal Server Error"),
        (502, b"<html>\xff</html>", 502, "<html>"),
        (503, b"", 503, "503"),
        (500, b'["x"]', 500, '["x"]'),
        (500, b'{"error":{"code":7}}', 500, "7"),
        (500, b"x" * 100_000, 500, "xxx"),
    ],
)
def test_other_shapes_become_it(status, body, our_status, message):
    """TGI's strings, FastAPI's details, proxies' HTML: always message, type, param and code."""
    refused = refusal(status, body)
    error = told(refused)

    assert refused.status == our_status
    assert message in error["message"]
    assert len(error["message"]) <= 500
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["type"], str)


@pytest.mark.parametrize(
    ("status", "retriable"),
    [(400, False), (413, False), (422, False), (429, True), (424, True), (500, True), (503, True),
     (401, True), (402, True), (403, True), (404, True), (405, True), (408, True), (418, True),
     (421, True), (426, True), (431, False), (451, True)],
)  # fmt: skip
def test_only_what_another_backend_could_do_is_tried_there(status, retriable):
    """A body that one engine refuses is refused by all; a key or a model perhaps not."""
    assert refusal(status, b"").retriable is retriable


def test_a_page_is_not_what_an_engine_says_of_a_body():
    """A server of another kind answers 400 to everything; where another backend takes the body,
    it was not the client's mistake."""
    page, words = refusal(400, b"<h1>400 Bad Request</h1>"), refusal(400, b'{"detail":"no"}')

    assert (page.doubtful, page.retriable) == (True, True)
    assert (words.doubtful, words.retriable) == (False, False)


def test_overload_inside_a_stream_is_never_the_clients_mistake():
    """TGI gives it the code of a failed validation; another backend may have room."""
    error = b'{"message":"Model is overloaded","http_status_code":422}'

    refused = stream_refusal(error)

    assert (refused.status, refused.retriable) == (503, True)


def test_overload_says_when_to_come_again():
    """429 and 503 carry Retry-After, others do not."""
    assert [refusal(s, b"").retry_after_s is not None for s in (429, 503, 500, 400)] == [
        True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"7", 7.0), (b" 0 ", 0.0), (b"Thu, 01 Jan 1970 00:02:05 GMT", 25.0),
        (b"Thu, 01 Jan 1970 00:00:05 GMT", 0.0), (b"99999999", LONGEST_PAUSE_S),
        (b"soon", 0.0), (b"-3", 0.0), (b"", 0.0), (None, 0.0),
    ],
)  # fmt: skip
def test_an_engine_says_for_how_long_it_wants_nothing(said, seconds):
    """In seconds or as a date; a nonsense is no pause, and an endless one has an end."""
    assert pause_s(said, wall_s=100.0) == seconds
    assert refusal(503, b"", pause_s=seconds).retry_after_s == (seconds or 1.0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "Service Unavailable", "code": 503}, 503),
        ({"message": "EngineCore", "type": "InternalServerError", "code": 500}, 500),
        ({"message": "too long", "code": 400}, 400),
        ({"message": "bad inputs", "http_status_code": 422}, 400),
        ({"message": "x", "code": "rate_limit"}, 502),
        ({"message": "x", "code": 200}, 502),
        ({"message": "x", "code": None}, 502),
        ("words only", 502),
        ({}, 502),
    ],
)
def test_an_error_event_is_an_error_reply(error, status):
    """Inside a 200 the status is the error's code, where that is one."""
    refused = stream_refusal(json.dumps(error).encode())

    assert refused.status == status
    assert told(refused)["message"]

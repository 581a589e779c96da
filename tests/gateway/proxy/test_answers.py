"""What a backend sends with status 200 is an answer, or it is not."""

import json

import pytest

from gateway.proxy.answers import fault
from gateway.routing.endpoints import (
    CHAT,
    CLASSIFY,
    COMPLETIONS,
    COUNT_TOKENS,
    DETOKENIZE,
    EMBEDDINGS,
    MESSAGES,
    POOLING,
    RERANK,
    RESPONSES,
    SCORE,
    TOKENIZE,
    TRANSCRIPTIONS,
    Endpoint,
)

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}


def reply(*choices, **fields):
    return {"id": "c", "choices": list(choices), "usage": {"completion_tokens": 1}} | fields


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize(
    ("answer", "endpoint"),
    [
        (reply(CHOICE), CHAT),
        (reply(CHOICE | {"message": {"content": None}}), CHAT),  # the model had nothing to say
        (reply(CHOICE | {"finish_reason": None}), CHAT),
        (reply(CHOICE | {"finish_reason": "tool_calls"}, error=None), CHAT),
        (reply(CHOICE | {"message": {"content": '"finish_reason":"abort"'}}), CHAT),
        (reply({"text": "hi", "finish_reason": "eos_token"}), COMPLETIONS),
        ({"data": [{"embedding": [0.5]}]}, EMBEDDINGS),
        ({"output": [{"type": "message"}], "status": "completed", "error": None}, RESPONSES),
        ({"output": [], "status": "incomplete", "error": None}, RESPONSES),
        ({"type": "message", "content": [], "stop_reason": "end_turn"}, MESSAGES),
        ({"input_tokens": 0}, COUNT_TOKENS),
        ({"results": [{"index": 0, "relevance_score": 0.5}]}, RERANK),
        ([{"index": 0, "score": 0.5}], RERANK),
        ({"data": [{"index": 0, "score": 0.5}]}, SCORE),
        ({"data": [{"data": [0.5]}]}, POOLING),
        ({"data": [{"label": "x", "probs": [0.5]}]}, CLASSIFY),
        ({"count": 0, "tokens": []}, TOKENIZE),
        ({"prompt": ""}, DETOKENIZE),
        ({"text": "hi"}, DETOKENIZE),
        ({"content": "hi"}, DETOKENIZE),
        ({"text": "", "usage": {"type": "duration", "seconds": 1}}, TRANSCRIPTIONS),
    ],
)
def test_answers_are_answers(answer, endpoint, separators):
    """However an engine writes its JSON, and whatever stands in a text."""
    assert fault(json.dumps(answer, separators=separators).encode(), endpoint) is None


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize(
    ("answer", "endpoint"),
    [
        (reply(CHOICE | {"finish_reason": "abort"}), CHAT),
        (reply(CHOICE | {"finish_reason": "error"}), CHAT),
        (reply(CHOICE, CHOICE | {"finish_reason": "abort"}), CHAT),
        (reply(), CHAT),
        (reply({"message": {"content": ""}, "finish_reason": None}), CHAT),
        (reply(CHOICE | {"finish_reason": None}, error={"message": "x"}), CHAT),
        ({"error": {"message": "x"}}, CHAT),
        ({"status": "ok"}, CHAT),
        ([], CHAT),
        ({"text": "hi"}, COMPLETIONS),
        ({"data": []}, EMBEDDINGS),
        ({"data": [{"embedding": []}]}, EMBEDDINGS),
        ({"error": "x"}, EMBEDDINGS),
        ({"output": [], "status": "failed", "error": {"message": "x"}}, RESPONSES),
        ({"output": [], "status": "cancelled", "error": None}, RESPONSES),
        ({"type": "message", "content": [], "stop_reason": "abort"}, MESSAGES),
        ({"type": "error", "error": {"type": "x"}}, MESSAGES),
        ({"type": "message", "content": [], "stop_reason": None}, MESSAGES),
        ({"object": "error", "message": "x", "code": 400}, CHAT),
        ({"object": "error", "message": "x", "code": 400}, RESPONSES),
        ({"object": "error", "message": "x", "usage": {}}, POOLING),
        ({"data": [{"embedding": None}]}, EMBEDDINGS),
        ({"data": [{"embedding": ""}]}, EMBEDDINGS),
        ({"results": []}, RERANK),
        ([], RERANK),
        ({"status": "ok"}, SCORE),
        ([1], TOKENIZE),
        ({"input_tokens": None}, COUNT_TOKENS),
    ],
)
def test_what_lacks_an_answer_is_none(answer, endpoint, separators):
    """An engine that gave up, an error inside a 200, another service."""
    assert fault(json.dumps(answer, separators=separators).encode(), endpoint)


@pytest.mark.parametrize("reason", ["abort", "error", "stop", "length"])
def test_one_choice_is_judged_like_many(reason):
    """Where the client asked for one, the first reason is all there is."""
    answer = json.dumps(reply(CHOICE | {"finish_reason": reason}), separators=(",", ":")).encode()

    assert fault(answer, CHAT, one_choice=True) == fault(answer, CHAT)


@pytest.mark.parametrize("body", [b"", b"<html>portal</html>", b"{", b"\xff", b'"ok"'])
def test_what_is_no_json_is_no_answer(body):
    """The page of a balancer, or nothing at all."""
    assert fault(body, CHAT)
    assert fault(body, EMBEDDINGS)


@pytest.mark.parametrize(
    ("answer", "endpoint"),
    [
        (reply(CHOICE), CHAT),
        (reply(CHOICE, CHOICE), CHAT),
        ({"data": [{"embedding": [1]}]}, EMBEDDINGS),
    ],
)
def test_an_answer_that_was_cut_off_is_none(answer, endpoint):
    """Where it ends with its connection, nothing else tells; white space may follow it."""
    body = json.dumps(answer, separators=(",", ":")).encode()

    assert fault(body + b"\r\n", endpoint) is None
    assert fault(body[: body.rindex(b":")], endpoint)


@pytest.mark.parametrize(
    ("body", "good"), [(b"WEBVTT\n\nhi", True), (b"", True), (b"<html>", False), (b"{", False)]
)
def test_a_transcript_may_be_plain_text(body, good):
    """Subtitles, or nothing where nobody speaks; but no page."""
    assert (fault(body, TRANSCRIPTIONS) is None) is good


@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES, RERANK, TOKENIZE])
def test_an_answer_of_another_shape_is_the_engine_s_own(endpoint: Endpoint):
    """What has the marks of an API like OpenAI's passes; what any service may answer does not."""
    assert fault(b'{"id":"c1","object":"chat.completion","choices":[{}]}', endpoint) is None
    assert fault(b'{"status":"ok"}', endpoint) is not None
    assert fault(b"<html>", endpoint) is not None
    assert fault(b'{"object":"list","error":{"message":"no"}}', endpoint) is not None

"""An event stream read in any cuts: tokens, their times, usage, errors and the end."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.replay.stream import StreamReader, describe_error


def chunk(text: str | None = None, finish: str | None = None, **delta: object) -> bytes:
    content = delta | ({} if text is None else {"content": text})
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "choices": [choice]})


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


ROLE = chunk("", role="assistant")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
DONE = b"data: [DONE]\n\n"
SSE_COMMENT = b": keep-alive\n\n"


def read(*reads: bytes) -> StreamReader:
    """A stream of one read per second, the first at 0 s."""
    stream = StreamReader()
    for now_s, data in enumerate(reads):
        stream.feed(data, float(now_s))
    stream.close()
    return stream


def test_the_role_chunk_is_not_the_first_token():
    """TTFT ends with the first content, whatever the server sends before it."""
    stream = read(ROLE, chunk(""), chunk("a"), chunk("b"), chunk("", "stop"), USAGE, DONE)

    assert (stream.first_s, stream.last_s) == (2.0, 3.0)
    assert stream.tokens == 2
    assert stream.done
    assert stream.finish_reason == "stop"
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 5


def test_content_that_comes_with_the_finish_is_a_token():
    """vLLM's last chunk holds text and finish reason together."""
    stream = read(ROLE, chunk("a"), chunk("b", "length"), USAGE + DONE)

    assert (stream.first_s, stream.last_s, stream.tokens) == (1.0, 2.0, 2)
    assert stream.finish_reason == "length"


def test_chunks_without_text_inside_a_stream_are_tokens():
    """Half a character has no text yet and took a step of the engine all the same."""
    stream = read(ROLE, chunk("a"), chunk(""), chunk("b", "stop"), DONE)

    assert stream.tokens == 3


@pytest.mark.parametrize(
    "token",
    [
        event({"choices": [{"index": 0, "text": "a"}]}),
        chunk(reasoning="hm"),
        chunk(reasoning_content="hm"),
        chunk(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
    ],
)
def test_anything_an_engine_can_say_is_output(token: bytes):
    """Completions, reasoning and tool calls have a first token as chats have."""
    assert read(token, DONE).first_s == 0.0


def test_one_token_is_first_and_last():
    """A stream of a single token has no time between tokens."""
    stream = read(ROLE, chunk("a", "length"), USAGE, DONE)

    assert (stream.first_s, stream.last_s, stream.tokens) == (1.0, 1.0, 1)


def test_a_stream_without_content_has_no_first_token():
    """An empty answer is complete and has no TTFT."""
    stream = read(ROLE, chunk("", "stop"), DONE)

    assert (stream.first_s, stream.last_s, stream.tokens) == (None, None, 0)
    assert stream.done
    assert stream.error is None


def test_an_error_event_is_found_before_and_after_the_first_token():
    """A failure inside a stream is seen wherever it comes."""
    broken = event({"error": {"message": "died", "type": "InternalServerError", "code": 500}})

    for stream in (read(broken, DONE), read(ROLE, chunk("a"), chunk("b"), broken + DONE)):
        assert stream.error == ("500 InternalServerError", "died")
    assert stream.tokens == 2


def test_what_is_no_event_at_all_is_an_error():
    """Broken JSON in a stream is reported, not raised."""
    stream = read(ROLE, b"data: {oops\n\n", DONE)

    assert stream.error is not None
    assert stream.error[0] == "invalid event"


def test_a_cut_last_line_is_not_the_end():
    """[DONE] counts when its line is complete."""
    assert not read(ROLE, chunk("a"), b"data: [DONE]").done
    assert read(ROLE, chunk("a"), b"data: [DONE]", b"\n").done


def test_keep_alive_comments_and_carriage_returns_are_no_tokens():
    """Other servers' framing of the same stream reads the same."""
    events = (ROLE, chunk("a"), chunk("b"), DONE)
    stream = read(*(SSE_COMMENT + data.replace(b"\n", b"\r\n") for data in events))

    assert (stream.first_s, stream.last_s, stream.tokens, stream.done) == (1.0, 2.0, 2, True)


@given(
    texts=st.lists(st.sampled_from(["a", " data: b", "\n\ndata: [DONE]", "", "é"]), max_size=30),
    tail=st.sampled_from([b"", USAGE, USAGE + DONE, DONE, SSE_COMMENT + DONE]),
    cuts=st.lists(st.integers(min_value=0, max_value=4000)),
)
def test_how_a_stream_is_cut_into_reads_does_not_matter(
    texts: list[str], tail: bytes, cuts: list[int]
):
    """Counts, the end and usage are the same for any split of the same bytes."""
    whole = b"".join([ROLE, *(chunk(text) for text in texts), chunk("", "stop"), tail])
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})

    at_once, in_parts = read(whole), read(*(whole[a:b] for a, b in pairwise(edges)))

    first = next((n for n, text in enumerate(texts) if text), len(texts))
    assert in_parts.tokens == at_once.tokens == len(texts) - first
    assert in_parts.done == at_once.done == tail.endswith(DONE)
    assert in_parts.usage == at_once.usage
    assert in_parts.finish_reason == at_once.finish_reason == "stop"
    assert (in_parts.first_s is None) == (at_once.first_s is None) == (first == len(texts))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 404, "type": "NotFoundError", "message": "no"}, "404 NotFoundError"),
        ({"code": "queue_full", "type": "rate_limit_error"}, "queue_full rate_limit_error"),
        ({"type": "NotFoundError", "code": "NotFoundError"}, "NotFoundError"),
        ({"message": "Model is overloaded", "http_status_code": 422}, "error"),
        ("plain words", "error"),
    ],
)
def test_errors_are_named_by_code_and_type(error: object, kind: str):
    """Every server's error object becomes a short kind to count by."""
    assert describe_error(error)[0] == kind

"""The few fields of a body that routing reads."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.routing.body import read_body, with_usage
from gateway.routing.endpoints import CHAT, COMPLETIONS, ENDPOINTS


def llm_request(endpoint="chat", **fields):
    return read_body(json.dumps(fields).encode(), ENDPOINTS[endpoint])


def test_a_chat_request():
    """Model, stream, cap and usage are read; the prompt's bytes are the messages' as received."""
    body = b'{"messages": [ {"role":"user","content":"h\\u00e9 \xc3\xa9"} ], "model":"m",'
    body += b'"stream":true,"max_tokens":7,"stream_options":{"include_usage":true,"x":1}}'
    found = read_body(body, CHAT)

    assert (found.model, found.stream, found.max_tokens, found.asks_usage) == ("m", True, 7, True)
    assert found.prompt_bytes == len(b'[ {"role":"user","content":"h\\u00e9 \xc3\xa9"} ]')
    assert found.prompt_tokens is None


def test_unknown_fields_are_skipped():
    """Engines have extensions without end; none of them is our business."""
    found = llm_request(
        model="m", vllm_xargs={"a": [1, {"b": None}]}, tools=[1], logit_bias={"5": -1}
    )

    assert repr(found) == repr(llm_request(model="m"))


def test_null_is_absent():
    """Clients send null for what they do not set."""
    found = llm_request(
        model=None, stream=None, max_tokens=None, max_completion_tokens=None, stream_options=None
    )

    assert repr(found) == repr(llm_request())
    assert (found.model, found.stream, found.max_tokens, found.asks_usage) == (
        None,
        False,
        None,
        False,
    )


@pytest.mark.parametrize(
    ("endpoint", "fields", "one"),
    [
        ("chat", {}, True),
        ("chat", {"n": 1}, True),
        ("chat", {"n": None}, True),
        ("chat", {"n": 2}, False),
        ("chat", {"n": "2"}, False),
        ("chat", {"messages": [{}, {}]}, True),
        ("completions", {"prompt": "one"}, True),
        ("completions", {"prompt": ["one", "two"]}, False),
        ("completions", {"prompt": [[1], [2]]}, False),
    ],
)
def test_who_asks_for_one_choice(endpoint, fields, one):
    """By `n`, and by the number of prompts."""
    assert llm_request(endpoint, **fields).one_choice is one


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ([1, 2, 3], 3),
        ([[1, 2], [3]], 3),
        ([7], 1),
        ("text, with, commas", None),
        (["a,b", "c"], None),
        ([], None),
        ([[]], None),
        ("", None),
        (None, None),
        ("[1, 2]", None),
        (5, None),
    ],
)
@pytest.mark.parametrize("endpoint", ["completions", "embeddings"])
def test_token_ids_are_counted(endpoint, prompt, tokens):
    """Only lists of ids are exact; text in any form is estimated from its bytes."""
    field = {"completions": "prompt", "embeddings": "input"}[endpoint]

    found = llm_request(endpoint, **{field: prompt})

    assert found.prompt_tokens == tokens
    assert found.prompt_bytes == len(json.dumps(prompt))


@given(st.lists(st.integers(0, 200_000), min_size=1), st.sampled_from([None, 0, 2]))
def test_token_ids_are_counted_however_they_are_written(ids, indent):
    """White space in the body does not change the count."""
    body = json.dumps({"prompt": ids}, indent=indent).encode()

    assert read_body(body, COMPLETIONS).prompt_tokens == len(ids)


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 0}, None),
        ({"max_tokens": -3}, None),
        ({"max_tokens": 10**25}, 10**25),
        ({}, None),
    ],
)
def test_the_cap(fields, cap):
    """The newer name wins; what is no cap is left to the backend to refuse."""
    assert llm_request(**fields).max_tokens == cap


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": 3}', "model"),
        (b'{"stream": "yes"}', "stream"),
        (b'{"max_tokens": "many"}', "max_tokens"),
        (b'{"max_tokens": 1.5}', "max_tokens"),
        (b'{"max_tokens": true}', "max_tokens"),
        (b'{"max_tokens": 1e999}', "max_tokens"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "max_tokens"),
        (b'{"stream_options": {"include_usage": 7}}', "stream_options.include_usage"),
        (b'{"stream_options": []}', "stream_options"),
    ],
)
def test_wrong_types_name_the_field(body, param):
    """A client learns which field was wrong."""
    with pytest.raises(BadRequest) as refused:
        read_body(body, CHAT)

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'"x"',
        b"null",
        b'{"model": "m"',
        b'{"model": "m"} x',
        b"{'model': 'm'}",
        b'{"model": "\xff"}',
        b"\xff\xfe{}",
        b'{"messages": [NaN]}',
        b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_a_bad_request(body):
    """Broken, binary and hostile bodies are the client's mistake, never ours."""
    with pytest.raises(BadRequest):
        read_body(body, CHAT)


@given(st.binary(max_size=60))
def test_no_body_is_an_internal_error(body):
    """Any bytes are either a request or a bad request."""
    for data in (body, b'{"model":' + body + b"}", b'{"model":"m","prompt":' + body + b"}"):
        with suppress(BadRequest):
            read_body(data, COMPLETIONS)


def test_the_last_of_duplicate_keys_counts():
    """As in Python's and the engines' own decoders."""
    found = read_body(b'{"model":"a","stream":true,"model":"b","stream":false}', CHAT)

    assert (found.model, found.stream) == ("b", False)


def test_it_is_as_lax_as_the_engines():
    """What vLLM takes for a number or a truth value is no reason to refuse a request."""
    body = b'{"max_tokens": "7", "stream": 1, "stream_options": {"include_usage": "true"}}'

    found = read_body(body, CHAT)

    assert (found.max_tokens, found.stream, found.asks_usage) == (7, True, True)
    assert read_body(b'{"max_tokens": 7.0}', CHAT).max_tokens == 7


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4),
    st.sampled_from(["", " ", "\n\t"]),
)
def test_usage_is_asked_for_without_touching_the_rest(fields, space):
    """The body says the same as before and asks for the usage; what the client says counts more."""
    body = (space + json.dumps(fields)).encode()

    asked = with_usage(body)

    if fields:
        assert asked is not None
        assert json.loads(asked) == {"stream_options": {"include_usage": True}} | fields
    else:
        assert asked is None

"""What a whole reply says was used."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.events import usage_of
from gateway.proxy.events_schema import WholeReply

USAGE = {"prompt_tokens": 11, "completion_tokens": 4}
DETAILS = USAGE | {"prompt_tokens_details": {"cached_tokens": 3}}


def said(reply):
    found = usage_of(reply)
    return found and (found.prompt_tokens, found.completion_tokens)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("usage", [USAGE, DETAILS, USAGE | {"note": "}"}])
@pytest.mark.parametrize("after", [{}, {"kv": None}, {"kv": {}}, {"meta": {"usage": {"usd": 1}}}])
def test_usage_is_found_wherever_it_stands(separators, usage, after):
    """Last or not, flat or not, compact or not."""
    for reply in (
        {"choices": [{"text": '"usage":{"completion_tokens":9}'}], "usage": usage, **after},
        {"usage": usage, "choices": [], **after},
    ):
        assert said(json.dumps(reply, separators=separators).encode()) == (11, 4)


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 3}}, 3),
        ({"input_tokens_details": {"cached_tokens": 3}}, 3),
        ({"cache_read_input_tokens": 3}, 3),
        ({"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}}, 0),
        ({"prompt_tokens_details": {"cached_tokens": 12}}, 11),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, 0),
        ({"prompt_tokens_details": None}, None),
        ({"prompt_tokens_details": {}}, None),
        ({"prompt_tokens_details": {"cached_tokens": True}}, None),
        ({"prompt_tokens_details": [3]}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("after", [{}, {"system_fingerprint": "x"}])
def test_prefix_hits_are_read_in_the_words_of_each_engine(details, cached, after):
    """Never more than the prompt; another shape hides neither the hits nor the sizes."""
    usage = USAGE | details | {"completion_tokens_details": {"reasoning_tokens": 1}}
    found = usage_of(json.dumps({"usage": usage, **after}, separators=(",", ":")).encode())

    assert found is not None
    assert (found.cached_tokens, found.prompt_tokens, found.completion_tokens) == (cached, 11, 4)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}])
def test_a_reply_may_say_nothing(usage):
    """Nothing is known then."""
    assert said(json.dumps({"usage": usage}, separators=(",", ":")).encode()) in (
        None,
        (None, None),
    )
    assert said(b'{"choices":[]}') is None


def test_what_is_cut_says_nothing():
    """At any place, and never an exception."""
    whole = json.dumps({"id": "a", "usage": DETAILS}, separators=(",", ":")).encode()
    for end in range(len(whole)):
        assert said(whole[:end]) in (None, (11, 4))


@given(st.binary(max_size=60), st.sampled_from([b"", b'"usage":{', b'{"usage":{', b"{}"]))
def test_garbage_says_nothing(data, before):
    """Whatever is read, reading all of it would have said the same, if that is possible."""
    found = said(before + data)
    try:
        usage = msgspec.json.decode(before + data, type=WholeReply).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert found == (usage and (usage.prompt_tokens, usage.completion_tokens))

"""The beginnings of prompts: known again by their bytes, told apart by what is before them."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.body import read_body
from gateway.routing.endpoints import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    TRANSCRIPTIONS,
)
from gateway.routing.prefix_trail import ENDS, FIRST, MOST, SEEN, WHOLE, trail_of

LONG = "a word and " * 2_000


def trail(body, endpoint=CHAT, *, salt=1, owner="", session=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return trail_of(read_body(data, endpoint), data, salt=salt, owner=owner, session=session)


def chat(*texts, **fields):
    messages = [{"role": "user", "content": text} for text in texts]
    return {"messages": messages, "model": "m", **fields}


def common(one, other):
    """How many beginnings two trails have in common."""
    pairs = zip(one.hashes, other.hashes, strict=False)
    return next(
        (n for n, (a, b) in enumerate(pairs) if a != b), min(map(len, (one.hashes, other.hashes)))
    )


def test_a_conversation_goes_on_with_the_same_beginnings():
    """The next turn has all beginnings of the one before, but for what its end cut off."""
    before, after = trail(chat(LONG)), trail(chat(LONG, "answer", "and " + LONG))

    shared = common(before, after)
    assert shared >= len(before.hashes) - 1
    assert before.ends[shared - 1] > 0.66 * len(LONG)
    assert len(after.hashes) > len(before.hashes)


@pytest.mark.parametrize("at", [0, 700, 3_000, 15_000])
@pytest.mark.parametrize("inserted", ["X", "another word "])
def test_prompts_part_where_they_differ(at, inserted):
    """No beginning that holds a difference is the same: what follows it has another place."""
    one, other = trail(chat(LONG)), trail(chat(LONG[:at] + inserted + LONG[at:]))

    shared = common(one, other)
    assert all(end <= at + 60 for end in one.ends[:shared])
    assert one.ends[shared] > at


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (chat(LONG), chat(LONG, model="n")),
        (chat(LONG), chat(LONG, tools=[{"type": "function", "function": {"name": "f"}}])),
        (chat(LONG, tools=[{"name": "f"}]), chat(LONG, tools=[{"name": "g"}])),
        (chat(LONG, cache_salt="a"), chat(LONG, cache_salt="b")),
    ],
)
def test_what_stands_before_a_prompt_tells_it_apart(one, other):
    """Another model or adapter, other tools and another salt: the engine has nothing of it."""
    assert common(trail(one), trail(other)) == 0


def test_a_system_prompt_beside_the_messages_is_a_beginning():
    """Anthropic's system prompt is one by itself, and tells prompts apart."""
    one = trail({"system": LONG, "messages": chat("a" * 2_000)["messages"]}, MESSAGES)
    other = trail({"system": LONG, "messages": chat("b" * 2_000)["messages"]}, MESSAGES)
    third = trail({"system": LONG + ".", "messages": chat("a" * 2_000)["messages"]}, MESSAGES)

    assert common(one, other) == 1
    assert one.ends[0] / one.total > 0.85
    assert common(one, third) == 0


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        ({"prompt": LONG}, COMPLETIONS),
        ({"prompt": list(range(2_000))}, COMPLETIONS),
        ({"input": LONG}, RESPONSES),
        (chat(LONG), MESSAGES),
    ],
)
def test_every_endpoint_that_generates_has_trails(body, endpoint):
    """Text or token ids, whatever the prompt is called."""
    assert len(trail(body, endpoint).hashes) > 5


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (chat("short"), CHAT),
        ({"input": LONG}, EMBEDDINGS),
        ({"prompt": [LONG, LONG]}, COMPLETIONS),
        ({"model": "m", "other": LONG}, CHAT),
    ],
)
def test_what_cannot_be_known_again_has_none(body, endpoint):
    """Short prompts, lists of prompts, endpoints that generate nothing."""
    assert trail(body, endpoint) is None


def test_a_part_of_a_list_of_prompts_has_none():
    """The part is one prompt, but the body at hand is that of the whole list."""
    whole = json.dumps({"prompt": [LONG, LONG]}).encode()
    part = read_body(json.dumps({"prompt": LONG}).encode(), COMPLETIONS)

    assert trail_of(part, whole, salt=1) is None


def test_an_upload_has_none():
    """Its body is a form."""
    form = (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n' + b"x" * 4096
    )

    assert trail_of(read_body(form, TRANSCRIPTIONS), form, salt=1) is None


def test_nothing_is_common_under_another_salt_or_owner():
    """Who has the hashes and not the salt cannot try a guess; callers may be kept apart."""
    assert common(trail(chat(LONG)), trail(chat(LONG), salt=2)) == 0
    assert common(trail(chat(LONG), owner="a"), trail(chat(LONG), owner="b")) == 0


def test_a_session_is_known_by_its_name():
    """By the header, else by the body's key; also of a short prompt."""
    by_header = trail(chat("short"), session=b"one")
    by_key = trail(chat("short", prompt_cache_key="one"))

    assert by_header.session
    assert by_key.session == trail(chat("other", prompt_cache_key="one")).session
    assert by_key.session != trail(chat("short", prompt_cache_key="two")).session
    assert trail(chat("short", prompt_cache_key=7)) is None


def test_a_long_prompt_costs_no_more_than_its_ends():
    """Of a long piece both ends are looked at, so that a megabyte is not hashed."""
    longest = [b - a for a, b in pairwise(ENDS)]
    seen = sum(piece if piece <= WHOLE else 2 * SEEN for piece in longest) + FIRST

    assert seen <= 64 * 1024
    assert len(trail(chat("x" * (2 * MOST))).hashes) == len(ENDS)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=4096))
def test_no_body_breaks_it(noise):
    """Whatever stands around the key: a trail, or none."""
    body = noise + b'"messages"' + noise
    asked = read_body(b'{"messages": []}', CHAT)
    made = trail_of(asked, body, salt=1)

    assert made is None or made.ends == sorted(made.ends)

"""Where answers stop, and the ids and numbers of tokens that can be asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.emulator.server import Emulator
from loadtest.emulator.stopping import StopRule, stopped
from planner.engine.profiles import find_profile

MODEL = "tiny"
CHAT_PATH, TEXT_PATH = "/v1/chat/completions", "/v1/completions"
TEXT: dict[str, Any] = {"prompt": "one two three", "max_tokens": 12, "ignore_eos": True}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "tell me a story"}],
    "max_tokens": 12,
    "ignore_eos": True,
}


@pytest.fixture
async def session():
    """A client of an emulated engine with a context of 1,000 tokens."""
    profile = replace(find_profile("llama-3-8b/H100", Path()), max_model_len=1000)
    emulator = Emulator(profile, MODEL)
    await emulator.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{emulator.port}") as made:
        yield made
    await emulator.stop()


async def post(session, path, body):
    async with session.post(path, json=body) as response:
        return response.status, await response.json()


async def events(session, path, body):
    """The JSON events of one stream."""
    async with session.post(path, json={**body, "stream": True}) as response:
        lines = (await response.text()).split("\n")
    data = [line[6:] for line in lines if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


def text_of(choice):
    return choice["text"] if "text" in choice else choice["message"]["content"]


@pytest.mark.parametrize(("path", "body"), [(CHAT_PATH, CHAT), (TEXT_PATH, TEXT)])
async def test_a_stop_string_cuts_the_text(session, path, body):
    """Before it, or behind it if it is to be shown; the tokens that it took count. A stream says
    the same, and never shows what turned out to be a part of it."""
    _, whole = await post(session, path, body)
    words = text_of(whole["choices"][0]).split(" ")
    stop = f"{words[4]} {words[5]}"
    usage = {"stream_options": {"include_usage": True}}
    _, cut = await post(session, path, body | {"stop": [stop]})
    _, kept = await post(session, path, body | {"stop": stop, "include_stop_str_in_output": True})
    streamed = await events(session, path, body | {"stop": stop} | usage)

    choice = cut["choices"][0]
    assert text_of(choice) == " ".join(words[:4]) + " "
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert cut["usage"]["completion_tokens"] == 6
    assert text_of(kept["choices"][0]) == " ".join(words[:6])
    choices = [event["choices"][0] for event in streamed if event["choices"]]
    texts = [c["text"] if "text" in c else c["delta"]["content"] for c in choices]
    assert "".join(texts) == text_of(choice)
    assert (choices[-1]["finish_reason"], choices[-1]["stop_reason"]) == ("stop", stop)
    assert streamed[-1]["usage"]["completion_tokens"] == 6


async def test_a_stop_string_that_does_not_come_changes_nothing(session):
    """But that a stream may show its text later."""
    _, whole = await post(session, TEXT_PATH, TEXT)
    _, other = await post(session, TEXT_PATH, TEXT | {"stop": ["never said"]})
    streamed = await events(session, TEXT_PATH, TEXT | {"stop": ["never said"]})

    assert text_of(other["choices"][0]) == text_of(whole["choices"][0])
    assert other["choices"][0]["stop_reason"] is None
    assert "".join(e["choices"][0]["text"] for e in streamed) == text_of(whole["choices"][0])


async def test_no_stop_string_counts_before_the_least_tokens(session):
    """As `min_tokens` has it."""
    _, whole = await post(session, TEXT_PATH, TEXT)
    first = text_of(whole["choices"][0]).split(" ")[0]
    _, later = await post(session, TEXT_PATH, TEXT | {"stop": [first], "min_tokens": 3})

    assert later["usage"]["completion_tokens"] > 3


async def test_every_choice_stops_by_itself(session):
    """Two answers to one prompt differ, and only one may have the words."""
    _, whole = await post(session, TEXT_PATH, TEXT | {"n": 2})
    word = text_of(whole["choices"][0]).split(" ")[3]
    _, cut = await post(session, TEXT_PATH, TEXT | {"n": 2, "stop": [word]})

    for before, after in zip(whole["choices"], cut["choices"], strict=True):
        assert text_of(after) == text_of(before).partition(word)[0]


@given(
    st.lists(st.text("ab ", max_size=3), min_size=1, max_size=12),
    st.lists(st.text("ab ", min_size=1, max_size=4), min_size=1, max_size=3),
    st.booleans(),
)
def test_what_is_shown_is_the_text_until_the_first_stop(texts, strings, shows):
    """Token by token as at once, and no stop string in it."""
    found = stopped(texts, StopRule(tuple(strings), shows, 0))

    shown, generated = "".join(found.shown), "".join(texts[: len(found.shown)])
    assert generated.startswith(shown)
    if found.by is None:
        assert shown == "".join(texts)
        assert not any(each in shown for each in strings)
    else:
        assert not any(each in "".join(texts[: len(found.shown) - 1]) for each in strings)
        assert (shown + ("" if shows else found.by)) in generated
        assert not shows or shown.endswith(found.by)


async def test_token_ids_are_told_if_they_are_asked_for(session):
    """Of the prompt once, and of each chunk; a prompt that came as ids has these."""
    ids = {"return_token_ids": True}
    _, chat = await post(session, CHAT_PATH, CHAT | ids)
    streamed = await events(session, CHAT_PATH, CHAT | ids)
    _, text = await post(session, TEXT_PATH, TEXT | ids | {"prompt": [5, 6, 7]})
    pieces = await events(session, TEXT_PATH, TEXT | ids)
    _, silent = await post(session, CHAT_PATH, CHAT)

    output = chat["choices"][0]["token_ids"]
    assert len(output) == chat["usage"]["completion_tokens"] == 12
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]
    assert streamed[0]["prompt_token_ids"] == chat["prompt_token_ids"]
    assert [i for e in streamed[1:] for i in e["choices"][0]["token_ids"]] == output
    assert text["choices"][0]["prompt_token_ids"] == [5, 6, 7]
    of_prompt = [piece["choices"][0]["prompt_token_ids"] for piece in pieces]
    assert len(of_prompt[0]) == 3
    assert not any(of_prompt[1:])
    assert silent["choices"][0]["token_ids"] is silent["prompt_token_ids"] is None


async def test_the_prompt_has_log_probabilities(session):
    """One entry a token by its id, with its alternatives; none of the first. Not in streams."""
    wanted = {"prompt_logprobs": 2}
    _, chat = await post(session, CHAT_PATH, CHAT | wanted)
    _, text = await post(session, TEXT_PATH, TEXT | wanted)
    status, refused = await post(session, CHAT_PATH, CHAT | wanted | {"stream": True})
    too_many, _ = await post(session, CHAT_PATH, CHAT | {"prompt_logprobs": 99})

    rows = text["choices"][0]["prompt_logprobs"]
    assert rows[0] is None
    assert len(rows) == 3
    for row in rows[1:]:
        assert {entry["rank"] for entry in row.values()} == {1, 2, 3}
        assert all(set(entry) == {"logprob", "rank", "decoded_token"} for entry in row.values())
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]
    assert (status, too_many) == (400, 400)
    assert "not available when `stream=True`" in refused["error"]["message"]

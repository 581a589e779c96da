"""What an emulated engine can answer beside words: choices, tools, JSON, numbers, dialects."""

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from loadtest.emulator.faults import NONE, Faults
from loadtest.emulator.server import Emulator
from planner.engine.profiles import Profile, find_profile

MODEL = "tiny"
CHAT_PATH, TEXT_PATH = "/v1/chat/completions", "/v1/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "tell me a story"}]}
LONG = {"max_tokens": 60, "ignore_eos": True}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Rome"]},
        "days": {"type": "integer", "minimum": 3},
        "near": {"type": "array", "items": {"type": "string", "maxLength": 2}},
    },
}
ARGUMENTS = {"city": "Oslo", "days": 3, "near": ["su"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "weather"}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def profile() -> Profile:
    """A large model's pace, with a context of 1,000 tokens."""
    return replace(find_profile("llama-3-8b/H100", Path()), max_model_len=1000)


@contextlib.asynccontextmanager
async def running(**options):
    """A served emulator and a client session bound to it."""
    emulator = Emulator(profile(), MODEL, **options)
    await emulator.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{emulator.port}") as session:
            yield emulator, session
    finally:
        await emulator.stop()


@contextlib.asynccontextmanager
async def sdk(**options):
    """The official client of a served emulator."""
    async with running(**options) as (emulator, _):
        url = f"http://127.0.0.1:{emulator.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            yield client


async def post(session, path, body):
    """Status and decoded body of one request."""
    async with session.post(path, json=body) as response:
        return response.status, await response.json()


async def events(session, path, body):
    """The JSON events of one stream, without [DONE]."""
    async with session.post(path, json={**body, "stream": True}) as response:
        text = await response.text()
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def until(condition):
    """Lets the loop run until the condition holds, for five seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (there is no event to await)
            await asyncio.sleep(0)


@pytest.mark.parametrize("temperature", [None, 0.9])
async def test_n_answers_are_n_sequences(temperature):
    """Each choice runs by itself in the engine; the prompt counts once in the usage."""
    body = {**CHAT, **LONG, "n": 3, "temperature": temperature}
    async with running() as (emulator, session):
        answer = asyncio.create_task(post(session, CHAT_PATH, body))
        await until(lambda: emulator.engine.running == 3)
        status, whole = await answer
        options = {"stream_options": {"include_usage": True}}
        *content, usage = await events(session, CHAT_PATH, body | options)

    assert status == 200
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in whole["choices"]}) == 3
    assert whole["usage"]["prompt_tokens"] == usage["usage"]["prompt_tokens"] == 11
    assert whole["usage"]["completion_tokens"] == usage["usage"]["completion_tokens"] == 180
    indices = [event["choices"][0]["index"] for event in content]
    assert [indices.count(index) for index in range(3)] == [61] * 3


async def test_lists_of_prompts_times_n_are_sequences():
    """Choices are numbered prompt by prompt; each last chunk has the fingerprint."""
    body = {"prompt": ["a b", "c"], "n": 2, "max_tokens": 2, "ignore_eos": True}
    async with running() as (_, session):
        _, whole = await post(session, TEXT_PATH, body)
        streamed = await events(session, TEXT_PATH, body)

    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2, 3]
    assert whole["usage"] | {"x": 0} == whole["usage"] | {"x": 0, "prompt_tokens": 3}
    assert whole["usage"]["completion_tokens"] == 8
    last = [event for event in streamed if event["choices"][0]["finish_reason"]]
    assert len(last) == 4
    assert all("system_fingerprint" in event for event in last)


@pytest.mark.parametrize("stream", [False, True])
async def test_best_of_runs_more_than_it_answers(stream):
    """The engine has `best_of` sequences, the answer `n` choices."""
    body = {"prompt": "a", **LONG, "n": 1, "best_of": 3, "stream": stream}
    async with running() as (emulator, session):
        task = asyncio.create_task(session.post(TEXT_PATH, json=body))
        await until(lambda: emulator.engine.running == 3)
        async with await task as response:
            text = await response.text()
        await until(lambda: emulator.engine.running == 0)

    assert ('"index":0' in text, '"index":1' in text) == (True, False)
    assert emulator.engine.generation_tokens == 180


async def test_a_busy_front_end_sends_several_tokens_in_an_event():
    """With more sequences than it has events for; usage and text are the same as in peace."""
    body = {**CHAT, **LONG, "n": 4, "stream_options": {"include_usage": True}}
    async with running(events_per_step=1) as (_, session):
        busy = await events(session, CHAT_PATH, body)
    async with running() as (_, session):
        calm = await events(session, CHAT_PATH, body)

    def text(stream, index):
        choices = (event["choices"][0] for event in stream[:-1])
        return "".join(c["delta"]["content"] for c in choices if c["index"] == index)

    assert len(busy) < len(calm) / 2
    assert busy[-1]["usage"] == calm[-1]["usage"]
    assert [text(busy, index) for index in range(4)] == [text(calm, index) for index in range(4)]


@pytest.mark.parametrize(("choice", "reason"), [(NAMED, "stop"), ("required", "tool_calls")])
async def test_a_forced_tool_is_called(choice, reason):
    """Whole and streamed: the function's name, and arguments that fit its schema."""
    async with sdk() as client:
        request = {**CHAT, "model": MODEL, "tools": [TOOL], "tool_choice": choice}
        whole = await client.chat.completions.create(**request)
        stream = [
            chunk async for chunk in await client.chat.completions.create(**request, stream=True)
        ]

    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", ARGUMENTS)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", reason)
    calls = [c for chunk in stream for c in chunk.choices[0].delta.tool_calls or []]
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", None)
    assert all(one.id.startswith("chatcmpl-tool-") for one in (call, calls[0]))
    arguments = "".join(call.function.arguments for call in calls[1:])
    assert json.loads(arguments) == ARGUMENTS
    assert stream[-1].choices[0].finish_reason == reason


async def test_the_model_calls_a_tool_once():
    """With the parser `auto` calls; after the tool's answer, and with `none`, it speaks."""
    result = [*CHAT["messages"], {"role": "tool", "content": "rain"}]
    async with running(tool_parser=True) as (_, session):
        body = {**CHAT, "tools": [TOOL], "max_tokens": 60}
        _, called = await post(session, CHAT_PATH, body)
        _, spoken = await post(session, CHAT_PATH, body | {"messages": result})
        _, told = await post(session, CHAT_PATH, body | {"tool_choice": "none"})

    assert called["choices"][0]["finish_reason"] == "tool_calls"
    assert called["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    for answer in (spoken, told):
        assert "tool_calls" not in answer["choices"][0]["message"]
        assert answer["choices"][0]["message"]["content"]


async def test_an_unknown_tool_is_refused():
    """A choice that is none of the tools is an error and no call."""
    choice = {"type": "function", "function": {"name": "no"}}
    async with running() as (_, session):
        status, answer = await post(
            session, CHAT_PATH, {**CHAT, "tools": [TOOL], "tool_choice": choice}
        )

    assert status == 400
    assert "does not match any of the specified `tools`" in answer["error"]["message"]


@pytest.mark.parametrize("extra", [{}, {"vllm_xargs": {"output_tokens": 40}}])
@pytest.mark.parametrize(
    "form",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {"structured_outputs": {"json": SCHEMA}},
    ],
)
async def test_json_fits_its_schema_at_any_length(form, extra):
    """White space makes it as long as was asked; a stream says the same."""
    async with running() as (_, session):
        _, whole = await post(session, CHAT_PATH, {**CHAT, **form, **extra})
        streamed = await events(session, CHAT_PATH, {**CHAT, **form, **extra})

    choice = whole["choices"][0]
    assert json.loads(choice["message"]["content"]) == ARGUMENTS
    assert choice["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 40 or not extra
    *told, last = (event["choices"][0]["delta"] for event in streamed)
    assert json.loads("".join(delta["content"] for delta in told)) == ARGUMENTS
    assert last == {}


async def test_json_that_is_cut_is_not_json():
    """max_tokens ends a structure as it ends words."""
    body = {**CHAT, "response_format": {"type": "json_object"}, "max_tokens": 3}
    async with running() as (_, session):
        _, cut = await post(session, CHAT_PATH, body)
        _, whole = await post(session, CHAT_PATH, body | {"max_tokens": 90})

    assert cut["choices"][0]["finish_reason"] == "length"
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(cut["choices"][0]["message"]["content"])
    assert isinstance(json.loads(whole["choices"][0]["message"]["content"]), dict)


async def test_every_token_has_its_log_probability():
    """Chats: one entry a token with its alternatives; streamed chunks carry their own."""
    body = {**CHAT, "max_tokens": 4, "ignore_eos": True, "logprobs": True, "top_logprobs": 2}
    async with running() as (_, session):
        _, whole = await post(session, CHAT_PATH, body)
        streamed = await events(session, CHAT_PATH, body)

    entries = whole["choices"][0]["logprobs"]["content"]
    message = whole["choices"][0]["message"]["content"]
    assert "".join(entry["token"] for entry in entries) == message
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)
    assert all(entry["logprob"] < 0 for entry in entries)
    chunks = [event["choices"][0] for event in streamed[1:]]
    assert [len(chunk["logprobs"]["content"]) for chunk in chunks] == [1] * 4


async def test_a_completion_repeats_its_prompt_with_numbers():
    """Echo puts the prompt before the text; its first token has no log probability."""
    body = {"prompt": "one two", "max_tokens": 2, "ignore_eos": True, "echo": True, "logprobs": 1}
    async with running() as (_, session):
        _, whole = await post(session, TEXT_PATH, body)
        streamed = await events(session, TEXT_PATH, body)

    choice = whole["choices"][0]
    shown = choice["logprobs"]
    assert choice["text"].startswith("one two")
    assert "".join(shown["tokens"]) == choice["text"]
    assert shown["token_logprobs"][0] is None
    assert shown["text_offset"][:2] == [0, 3]
    assert len(shown["tokens"]) == len(shown["text_offset"]) == len(shown["top_logprobs"]) == 4
    text = "".join(event["choices"][0]["text"] for event in streamed)
    assert (text[:8], len(text.split())) == ("one two ", 4)
    chunks = [event["choices"][0]["logprobs"] for event in streamed]
    assert [len(chunk["tokens"]) for chunk in chunks] == [3, 1]
    assert text[chunks[1]["text_offset"][0] :] == chunks[1]["tokens"][0]


async def test_pictures_have_the_tokens_that_the_engine_says():
    """Each one as many; the same picture is a prefix hit, another one is not."""
    parts = [PICTURE, {"type": "text", "text": "what is it"}]
    other = [{**PICTURE, "image_url": {"url": "http://x/y.png"}}, parts[1]]

    def body(content):
        return {"messages": [{"role": "user", "content": content}], "max_tokens": 1}

    async with running(image_tokens=100, prefix_cache=True) as (_, session):
        usages = [
            (await post(session, CHAT_PATH, body(content)))[1]["usage"]
            for content in (parts, parts, other)
        ]

    assert [usage["prompt_tokens"] for usage in usages] == [110] * 3
    details = [usage["prompt_tokens_details"] for usage in usages]
    assert [detail["multimodal_tokens"] for detail in details] == [100] * 3
    assert [detail["cached_tokens"] for detail in details] == [0, 96, 0]


async def test_all_names_are_served():
    """Aliases answer under the first name, adapters under their own; errors list all."""
    async with running(aliases=["small"], loras=["sql"]) as (_, session):
        names = [
            (await post(session, CHAT_PATH, {**CHAT, "model": name, "max_tokens": 1}))[1]["model"]
            for name in (MODEL, "small", "sql")
        ]
        status, refused = await post(session, CHAT_PATH, {**CHAT, "model": "no"})
        async with session.get("/v1/models") as response:
            rows = (await response.json())["data"]

    assert names == [MODEL, MODEL, "sql"]
    assert status == 404
    assert "Valid aliases: tiny, small, sql." in refused["error"]["message"]
    assert [(row["id"], row["parent"]) for row in rows] == [
        ("tiny", None), ("small", None), ("sql", "tiny"),
    ]  # fmt: skip


@pytest.mark.parametrize("tools", [False, True])
async def test_the_responses_api(tools):
    """The official client reads the whole response and its events, in vLLM's order."""
    request: dict[str, Any] = {"model": MODEL, "input": "hello", "instructions": "be brief"}
    if tools:
        function = TOOL["function"]
        assert isinstance(function, dict)
        request |= {"tools": [{"type": "function", **function}], "tool_choice": "required"}
    else:
        request["max_output_tokens"] = 3
    async with sdk() as client:
        whole = await client.responses.create(**request)
        stream = [event async for event in await client.responses.create(**request, stream=True)]

    kinds = [event.type for event in stream]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[-2:] == ["response.output_item.done", "response.completed"]
    assert [event.sequence_number for event in stream] == list(range(len(stream)))
    done = stream[-1].response
    assert done.usage.input_tokens == whole.usage.input_tokens
    assert (whole.usage.input_tokens > 14) == tools  # a tool is described in the prompt
    if tools:
        deltas = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        assert json.loads("".join(deltas)) == json.loads(whole.output[0].arguments) == ARGUMENTS
        assert (whole.status, whole.output[0].name) == ("completed", "weather")
    else:
        deltas = [e.delta for e in stream if e.type == "response.output_text.delta"]
        assert len(deltas) == done.usage.output_tokens == 3
        assert "".join(deltas) == done.output_text
        assert (whole.status, whole.incomplete_details.reason) == (
            "incomplete", "max_output_tokens",
        )  # fmt: skip


async def test_a_response_begins_before_its_first_token():
    """`response.created` says nothing of when the model speaks."""
    async with running(faults=Faults(stall_after=0)) as (_, session):
        body = {"input": "hello", "stream": True, "max_output_tokens": 50}
        async with session.post("/v1/responses", json=body) as response:
            seen = b""
            while b"response.in_progress" not in seen:
                seen += await response.content.readany()

    assert b"output_item" not in seen


@pytest.mark.parametrize("stop", ["end_turn", "max_tokens", "tool_use"])
async def test_the_messages_api(stop):
    """Whole and streamed, with vLLM's event names: a message of one block, or a tool's use."""
    body: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 3 if stop == "max_tokens" else 90,
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello you"}]}],
        "vllm_xargs": {"output_tokens": 50},
    }
    if stop == "tool_use":
        body |= {"tools": [{"name": "weather", "input_schema": SCHEMA}]}
        body |= {"tool_choice": {"type": "tool", "name": "weather"}}
    async with running() as (_, session):
        status, whole = await post(session, "/v1/messages", body)
        stream = await events(session, "/v1/messages", body)
        _, count = await post(session, "/v1/messages/count_tokens", body)

    (block,) = whole["content"]
    assert (status, whole["type"], whole["stop_reason"]) == (200, "message", stop)
    assert count["input_tokens"] == whole["usage"]["input_tokens"]
    kinds = [event["type"] for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert stream[-2]["delta"]["stop_reason"] == stop
    assert stream[-2]["usage"] == whole["usage"]
    if stop == "tool_use":
        assert (block["name"], block["input"]) == ("weather", ARGUMENTS)
        parts = [event["delta"]["partial_json"] for event in stream[2:-3]]
        assert json.loads("".join(parts)) == ARGUMENTS
    else:
        text = "".join(event["delta"]["text"] for event in stream[2:-3])
        assert len(text.split()) == len(block["text"].split()) > 0


async def test_messages_are_refused_in_their_own_shape():
    """What the engine rejects has Anthropic's shape; what the schema rejects has vLLM's."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    async with running(max_num_queued_reqs=0) as (_, session):
        status, answer = await post(session, "/v1/messages", body | {"max_tokens": 10**6})
        _, nothing = await post(session, "/v1/messages", body | {"max_tokens": 0})
        _, alien = await post(
            session, "/v1/messages", body | {"messages": [{"role": "alien", "content": "hi"}]}
        )
        full = await post(session, "/v1/messages", body)

    assert status == 400
    assert (answer["type"], answer["error"]["type"]) == ("error", "BadRequestError")
    assert nothing["error"]["param"] == "body.max_tokens"
    assert alien["error"]["param"] == "body.messages.0.role"
    assert (full[0], full[1]["type"]) == (503, "error")
    assert "currently busy" in full[1]["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "mark"),
    [
        ("/v1/messages", {**CHAT, "max_tokens": 900}, "message_stop"),
        ("/v1/responses", {"input": "hello"}, "response.completed"),
    ],
)
async def test_every_dialect_ends_when_the_engine_stops(path, body, mark):
    """With what there is of the answer, and never as a whole one."""
    body = {**body, "stream": True, "ignore_eos": True}
    async with running(faults=replace(NONE, on_term="abort")) as (emulator, session):
        async with session.post(path, json=body) as response:
            await until(lambda: emulator.engine.generation_tokens > 2)
            stopping = asyncio.create_task(emulator.terminate())
            text = await response.text()
        await stopping

    assert mark in text
    assert '"end_turn"' not in text
    assert '"status":"completed","text"' not in text


async def test_load_counts_if_it_is_tracked():
    """Without the flag it says 0, as vLLM's; with it, what runs and waits."""
    for tracked, expected in ((False, 0), (True, 2)):
        async with running(load_tracking=tracked) as (emulator, session):
            task = asyncio.create_task(post(session, CHAT_PATH, {**CHAT, **LONG, "n": 2}))
            await until(lambda engine=emulator.engine: engine.running == 2)
            async with session.get("/load") as response:
                assert await response.json() == {"server_load": expected}
            await task


async def test_words_come_back_from_their_ids():
    """/detokenize knows what the model says."""
    async with running() as (_, session):
        _, tokens = await post(session, "/tokenize", {"prompt": "the sun rose"})
        _, text = await post(session, "/detokenize", {"tokens": tokens["tokens"]})

    assert text == {"prompt": "the sun rose"}


@pytest.mark.parametrize(("path", "prompt"), [(CHAT_PATH, CHAT), (TEXT_PATH, {"prompt": "ba"})])
async def test_the_token_that_ends_an_answer_shows_nothing(path, prompt):
    """It counts as one of the output, and the last event of a stream has no text."""
    body = {**prompt, "vllm_xargs": {"output_tokens": 5}, "max_tokens": 20}
    async with running() as (_, session):
        _, whole = await post(session, path, body)
        streamed = await events(session, path, body)
        _, cut = await post(session, path, body | {"max_tokens": 4})

    def said(answer):
        (choice,) = answer["choices"]
        return choice.get("text") or choice["message"]["content"], choice["finish_reason"]

    assert whole["usage"]["completion_tokens"] == 5
    assert (len(said(whole)[0].split()), said(whole)[1]) == (4, "stop")
    assert (len(said(cut)[0].split()), said(cut)[1]) == (4, "length")
    (last,) = streamed[-1]["choices"]
    assert last["finish_reason"] == "stop"
    assert last.get("delta", {}) == {}
    assert last.get("text", "") == ""


async def test_a_call_that_is_cut_is_a_text():
    """As the model writes calls; a stream has sent its parts before it is known."""
    body = {**CHAT, "tools": [TOOL], "tool_choice": NAMED, "max_tokens": 6}
    function = {"type": "function", "name": "weather", "parameters": SCHEMA}
    turn = {"input": "hello", "tools": [function]}
    async with running() as (_, session):
        _, chat = await post(session, CHAT_PATH, body)
        streamed = await events(session, CHAT_PATH, body)
        _, response = await post(
            session, "/v1/responses", {**turn, "tool_choice": "required", "max_output_tokens": 6}
        )

    (choice,) = chat["choices"]
    assert choice["message"]["content"].startswith('<tool_call>{"name": "weather"')
    assert ("tool_calls" in choice["message"], choice["finish_reason"]) == (False, "length")
    assert "tool_calls" in streamed[-1]["choices"][0]["delta"]
    assert [item["type"] for item in response["output"]] == ["message"]


async def test_a_message_says_what_stopped_it_and_what_was_cached():
    """With the prefix hits where the engine tells them, at the end and not at the start."""
    body = {
        "messages": [{"role": "user", "content": "tell " * 40}], "max_tokens": 90,
        "vllm_xargs": {"output_tokens": 80}, "stop_sequences": [" a"],
    }  # fmt: skip
    async with running(prefix_cache=True) as (_, session):
        await post(session, "/v1/messages", body)
        _, whole = await post(session, "/v1/messages", body)
        streamed = await events(session, "/v1/messages", body)

    assert (whole["stop_reason"], whole["stop_sequence"]) == ("stop_sequence", " a")
    assert whole["usage"]["cache_creation_input_tokens"] == 0
    assert whole["usage"]["cache_read_input_tokens"] > 0
    assert set(streamed[0]["message"]["usage"]) == {"input_tokens", "output_tokens"}
    assert streamed[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": " a"}
    assert streamed[-2]["usage"] == whole["usage"]


async def test_fields_of_a_responses_events_stand_in_the_order_of_their_names():
    async with running() as (_, session):
        body = {"input": "hello", "max_output_tokens": 3, "ignore_eos": True}
        streamed = await events(session, "/v1/responses", body)

    assert len(streamed) > 5
    assert all(list(event) == sorted(event) for event in streamed)

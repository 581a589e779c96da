"""The emulated engine over real sockets: vLLM's API as recorded, at the engine model's pace."""

import asyncio
import base64
import contextlib
import json
import struct
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.emulator.faults import Faults
from loadtest.emulator.prompts import count_tokens
from loadtest.emulator.server import Emulator
from planner.engine import catalogue
from planner.engine.hardware import ENGINES
from planner.engine.profiles import analytic
from planner.engine.roofline import roofline
from planner.errors import InvalidValue

MODEL = "tiny"
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "tell me a story"}],
}
LONG = {"max_tokens": 900, "ignore_eos": True}


def profile(max_model_len=1000, iteration_s=0.0005):
    """A small model on an H100: an iteration takes little more than `iteration_s`."""
    engine = replace(
        ENGINES["vllm-v1"],
        iteration_s=iteration_s,
        layer_s=0.0,
        prefill_floor_s=0.0,
        request_s=0.0,
        sequence_s=0.0,
    )
    model = msgspec.structs.replace(
        catalogue.models()["Llama-3-8B"], parameters=2e8, layers=2, hidden=64
    )
    return analytic(
        roofline(catalogue.gpus()["H100"], model, engine),
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=max_model_len,
    )


@contextlib.asynccontextmanager
async def running(**options):
    """A served emulator and a client session bound to it."""
    engine_profile = options.pop("profile", None) or profile()
    emulator = Emulator(engine_profile, MODEL, **options)
    await emulator.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{emulator.port}") as session:
            yield emulator, session
    finally:
        await emulator.stop()


async def post(session, path, body, **options):
    """Status and decoded body of one unary request."""
    async with session.post(path, json=body, **options) as response:
        return response.status, await response.json()


async def raw(emulator, body, *, path="/v1/chat/completions", headers="", version="1.1"):
    """The whole answer to one request on a connection of its own, as bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", emulator.port)
    data = json.dumps(body)
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\n{headers}"
    writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n{data}".encode())
    answer = await reader.read()
    writer.close()
    return answer


def http_chunks(answer):
    """The HTTP chunks of a complete chunked answer."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    chunks = []
    while rest != b"0\r\n\r\n":
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        assert rest[int(size, 16) :].startswith(b"\r\n")
        rest = rest[int(size, 16) + 2 :]
    return chunks


def events(answer):
    """The JSON events of a stream; its last is [DONE]."""
    *data, done = http_chunks(answer)
    assert done == b"data: [DONE]\n\n"
    assert all(chunk.startswith(b"data: {") and chunk.endswith(b"}\n\n") for chunk in data)
    return [json.loads(chunk[6:]) for chunk in data]


async def until(condition):
    """Lets the loop run until the condition holds, for five seconds at most."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + 5
    while not condition() and loop.time() < end_s:  # noqa: ASYNC110 (there is no event to await)
        await asyncio.sleep(0)
    assert condition()


async def test_a_chat_stream_is_framed_as_recorded():
    """Role chunk, one chunk a token, finish_reason on the last, usage if asked for, [DONE]."""
    async with running() as (emulator, _):
        options = {"stream": True, "stream_options": {"include_usage": True}}

        answer = await raw(emulator, {**CHAT, **options, "max_tokens": 4, "ignore_eos": True})

    role, *content, usage = events(answer)
    base = '{"id":"%s","object":"chat.completion.chunk","created":%d,"model":"tiny",'
    start = base % (role["id"], role["created"])
    words = [chunk["choices"][0]["delta"]["content"] for chunk in content]
    delta = '"choices":[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":'
    plain = [f'{delta % word}null,"token_ids":null}}]}}' for word in words]
    last = f'{delta % words[-1]}"length","stop_reason":null,"token_ids":null}}]}}'
    assert [chunk.decode() for chunk in http_chunks(answer)] == [
        f"data: {start}"
        '"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
        '"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}\n\n',
        *(f"data: {start}{chunk}\n\n" for chunk in plain[:-1]),
        f"data: {start}{last}\n\n",
        f'data: {start}"choices":[],'
        '"usage":{"prompt_tokens":11,"total_tokens":15,"completion_tokens":4},'
        f'"system_fingerprint":"{usage["system_fingerprint"]}"}}\n\n',
        "data: [DONE]\n\n",
    ]
    assert len(content) == 4
    assert role["id"].startswith("chatcmpl-")


async def test_the_stream_head_is_vllms():
    """An event stream by uvicorn, chunked, without a request id."""
    async with running() as (emulator, _):
        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 1})

    head = answer.partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")
    assert head[0] == "http/1.1 200 ok"
    assert "content-type: text/event-stream; charset=utf-8" in head
    assert "server: uvicorn" in head
    assert not any(line.startswith("x-request-id") for line in head)


async def test_the_request_id_names_the_answer():
    """The client's x-request-id is the second half of every chunk's id."""
    async with running() as (emulator, _):
        headers = "X-Request-Id: req-9\r\n"

        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 2}, headers=headers)

    assert {event["id"] for event in events(answer)} == {"chatcmpl-req-9"}


async def test_without_usage_only_the_last_chunk_has_the_fingerprint():
    """No chunk has a usage key unless it was asked for."""
    async with running() as (emulator, _):
        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 3, "ignore_eos": True})

    chunks = events(answer)
    assert ["system_fingerprint" in chunk for chunk in chunks] == [False, False, False, True]
    assert not any("usage" in chunk for chunk in chunks)


async def test_continuous_usage_counts_up():
    """Every chunk says how many tokens there are so far."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with running() as (emulator, _):
        body = {**CHAT, "stream": True, "stream_options": options, "max_tokens": 3}

        answer = await raw(emulator, {**body, "ignore_eos": True})

    counts = [event["usage"]["completion_tokens"] for event in events(answer)]
    assert counts == [0, 1, 2, 3, 3]


async def test_usage_can_be_forced():
    """Then every chunk of every stream has it, whether it was asked for or not."""
    async with running(force_usage=True) as (emulator, _):
        body = {**CHAT, "stream": True, "max_tokens": 3, "ignore_eos": True}

        answer = await raw(emulator, body)

    counts = [event["usage"]["completion_tokens"] for event in events(answer)]
    assert counts == [0, 1, 2, 3, 3]


async def test_a_completion_stream_has_no_role_chunk():
    """/v1/completions streams text, with the recorded fields in the recorded order."""
    async with running() as (emulator, _):
        body = {"prompt": "a b c", "stream": True, "max_tokens": 2, "ignore_eos": True}

        first, last = events(await raw(emulator, body, path="/v1/completions"))

    fields = ["index", "text", "logprobs", "finish_reason", "stop_reason"]
    assert list(first["choices"][0]) == [*fields, "prompt_token_ids", "token_ids"]
    assert first["object"] == "text_completion"
    assert first["choices"][0]["finish_reason"] is None
    assert last["choices"][0]["finish_reason"] == "length"


async def test_several_prompts_make_several_choices():
    """Each prompt of a list has its own choice; there is one usage and one end for all."""
    body = {"prompt": ["a b", [7, 8, 9]], "max_tokens": 3, "ignore_eos": True}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with running() as (emulator, session):
        *content, usage = events(await raw(emulator, body, path="/v1/completions"))
        del body["stream"], body["stream_options"]
        _, whole = await post(session, "/v1/completions", body)

    assert sorted(event["choices"][0]["index"] for event in content) == [0] * 3 + [1] * 3
    assert usage["usage"] == {"prompt_tokens": 5, "total_tokens": 11, "completion_tokens": 6}
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["usage"]["completion_tokens"] == 6


async def test_unary_bodies_have_the_recorded_fields():
    """Chat and text completions carry vLLM's fields, nulls included, in its order."""
    async with running() as (_, session):
        status, chat = await post(session, "/v1/chat/completions", {**CHAT, "max_tokens": 3})
        _, text = await post(session, "/v1/completions", {"prompt": "a b", "max_tokens": 3})

    head = ["id", "object", "created", "model", "choices", "service_tier"]
    middle = ["system_fingerprint", "usage"]
    prompt = ["prompt_logprobs", "prompt_token_ids", "prompt_text"]
    tail = ["kv_transfer_params", "ec_transfer_params", "metrics"]
    message = ["role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"]
    assert status == 200
    assert list(chat) == [*head, *middle, *prompt, *tail]
    assert list(text) == [*head, *middle, *tail]
    assert list(chat["choices"][0]["message"]) == message
    assert chat["object"] == "chat.completion"
    assert chat["usage"]["prompt_tokens"] == 11


async def test_stream_and_unary_say_the_same():
    """The same request has the same text, streamed or not, and some chunks of it are empty."""
    body = {**CHAT, "max_tokens": 120, "ignore_eos": True, "seed": 3}
    async with running(profile=profile(iteration_s=0.0)) as (emulator, session):
        first = events(await raw(emulator, {**body, "stream": True}))
        again = events(await raw(emulator, {**body, "stream": True}))
        _, whole = await post(session, "/v1/chat/completions", body)

    words = [event["choices"][0]["delta"]["content"] for event in first]
    assert len(words) == 121  # the role chunk and one a token
    assert words.count("") == 3
    assert words == [event["choices"][0]["delta"]["content"] for event in again]
    assert (
        count_tokens(whole["choices"][0]["message"]["content"])
        == count_tokens("".join(words))
        == 118
    )


@pytest.mark.parametrize(
    ("extra", "reason", "count"),
    [
        ({"vllm_xargs": {"output_tokens": 4}}, "stop", 4),
        ({"vllm_xargs": {"output_tokens": 9}, "max_tokens": 5}, "length", 5),
        ({"vllm_xargs": {"output_tokens": 9}, "max_completion_tokens": 6}, "length", 6),
        ({"max_tokens": 7, "ignore_eos": True}, "length", 7),
    ],
)
async def test_the_request_says_how_long_the_answer_is(extra, reason, count):
    """vllm_xargs.output_tokens is where the model stops; max_tokens cuts it earlier."""
    async with running() as (_, session):
        _, body = await post(session, "/v1/chat/completions", {**CHAT, **extra})

    assert body["choices"][0]["finish_reason"] == reason
    assert body["usage"]["completion_tokens"] == count


async def test_prompt_and_output_beyond_the_context_are_clamped():
    """max_tokens within the model's length is silently cut to what the prompt leaves."""
    async with running(profile=profile(max_model_len=20)) as (_, session):
        body = {**CHAT, "max_tokens": 20, "ignore_eos": True}

        status, answer = await post(session, "/v1/chat/completions", body)

    assert status == 200
    assert answer["usage"]["completion_tokens"] == 9


CHAT_PATH, TEXT_PATH = "/v1/chat/completions", "/v1/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
INVALID, REFUSED, UNKNOWN = "Bad Request", "BadRequestError", "NotFoundError"
REFUSALS = [
    (CHAT_PATH, {"model": MODEL}, 400, INVALID, "body.messages", "'missing'"),
    (CHAT_PATH, {"messages": "hi"}, 400, INVALID, "body.messages", "'input': 'hi'"),
    (CHAT_PATH, {"messages": []}, 400, REFUSED, None, "at least one message"),
    (CHAT_PATH, [], 400, INVALID, "body", "model_attributes_type"),
    (CHAT_PATH, {**CHAT, "max_tokens": "abc"}, 400, INVALID, "body.max_tokens", "int_parsing"),
    (CHAT_PATH, {**CHAT, "max_tokens": 0}, 400, REFUSED, "max_tokens", "at least 1, got 0"),
    (CHAT_PATH, {**CHAT, "n": 2, "temperature": 0}, 400, REFUSED, None, "n must be 1"),
    (CHAT_PATH, {**CHAT, "stream_options": {}}, 400, REFUSED, "stream_options", "stream"),
    (CHAT_PATH, {**CHAT, "model": "no"}, 404, UNKNOWN, "model", "`no` does not exist"),
    (CHAT_PATH, {**CHAT, "model": "no", "stream": True}, 404, UNKNOWN, "model", ": tiny."),
    (CHAT_PATH, {**CHAT, "max_tokens": 5000}, 400, REFUSED, "max_tokens", "max_model_len=1000"),
    (CHAT_PATH, {**CHAT, "n": 0}, 400, REFUSED, None, "n must be at least 1, got 0."),
    (CHAT_PATH, {**CHAT, "temperature": -1}, 400, REFUSED, "temperature",
     "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"),
    (CHAT_PATH, {**CHAT, "top_p": 3}, 400, REFUSED, "top_p", "top_p must be in (0, 1], got 3.0."),
    (CHAT_PATH, {**CHAT, "top_p": 0}, 400, REFUSED, "top_p", "top_p must be in (0, 1], got 0.0."),
    (CHAT_PATH, {**CHAT, "stop": 5}, 400, INVALID, "body.stop", "valid string"),
    (CHAT_PATH, {**CHAT, "logprobs": True, "top_logprobs": 999}, 400, REFUSED, "logprobs",
     "Requested sample logprobs of 999, which is greater than max allowed: 20 (parameter="),
    (CHAT_PATH, {**CHAT, "top_logprobs": 2}, 400, REFUSED, "top_logprobs", "must be set to true"),
    (TEXT_PATH, {"prompt": "a", "logprobs": 99}, 400, REFUSED, "logprobs", "of 99, which"),
    (CHAT_PATH, {**CHAT, "max_tokens": 7.5}, 400, INVALID, "body.max_tokens", "int_from_float"),
    (CHAT_PATH, {**CHAT, "tools": [TOOL]}, 400, REFUSED, None, "--enable-auto-tool-choice"),
    (CHAT_PATH, {**CHAT, "tool_choice": "required"}, 400, REFUSED, "tool_choice",
        "`tools` must be set"),
    (CHAT_PATH, {**CHAT, "response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "wat"}}}}, 400, REFUSED, None, "Invalid type: wat"),
    (CHAT_PATH, {"messages": [{"role": "user", "content": [PICTURE]}]}, 400, REFUSED, None,
     "tiny is not a multimodal model"),
    (CHAT_PATH, {"messages": [{"role": "user", "content": "x" * 33_001}]}, 400, REFUSED,
     "input_text", "33001 characters (more than 33000 characters, which is the upper bound"),
    (TEXT_PATH, {"prompt": [5, 999_999_999]}, 400, REFUSED, None, "Token id 999999999 is out of"),
    (TEXT_PATH, {"prompt": "a", "suffix": "b"}, 400, REFUSED, "suffix", "suffix is only supported"),
    (TEXT_PATH, {"prompt": []}, 400, REFUSED, None, "at least one prompt"),
    (TEXT_PATH, {"prompt": 5}, 400, INVALID, "body.prompt", "4 validation errors"),
    (TEXT_PATH, {"prompt": "a", "logprobs": -1}, 400, REFUSED, "logprobs", "sample logprobs of 32"),
    (CHAT_PATH, {**CHAT, "presence_penalty": 3}, 400, REFUSED, None, "got 3.0."),
    (CHAT_PATH, {**CHAT, "logprobs": 5}, 400, INVALID, "body.logprobs", "'input': '5'"),
    (CHAT_PATH, {**CHAT, "model": 5}, 400, INVALID, "body.model", "'input': '5'"),
    (CHAT_PATH, {**CHAT, "stop": [5]}, 400, INVALID, "body.stop", "'loc': 'body.stop.0'"),
    (CHAT_PATH, {**CHAT, "response_format": {"type": "xml"}}, 400, INVALID,
        "body.response_format.type", "Input should be"),
    (CHAT_PATH, {**CHAT, "response_format": {"type": "json_schema"}}, 400, REFUSED,
        "response_format", "must be provided"),
    (CHAT_PATH, {**CHAT, "tools": [{"type": "function", "function": {}}]}, 400, INVALID,
        "body.tools.0.function.name", "Field required"),
    ("/v1/responses", {"input": 5}, 400, INVALID, "body.input", "2 validation errors"),
    ("/tokenize", {}, 400, INVALID, "body.prompt", "'loc': 'body.messages'"),
    (CHAT_PATH, {**CHAT, "stream": True, "stream_options": "x"}, 400, INVALID,
     "body.stream_options", "valid dictionary"),
    ("/v1/messages", {"messages": []}, 400, INVALID, "body.max_tokens", "'missing'"),
    ("/v1/responses", {"model": MODEL}, 400, INVALID, "body.input", "'missing'"),
    (TEXT_PATH, {"prompt": ""}, 400, REFUSED, "prompt", "non-empty"),
    (TEXT_PATH, {"prompt": [5] * 1001}, 400, REFUSED, "input_tokens", "at least 1001 input"),
    (TEXT_PATH, {"prompt": [5] * 1000}, 400, REFUSED, "max_tokens", "got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "error_type", "param", "words"), REFUSALS)
async def test_refusals_are_worded_as_vllm_words_them(path, body, status, error_type, param, words):
    """Status, type, param and code of every refusal are the recorded ones."""
    async with running() as (_, session):
        got, answer = await post(session, path, body)

    error = answer["error"]
    assert got == status
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == (error_type, param, status)
    assert words in error["message"]


async def test_broken_json_is_located():
    """The error of a cut-off body names the byte, exactly as recorded."""
    async with running() as (_, session):
        body = b'{"model": "tiny-llama", "messages": ['
        headers = {"content-type": "application/json"}
        async with session.post(CHAT_PATH, data=body, headers=headers) as response:
            answer = await response.json()

    message = (
        "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.37', "
        "'msg': 'JSON decode error', 'input': '<dict of 0 items>', "
        "'ctx': {'error': 'Expecting value'}}"
    )
    error = {"message": message, "type": "Bad Request", "param": "body.37", "code": 400}
    assert response.status == 400
    assert answer == {"error": error}


async def test_an_empty_body_is_a_missing_one():
    """As recorded: the whole body is the field that is missing."""
    async with running() as (_, session):
        headers = {"content-type": "application/json"}
        async with session.post(CHAT_PATH, data=b"", headers=headers) as response:
            error = (await response.json())["error"]

    assert (response.status, error["param"]) == (400, "body")
    assert "'type': 'missing'" in error["message"]


async def test_bodies_that_are_not_json_are_refused():
    """A wrong or absent content type and broken UTF-8 have their own answers."""
    async with running() as (_, session):
        for content_type in ({"content-type": "text/plain"}, {}):
            async with session.post(
                CHAT_PATH, data=b"{}", headers=content_type, skip_auto_headers=["content-type"]
            ) as response:
                answer = await response.json()
            assert response.status == 400
            assert "Unsupported Media Type" in answer["error"]["message"]
        headers = {"content-type": "application/json"}
        async with session.post(CHAT_PATH, data=b'{"a":"\xff"}', headers=headers) as response:
            assert await response.json() == {"detail": "There was an error parsing the body"}


async def test_unknown_routes_and_methods_answer_in_the_frameworks_shape():
    """404 and 405 are `detail` objects; 405 names the right method."""
    async with running() as (_, session):
        async with session.get("/v1/models/tiny") as response:
            assert response.status == 404
            assert await response.json() == {"detail": "Not Found"}
        async with session.get(CHAT_PATH) as response:
            assert response.status == 405
            assert response.headers["allow"] == "POST"
            assert await response.json() == {"detail": "Method Not Allowed"}


async def test_models_health_version_and_tokenize():
    """The small routes answer as vLLM's do."""
    async with running() as (_, session):
        async with session.get("/v1/models") as response:
            (model,) = (await response.json())["data"]
        for path in ("/health", "/ping"):
            async with session.get(path) as response:
                assert (response.status, await response.read()) == (200, b"")
        async with session.get("/version") as response:
            assert await response.json() == {"version": "0.32.0"}
        _, prompt = await post(session, "/tokenize", {"prompt": "a b a"})
        _, chat = await post(session, "/tokenize", CHAT)

    assert (model["id"], model["max_model_len"]) == (MODEL, 1000)
    assert prompt["count"] == 3
    assert prompt["tokens"][0] == prompt["tokens"][2] != prompt["tokens"][1]
    assert chat["count"] == len(chat["tokens"]) == 11


async def test_embeddings_as_floats_and_as_base64():
    """The same small vectors in both encodings, one per input."""
    async with running(task="embed") as (_, session):
        _, floats = await post(session, "/v1/embeddings", {"input": ["a b", "c"]})
        body = {"input": ["a b", "c"], "encoding_format": "base64"}
        _, packed = await post(session, "/v1/embeddings", body)

    vectors = [
        list(struct.unpack("<8f", base64.b64decode(row["embedding"]))) for row in packed["data"]
    ]
    assert vectors == [pytest.approx(row["embedding"]) for row in floats["data"]]
    assert floats["usage"]["prompt_tokens"] == 3


async def test_the_openai_sdk_reads_it():
    """The official SDK streams, reads unary answers and raises its own exceptions."""
    async with running(profile=profile(iteration_s=0.0), task="both") as (emulator, _):
        url = f"http://127.0.0.1:{emulator.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            extra = {"vllm_xargs": {"output_tokens": 5}}
            stream = await client.chat.completions.create(
                **CHAT, stream=True, stream_options={"include_usage": True}, extra_body=extra
            )
            chunks = [chunk async for chunk in stream]
            whole = await client.completions.create(model=MODEL, prompt="a", max_tokens=3)
            vectors = await client.embeddings.create(model=MODEL, input="a b")
            with pytest.raises(openai.NotFoundError, match="nope"):
                await client.completions.create(model="nope", prompt="a")
            with pytest.raises(openai.BadRequestError):
                await client.completions.create(model=MODEL, prompt="")

    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 5
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 1
    assert len(vectors.data[0].embedding) == 8


@pytest.mark.parametrize("stream", [True, False])
async def test_a_closed_connection_aborts_the_request(stream):
    """Streams and unary requests leave the engine when their client disconnects."""
    async with running() as (emulator, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", emulator.port)
        data = json.dumps({**CHAT, **LONG, "stream": stream})
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: {len(data)}\r\n\r\n{data}".encode())
        await until(lambda: emulator.engine.generation_tokens > 2)
        if stream:
            await reader.readuntil(b"content")
        assert emulator.engine.running == 1

        writer.close()
        await until(lambda: emulator.engine.running == 0)
        generated = emulator.engine.generation_tokens

        assert generated < LONG["max_tokens"]
        assert emulator.engine.kv_used == 0
        await asyncio.sleep(0.005)
        assert emulator.engine.generation_tokens == generated
        assert sum(emulator.metrics.finished.values()) == 0


async def test_streams_advance_together_at_the_engines_pace():
    """Requests of one batch get their tokens in turns, not one request after the other."""
    async with running() as (emulator, session):
        order = []

        async def follow(name):
            body = {**CHAT, "stream": True, "max_tokens": 30, "ignore_eos": True}
            async with session.post(CHAT_PATH, json=body) as response:
                async for line in response.content:
                    order.extend([name] * (b"content" in line))

        loop = asyncio.get_running_loop()
        start_s = loop.time()
        await asyncio.gather(follow("a"), follow("b"))
        took_s = loop.time() - start_s

    assert order.index("b") < 20
    assert order[::-1].index("a") < 20
    assert took_s >= 30 * 0.0005
    assert emulator.engine.running == 0


async def test_the_admission_limit_refuses_streams_as_well():
    """At --max-num-queued-reqs both get HTTP 503, before a stream's head."""
    async with running(max_num_queued_reqs=0) as (_, session):
        status, answer = await post(session, CHAT_PATH, CHAT)
        streamed = await post(session, CHAT_PATH, {**CHAT, "stream": True})
        async with session.get("/metrics") as response:
            page = await response.text()

    name = 'vllm:admission_rejections_total{model_name="tiny",reason="max_num_queued_reqs"}'
    assert f"{name} 2.0" in page
    assert status == 503
    assert streamed == (503, answer)
    assert answer["error"]["type"] == "Service Unavailable"


async def test_metrics_have_vllms_names_and_count():
    """Gauges, counters and histograms under vLLM's names with its labels."""
    async with running() as (_, session):
        for stream in (True, False):
            body = {**CHAT, "max_tokens": 5, "ignore_eos": True, "stream": stream}
            async with session.post(CHAT_PATH, json=body) as response:
                await response.read()
        async with session.get("/metrics") as response:
            page = await response.text()

    samples = {
        (sample.name, sample.labels.get("finished_reason"), sample.labels.get("le")): sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    expected = {
        ("vllm:num_requests_running", None, None): 0,
        ("vllm:num_requests_waiting", None, None): 0,
        ("vllm:kv_cache_usage_perc", None, None): 0,
        ("vllm:num_preemptions_total", None, None): 0,
        ("vllm:prompt_tokens_total", None, None): 22,
        ("vllm:generation_tokens_total", None, None): 10,
        ("vllm:request_success_total", "length", None): 2,
        ("vllm:request_success_total", "stop", None): 0,
        ("vllm:time_to_first_token_seconds_count", None, None): 2,
        ("vllm:time_to_first_token_seconds_bucket", None, "2560.0"): 2,
        ("vllm:inter_token_latency_seconds_count", None, None): 8,
        ("vllm:request_time_per_output_token_seconds_count", None, None): 2,
        ("vllm:e2e_request_latency_seconds_bucket", None, "+Inf"): 2,
        ("vllm:request_queue_time_seconds_count", None, None): 2,
        ("vllm:request_prefill_time_seconds_count", None, None): 2,
        ("vllm:request_decode_time_seconds_count", None, None): 2,
        ("vllm:request_inference_time_seconds_bucket", None, "0.3"): 2,
        ("vllm:request_prompt_tokens_sum", None, None): 22,
        ("vllm:request_generation_tokens_bucket", None, "500.0"): 2,
        ("vllm:request_params_n_sum", None, None): 2,
        ("vllm:request_params_max_tokens_sum", None, None): 10,
        ("vllm:prompt_tokens_cached_total", None, None): 0,
        ("vllm:prefix_cache_hits_total", None, None): 0,
    }
    assert {name: samples[name].value for name in expected} == expected
    running_labels = samples["vllm:num_requests_running", None, None].labels
    assert running_labels == {"engine": "0", "model_name": MODEL}
    assert int(samples["vllm:cache_config_info", None, None].labels["kv_cache_size_tokens"]) > 0


async def test_two_emulators_share_a_process():
    """No state is global: each has its own port, engine and metrics."""
    async with running() as (first, session), running() as (second, _):
        await post(session, CHAT_PATH, {**CHAT, "max_tokens": 2})

        assert first.port != second.port
        assert (first.engine.prompt_tokens, second.engine.prompt_tokens) == (11, 0)


async def test_http_1_0_clients_get_a_plain_body():
    """Without chunking the same events come bare and end with the connection."""
    async with running() as (emulator, _):
        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 2}, version="1.0")

    body = answer.partition(b"\r\n\r\n")[2]
    assert body.startswith(b'data: {"id"')
    assert body.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("status", [500, 503])
async def test_the_status_fault_answers_with_vllms_error(status):
    """An engine that answers everything with 500 or 503, in the OpenAI shape."""
    async with running(faults=Faults(status=status)) as (_, session):
        got, answer = await post(session, CHAT_PATH, {**CHAT, "stream": True})

    assert got == status
    assert answer["error"]["code"] == status


async def test_every_nth_request_is_hit():
    """With `every=3` the third, sixth, … generation request meets the fault."""
    async with running(faults=Faults(status=500, every=3)) as (_, session):
        body = {**CHAT, "max_tokens": 1}
        statuses = [(await post(session, CHAT_PATH, body))[0] for _ in range(6)]

    assert statuses == [200, 200, 500, 200, 200, 500]


@pytest.mark.parametrize("stream", [True, False])
async def test_dying_before_the_headers_sends_nothing(stream):
    """The connection closes without a byte."""
    async with running(faults=Faults(die_before_headers=True)) as (emulator, _):
        assert await raw(emulator, {**CHAT, "stream": stream}) == b""


async def test_dying_mid_stream_leaves_the_stream_unfinished():
    """After N tokens the connection closes: no finish_reason, no [DONE], no last chunk."""
    async with running(faults=Faults(die_after=3)) as (emulator, _):
        answer = await raw(emulator, {**CHAT, **LONG, "stream": True})
        await until(lambda: emulator.engine.running == 0)

    assert answer.count(b"data: ") == 4  # the role chunk and three tokens
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_an_unary_request_dies_without_an_answer():
    """The same fault closes the connection of a request that does not stream."""
    async with running(faults=Faults(die_after=3)) as (emulator, _):
        assert await raw(emulator, {**CHAT, **LONG}) == b""


async def test_a_stalled_stream_stays_open_and_silent():
    """After N tokens nothing more comes, not even when the engine is done."""
    async with running(faults=Faults(stall_after=2)) as (emulator, session):
        body = {**CHAT, "stream": True, "max_tokens": 5, "ignore_eos": True}
        async with session.post(CHAT_PATH, json=body) as response:
            seen = b""
            while seen.count(b"data: ") < 3:
                seen += await response.content.readany()
            await until(lambda: emulator.engine.running == 0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await response.content.readany()


async def test_a_fault_beyond_the_output_does_not_happen():
    """A stream that ends before the faulty token ends as it should."""
    async with running(faults=Faults(stall_after=9)) as (emulator, _):
        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 3})

    assert events(answer)[-1]["choices"][0]["finish_reason"] is not None


async def test_a_broken_engine_ends_streams_with_an_error_event():
    """Under HTTP 200 the stream gets an error event and [DONE]; an unary request HTTP 500."""
    async with running(faults=Faults(error_after=2)) as (emulator, session):
        answer = await raw(emulator, {**CHAT, **LONG, "stream": True})
        status, whole = await post(session, CHAT_PATH, {**CHAT, **LONG})

    chunks = events(answer)
    assert chunks[-1]["error"]["code"] == 500
    assert len(chunks) == 4
    assert status == 500
    assert whole == chunks[-1]


async def test_a_trickle_is_the_same_stream():
    """Written byte by byte, the stream is still complete and well framed."""
    async with running(faults=Faults(trickle=True)) as (emulator, _):
        answer = await raw(emulator, {**CHAT, "stream": True, "max_tokens": 2, "ignore_eos": True})

    assert len(events(answer)) == 3


async def test_a_slow_start_is_not_ready():
    """Until it has started, health and requests say 503; metrics and models already answer."""
    async with running(faults=Faults(start_delay_s=60.0)) as (_, session):
        async with session.get("/health") as response:
            assert response.status == 503
        status, _ = await post(session, CHAT_PATH, CHAT)
        assert status == 503


async def test_a_crash_takes_everything_down():
    """Open streams break off, and the port refuses connections."""
    async with running() as (emulator, session):
        body = {**CHAT, **LONG, "stream": True}
        async with session.post(CHAT_PATH, json=body) as response:
            await response.content.readline()

            emulator.crash()

            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await response.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("/health")


async def test_a_stopping_engine_answers_with_what_it_has():
    """As vLLM at SIGTERM: "abort" as the reason, [DONE] at the end, even without output."""
    async with running(faults=Faults(on_term="abort")) as (emulator, session):
        body = {**CHAT, **LONG, "stream": True}
        async with session.post(CHAT_PATH, json=body) as begun:
            await begun.content.readline()
            unary = asyncio.create_task(post(session, CHAT_PATH, {**CHAT, **LONG}))
            empty = asyncio.create_task(raw(emulator, {**body, "user": "late"}))
            await until(lambda: len(emulator._clock.exchanges) == 3)
            stopping = asyncio.create_task(emulator.terminate())
            text = await begun.read()
            status, whole = await unary
            last = await empty
            await stopping

    assert b'"finish_reason":"abort"' in text
    assert text.endswith(b"data: [DONE]\n\n")
    assert (status, whole["choices"][0]["finish_reason"]) == (200, "abort")
    assert whole["usage"]["completion_tokens"] < 900
    assert b"[DONE]" in last


async def test_a_stopping_engine_can_hang():
    """Nothing comes, nothing closes, and nobody listens."""
    async with running(faults=Faults(on_term="hang")) as (emulator, session):
        async with session.post(CHAT_PATH, json={**CHAT, **LONG, "stream": True}) as response:
            await response.content.readline()
            stopping = asyncio.create_task(emulator.terminate())
            await until(lambda: not emulator._listener.is_serving())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await response.read()
            stopping.cancel()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as other:
                await other.get(f"http://127.0.0.1:{emulator.port}/health")


async def test_a_stopping_engine_can_drain():
    """What is under way ends whole; what comes meanwhile gets 500, and health stays good."""
    async with running(faults=Faults(on_term="drain")) as (emulator, session):
        async with session.post(CHAT_PATH, json={**CHAT, **LONG, "stream": True}) as response:
            await response.content.readline()
            stopping = asyncio.create_task(emulator.terminate())
            await until(lambda: emulator._stopping)
            status, _ = await post(session, CHAT_PATH, CHAT)
            async with session.get("/health") as health:
                well = health.status
            text = await response.read()
        await stopping

    assert (status, well) == (500, 200)
    assert b'"finish_reason":"length"' in text


@pytest.mark.parametrize("fault", [{"every": 0}, {"die_after": -1}, {"start_delay_s": -0.1}])
def test_impossible_faults_are_refused(fault):
    """A fault that cannot be is an error where it is made."""
    with pytest.raises(InvalidValue):
        Faults(**fault)


async def test_the_beginnings_of_earlier_prompts_are_not_computed_again():
    """With a prefix cache the usage tells the hits, whole or streamed, and `/metrics` adds up."""
    story = " ".join(f"w{n}" for n in range(200))
    turns = [{"role": "user", "content": story}]
    longer = [*turns, {"role": "assistant", "content": "the end"}, {"role": "user", "content": "?"}]
    bodies = [{"messages": turns, "max_tokens": 2}, {"messages": longer, "max_tokens": 2}]
    async with running(prefix_cache=True) as (emulator, session):
        usages = [(await post(session, CHAT_PATH, body))[1]["usage"] for body in bodies]
        options = {"stream": True, "stream_options": {"include_usage": True}}
        streamed = events(await raw(emulator, bodies[0] | options))[-1]["usage"]
        async with session.get("/metrics") as response:
            page = await response.text()
    async with running() as (_, session):
        plain = [(await post(session, CHAT_PATH, body))[1]["usage"] for body in bodies[:1] * 2]

    details = {"created_cache_tokens": 0, "multimodal_tokens": None}
    assert [usage["prompt_tokens_details"] for usage in usages] == [
        {"cached_tokens": 0, **details},
        {"cached_tokens": 192, **details},
    ]
    assert streamed["prompt_tokens_details"] == {"cached_tokens": 192, "created_cache_tokens": 0}
    assert [usage["prompt_tokens_details"] for usage in plain] == [None, None]
    hits = {f.name: f.samples[0].value for f in text_string_to_metric_families(page)}
    assert hits["vllm:prefix_cache_hits"] == 384
    assert hits["vllm:prefix_cache_queries"] == sum(
        usage["prompt_tokens"] for usage in (*usages, streamed)
    )

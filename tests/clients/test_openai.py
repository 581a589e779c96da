"""The official `openai` SDK."""

import asyncio
import json
import struct
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

HI: Any = [{"role": "user", "content": "say a few words please"}]
LOOKUP: dict[str, Any] = {
    "name": "lookup",
    "description": "Looks a city up.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
EXACTLY = {"ignore_eos": True}  # no end before `max_tokens`: a field of vLLM's own
TOOL: Any = {"type": "function", "function": LOOKUP}
SOUND = bytes(range(256)) * 64
SAID = "four words were said"


class Forecast(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    kind: Literal["rain", "sun"]
    days: int
    tags: list[str]


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.api, api_key="sk-a", max_retries=0) as made:
        yield made


def test_models_are_listed_and_found(client, gateway):
    assert [model.id for model in client.models.list()] == [gateway.model]
    assert client.models.retrieve(gateway.model).id == gateway.model


def test_a_chat(client, gateway, tally):
    answer = client.chat.completions.create(
        model=gateway.model, messages=HI, max_tokens=12, extra_body=EXACTLY
    )

    [choice] = answer.choices
    assert len(choice.message.content.split()) == 12
    assert choice.finish_reason == "length"
    assert answer.model == gateway.model
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    tally.reach(completed=1, input=answer.usage.prompt_tokens, output=12)


def test_a_chat_that_streams(client, gateway, tally):
    """The same text as whole, in pieces, with the usage in the last event because it is asked
    for, and in no event where it is not."""
    asked = {"model": gateway.model, "messages": HI, "max_tokens": 12, "extra_body": EXACTLY}
    whole = client.chat.completions.create(**asked)
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    events = list(client.chat.completions.create(**asked, **with_usage))
    plain = list(client.chat.completions.create(**asked, stream=True))

    for got in (events, plain):
        text = "".join(e.choices[0].delta.content or "" for e in got if e.choices)
        assert text == whole.choices[0].message.content
        assert [e.choices[0].finish_reason for e in got if e.choices][-1] == "length"
    assert events[-1].usage == whole.usage
    assert not events[-1].choices
    assert not any(e.usage for e in plain)
    tally.reach(completed=3, output=36)


def test_the_stream_helper_of_chats(client, gateway):
    nine = {"vllm_xargs": {"output_tokens": 9}}
    with client.chat.completions.stream(
        model=gateway.model, messages=HI, extra_body=nine
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()

    assert kinds[-1] == "content.done"
    # The ninth token ends the answer, and shows nothing.
    assert kinds.count("content.delta") >= 8
    assert len(final.choices[0].message.content.split()) == 8


def test_several_choices(client, gateway, tally):
    answer = client.chat.completions.create(
        model=gateway.model,
        messages=HI,
        max_tokens=5,
        n=3,
        logprobs=True,
        top_logprobs=2,
        extra_body=EXACTLY,
    )

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(len(choice.logprobs.content) == 5 for choice in answer.choices)
    tally.reach(completed=1, output=15)


def test_a_tool_is_called_and_answers(client, gateway):
    """Called, its arguments read, its result sent back, and an answer in words."""
    asked = {"model": gateway.model, "tools": [TOOL], "tool_choice": "auto"}
    first = client.chat.completions.create(messages=HI, **asked).choices[0]
    [call] = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert call.function.name == "lookup"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}

    said = {"role": "tool", "tool_call_id": call.id, "content": "it rains"}
    turns = [*HI, first.message, said]
    last = client.chat.completions.create(messages=turns, max_tokens=6, **asked).choices[0]
    assert not last.message.tool_calls
    assert len(last.message.content.split()) == 6


def test_a_tool_call_that_streams(client, gateway):
    with client.chat.completions.stream(
        model=gateway.model, messages=HI, tools=[openai.pydantic_function_tool(Forecast)]
    ) as stream:
        kinds = {event.type for event in stream}
        [call] = stream.get_final_completion().choices[0].message.tool_calls

    assert "tool_calls.function.arguments.done" in kinds
    assert isinstance(call.function.parsed_arguments, Forecast)


def test_a_structured_output(client, gateway):
    answer = client.chat.completions.parse(
        model=gateway.model, messages=HI, response_format=Forecast
    )

    assert isinstance(answer.choices[0].message.parsed, Forecast)


def test_a_structured_output_that_streams(client, gateway):
    asked = {"model": gateway.model, "messages": HI, "response_format": Forecast}
    with client.chat.completions.stream(**asked) as stream:
        parsed = [event.parsed for event in stream if event.type == "content.done"]

    assert [type(value) for value in parsed] == [Forecast]


def test_a_picture(client, gateway, tally):
    """As Base64; the engine says what it weighs."""
    picture = {"url": "data:image/png;base64," + "iVBORw0KGgo" * 999}
    parts = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": picture}]
    answer = client.chat.completions.create(
        model=gateway.model, messages=[{"role": "user", "content": parts}], max_tokens=4
    )

    assert answer.usage.prompt_tokens > 576
    tally.reach(completed=1, input=answer.usage.prompt_tokens)


def test_completions(client, gateway, tally):
    """Whole, of a list of prompts, and streamed."""
    asked = {"model": gateway.model, "max_tokens": 7, "extra_body": EXACTLY}
    several = client.completions.create(prompt=["one two", "three"], **asked)
    stream = client.completions.create(prompt="one two", stream=True, **asked)
    text = "".join(event.choices[0].text for event in stream)

    assert len(several.choices) == 2
    assert several.usage.completion_tokens == 14
    assert len(text.split()) == 7
    tally.reach(completed=2, output=21)


def test_embeddings(client, gateway, tally):
    """As floats and, which is the SDK's default, as Base64."""
    asked = {"model": gateway.model, "input": ["one two three", "four"]}
    decoded = client.embeddings.create(**asked)
    floats = client.embeddings.create(**asked, encoding_format="float")

    assert [vector.index for vector in decoded.data] == [0, 1]
    for one, other in zip(decoded.data, floats.data, strict=True):
        packed = struct.pack(f"<{len(other.embedding)}f", *other.embedding)
        assert one.embedding == list(struct.unpack(f"<{len(one.embedding)}f", packed))
    assert decoded.usage.prompt_tokens == floats.usage.prompt_tokens
    tally.reach(completed=2, input=2 * decoded.usage.prompt_tokens)


def test_responses(client, gateway, tally):
    answer = client.responses.create(model=gateway.model, input="hello", max_output_tokens=16)

    assert len(answer.output_text.split()) == answer.usage.output_tokens
    tally.reach(completed=1, output=answer.usage.output_tokens)


def test_responses_that_stream(client, gateway, tally):
    asked = {"model": gateway.model, "input": "hello", "max_output_tokens": 16}
    events = list(client.responses.create(**asked, stream=True))

    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    tally.reach(completed=1, output=events[-1].response.usage.output_tokens)


def test_responses_with_a_tool(client, gateway):
    """Called, its result sent back, and an answer in words."""
    asked = {"model": gateway.model, "tools": [{"type": "function", "strict": True, **LOOKUP}]}
    [call] = client.responses.create(input="hello", **asked).output
    assert (call.type, call.name) == ("function_call", "lookup")
    assert set(json.loads(call.arguments)) == {"city", "days"}

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "it rains"}
    turns = [{"role": "user", "content": "hello"}, call, result]
    assert client.responses.create(input=turns, max_output_tokens=16, **asked).output_text


def test_responses_with_a_structured_output(client, gateway):
    """Whole, and by the SDK's own stream."""
    asked = {"model": gateway.model, "input": "hello", "text_format": Forecast}
    assert isinstance(client.responses.parse(**asked).output_parsed, Forecast)
    with client.responses.stream(**asked) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Forecast)


class Transcriber(BaseHTTPRequestHandler):
    """A scripted engine that hears: it checks the form, and answers whole, as text or in events as
    vLLM's are."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        listed = {"object": "list", "data": [{"id": "llama-3-8b", "object": "model"}]}
        self._say("application/json", json.dumps(listed))

    def do_POST(self) -> None:
        fields = self._fields()
        if fields["file"] != SOUND or fields["model"] != b"llama-3-8b":
            self.send_error(400)
        elif fields.get("stream") == b"true":
            about = {
                "id": "t",
                "object": "transcription.chunk",
                "created": 1,
                "model": "llama-3-8b",
            }
            deltas: list[Any] = [{"content": f" {word}"} for word in SAID.split()]
            choices: list[Any] = [{"delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"delta": {}, "finish_reason": "stop"})
            events = [json.dumps(about | {"choices": [choice]}) for choice in choices]
            text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
            self._say("text/event-stream", text)
        elif fields.get("response_format") == b"text":
            self._say("text/plain; charset=utf-8", SAID)
        else:
            usage = {"type": "duration", "seconds": 3}
            self._say("application/json", json.dumps({"text": SAID, "usage": usage}))

    def _fields(self) -> dict[str, bytes]:
        body = self.rfile.read(int(self.headers["content-length"]))
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        form: Message = BytesParser(policy=HTTP).parsebytes(head + body)
        parts: list[Any] = form.get_payload()  # type: ignore[assignment]
        return {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in parts
        }

    def _say(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_audio(gateway_before, http_server):
    """Transcribed whole, as text and in a stream, and translated."""
    gateway = gateway_before([http_server(Transcriber)])
    with openai.OpenAI(base_url=gateway.api, api_key="sk-a", max_retries=0) as client:
        asked: Any = {"model": gateway.model, "file": ("a.wav", SOUND, "audio/wav")}
        heard = client.audio.transcriptions.create(**asked)
        text = client.audio.transcriptions.create(**asked, response_format="text")
        events: Any = list(client.audio.transcriptions.create(**asked, stream=True))
        translated = client.audio.translations.create(**asked)

    assert heard.text == translated.text == SAID
    assert str(text).strip() == SAID
    said = "".join(e.choices[0]["delta"].get("content", "") for e in events)
    assert said.split() == SAID.split()


def test_errors_are_the_exceptions_of_the_sdk(client, gateway):
    """A wrong model, a wrong field and a prompt beyond the context."""
    chat = client.chat.completions
    with pytest.raises(openai.NotFoundError) as missing:
        chat.create(model="nope", messages=HI)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        chat.create(model=gateway.model, messages=HI, temperature=-1)
    long: Any = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        chat.create(model=gateway.model, messages=long)


def test_headers_of_the_raw_answer(client, gateway):
    """The receipt, for who wants it."""
    raw = client.chat.completions.with_raw_response.create(
        model=gateway.model, messages=HI, max_tokens=3, extra_headers={"x-request-id": "mine"}
    )

    assert raw.headers["x-cuvee-pool"] == "h100"
    assert raw.headers["x-request-id"] == "mine"
    assert raw.parse().choices[0].message.content


def test_many_at_once(gateway, tally):
    """64 streams of one asynchronous client, every one whole."""

    async def one(client: openai.AsyncOpenAI, length: int) -> int:
        text = ""
        asked: Any = {
            "model": gateway.model,
            "messages": HI,
            "max_tokens": length,
            "extra_body": EXACTLY,
        }
        async for event in await client.chat.completions.create(**asked, stream=True):
            text += event.choices[0].delta.content or ""
        return len(text.split())

    async def run() -> list[int]:
        async with openai.AsyncOpenAI(base_url=gateway.api, api_key="sk-a") as client:
            return await asyncio.gather(*(one(client, 5 + n % 8) for n in range(64)))

    lengths = [5 + n % 8 for n in range(64)]
    assert asyncio.run(run()) == lengths
    tally.reach(completed=64, others=0, output=sum(lengths))


def test_a_stream_that_is_left(client, gateway, tally):
    """The engine is told, and nothing is left behind."""
    stream = client.chat.completions.create(
        model=gateway.model, messages=HI, stream=True, extra_body=EXACTLY
    )
    next(iter(stream))
    stream.close()

    tally.reach(completed=0, others=1)
    assert gateway.count("cuvee_in_flight") == 0

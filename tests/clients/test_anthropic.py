"""The official `anthropic` SDK, on the Messages API of the engines."""

from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

HI: Any = [{"role": "user", "content": "say a few words please"}]
TOOL: Any = {
    "name": "lookup",
    "description": "Looks a city up.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
EXACTLY = {"ignore_eos": True}  # no end before `max_tokens`: a field of vLLM's own


class Lookup(BaseModel):
    """The arguments of the tool."""

    city: str
    days: int


@pytest.fixture
def client(gateway):
    with anthropic.Anthropic(base_url=gateway.url, api_key="sk-a", max_retries=0) as made:
        yield made


def test_a_message(client, gateway, tally):
    answer = client.messages.create(
        model=gateway.model, max_tokens=12, system="be brief", messages=HI, extra_body=EXACTLY
    )

    [block] = answer.content
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", gateway.model)
    assert len(block.text.split()) == 12
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 12
    tally.reach(completed=1, others=0, input=answer.usage.input_tokens, output=12)


def test_a_message_that_streams(client, gateway, tally):
    """The events in their order, and the same text and usage as whole."""
    asked = {"model": gateway.model, "max_tokens": 12, "messages": HI, "extra_body": EXACTLY}
    whole = client.messages.create(**asked)
    kinds = [event.type for event in client.messages.create(**asked, stream=True)]
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()

    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens
    tally.reach(completed=3, others=0, output=36)


def test_a_tool_is_called_and_answers(client, gateway):
    """Called, its arguments read, its result sent back, and an answer in words."""
    asked = {"model": gateway.model, "max_tokens": 40, "tools": [TOOL]}
    first = client.messages.create(messages=HI, **asked)
    [call] = first.content
    assert (first.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "lookup")
    Lookup.model_validate(call.input)

    result = {"type": "tool_result", "tool_use_id": call.id, "content": "it rains"}
    turns: Any = [
        *HI,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    last = client.messages.create(messages=turns, **asked)
    assert [block.type for block in last.content] == ["text"]


def test_a_tool_call_that_streams(client, gateway):
    """Its arguments come in pieces, and are one JSON object together."""
    choice = {"type": "tool", "name": "lookup"}
    with client.messages.stream(
        model=gateway.model, max_tokens=99, tools=[TOOL], tool_choice=choice, messages=HI
    ) as stream:
        pieces = [event for event in stream if event.type == "input_json"]
        [call] = stream.get_final_message().content

    assert len(pieces) > 1
    Lookup.model_validate(call.input)
    Lookup.model_validate_json("".join(piece.partial_json for piece in pieces))


def test_a_picture(client, gateway, tally):
    """As Base64; the engine says what it weighs."""
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 999}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "what is it"}]
    answer = client.messages.create(
        model=gateway.model, max_tokens=4, messages=[{"role": "user", "content": parts}]
    )

    assert answer.usage.input_tokens > 576
    tally.reach(completed=1, input=answer.usage.input_tokens)


def test_tokens_are_counted(client, gateway):
    """As many as the message itself then has."""
    asked = {"model": gateway.model, "messages": HI, "system": "be brief"}
    counted = client.messages.count_tokens(**asked).input_tokens

    assert counted == client.messages.create(max_tokens=2, **asked).usage.input_tokens


def test_models_are_listed(client, gateway):
    assert [model.id for model in client.models.list()] == [gateway.model]
    assert client.models.retrieve(gateway.model).id == gateway.model


def test_errors_are_the_exceptions_of_the_sdk(client, gateway):
    """In Anthropic's shape, also those of the gateway itself."""
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nope", max_tokens=9, messages=HI)
    assert missing.value.body["error"]["type"] == "not_found_error"
    long: Any = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=gateway.model, max_tokens=9, messages=long)
    assert refused.value.body["type"] == "error"


def test_a_stream_that_is_left(client, gateway, tally):
    """The engine is told, and nothing is left behind."""
    with client.messages.stream(
        model=gateway.model, max_tokens=4000, messages=HI, extra_body=EXACTLY
    ) as stream:
        next(iter(stream.text_stream))

    tally.reach(completed=0, others=1)
    assert gateway.count("cuvee_in_flight") == 0

"""The LiteLLM SDK, as `openai/MODEL`, `hosted_vllm/MODEL` and `anthropic/MODEL`."""

import asyncio
import json
import os

import pytest
from pydantic import BaseModel

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else importing it downloads prices
import litellm

HI = [{"role": "user", "content": "say a few words please"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Looks a city up.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
PROVIDERS = pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])


class Forecast(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    days: int
    tags: list[str]


@pytest.fixture
def asked(gateway):
    """What a call of a provider needs."""

    def make(provider: str, **fields):
        base = gateway.url if provider == "anthropic" else gateway.api
        named = {"model": f"{provider}/{gateway.model}", "api_base": base, "api_key": "sk-a"}
        return {**named, "max_retries": 0, **fields}

    return make


def exactly(tokens: int) -> dict:
    """No end before so many tokens."""
    return {"max_tokens": tokens, "extra_body": {"ignore_eos": True}}


@PROVIDERS
def test_a_chat(asked, tally, provider):
    answer = litellm.completion(**asked(provider, messages=HI, **exactly(12)))

    assert len(answer.choices[0].message.content.split()) == 12
    assert answer.usage.completion_tokens == 12
    tally.reach(completed=1, others=0, input=answer.usage.prompt_tokens, output=12)


@PROVIDERS
def test_a_chat_that_streams(asked, tally, provider):
    """The same text as whole, and the usage that the engine counted."""
    fields = asked(provider, messages=HI, **exactly(12))
    whole = litellm.completion(**fields)
    usage = {"stream_options": {"include_usage": True}}
    events = list(litellm.completion(**fields, stream=True, **usage))
    built = litellm.stream_chunk_builder(events, messages=HI)

    assert built.choices[0].message.content == whole.choices[0].message.content
    assert built.usage.completion_tokens == 12
    assert built.usage.prompt_tokens == whole.usage.prompt_tokens
    tally.reach(completed=2, others=0, output=24)


@PROVIDERS
def test_a_tool_is_called_and_answers(asked, provider):
    """Called, its arguments read, its result sent back, and an answer in words."""
    fields = asked(provider, tools=[TOOL], tool_choice="auto")
    first = litellm.completion(messages=HI, **fields).choices[0]
    [call] = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert set(json.loads(call.function.arguments)) == {"city", "days"}

    result = {"role": "tool", "tool_call_id": call.id, "content": "it rains"}
    turns = [*HI, first.message, result]
    assert litellm.completion(messages=turns, **fields).choices[0].message.content


@PROVIDERS
def test_a_structured_output(asked, provider):
    answer = litellm.completion(**asked(provider, messages=HI, response_format=Forecast))

    Forecast.model_validate_json(answer.choices[0].message.content)


def test_completions(asked, tally):
    """By `/v1/completions`, whole and streamed."""
    fields = asked("text-completion-openai", prompt="one two", **exactly(7))
    whole = litellm.text_completion(**fields)
    events = litellm.text_completion(**fields, stream=True)

    assert len(whole.choices[0].text.split()) == 7
    assert "".join(e.choices[0].text or "" for e in events) == whole.choices[0].text
    tally.reach(completed=2, others=0, output=14)


@PROVIDERS
def test_embeddings(asked, tally, provider):
    fields = asked(provider, input=["one two three", "four"], encoding_format="float")
    answer = litellm.embedding(**fields)

    assert [len(vector["embedding"]) for vector in answer.data] == [8, 8]
    tally.reach(completed=1, others=0, input=answer.usage.prompt_tokens)


def test_responses(asked, tally):
    """Whole and streamed."""
    fields = asked("openai", input="hello", max_output_tokens=16)
    whole = litellm.responses(**fields)
    events = list(litellm.responses(**fields, stream=True))

    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output[0].content[0].text
    assert events[-1].type == "response.completed"
    tally.reach(completed=2, others=0, output=2 * whole.usage.output_tokens)


def test_messages(asked, tally):
    """As a provider of Anthropic's API: whole and streamed."""
    fields = asked("anthropic", messages=HI, max_tokens=9)
    whole = litellm.completion(**fields)
    events = litellm.completion(**fields, stream=True)

    text = "".join(event.choices[0].delta.content or "" for event in events)
    assert text == whole.choices[0].message.content
    tally.reach(completed=2, others=0)


def test_errors_are_the_exceptions_of_the_sdk(asked):
    """A model that is not there."""
    with pytest.raises(litellm.exceptions.NotFoundError):
        litellm.completion(**asked("openai", messages=HI) | {"model": "openai/nope"})


def test_many_at_once(asked, tally):
    """32 streams, asynchronously."""

    async def one() -> str:
        fields = asked("openai", messages=HI, stream=True, **exactly(6))
        events = await litellm.acompletion(**fields)
        return "".join([event.choices[0].delta.content or "" async for event in events])

    async def run() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(32)))

    assert [len(text.split()) for text in asyncio.run(run())] == [6] * 32
    tally.reach(completed=32, others=0, output=192)

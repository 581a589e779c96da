"""LlamaIndex: `OpenAILike` and `OpenAILikeEmbedding`."""

import asyncio
import warnings

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

HI = [ChatMessage(role="user", content="say a few words please")]


class Forecast(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    days: int
    tags: list[str]


def look_up(city: str, days: int) -> str:
    """Looks a city up."""
    return f"{days} days of rain in {city}"


LOOKUP = FunctionTool.from_defaults(look_up)


@pytest.fixture
def model(gateway):
    """Makes a model with further settings."""

    def make(**settings) -> OpenAILike:
        fixed = {"context_window": 8192, "max_retries": 0, "is_function_calling_model": True}
        return OpenAILike(
            api_base=gateway.api, api_key="sk-a", model=gateway.model,
            **{**fixed, "is_chat_model": True, **settings},
        )  # fmt: skip

    return make


def exactly(tokens: int) -> dict:
    """No end before so many tokens."""
    return {"max_tokens": tokens, "additional_kwargs": {"extra_body": {"ignore_eos": True}}}


def test_a_chat(model, tally):
    answer = model(**exactly(12)).chat(HI)

    assert len(answer.message.content.split()) == 12
    assert answer.raw.usage.completion_tokens == 12
    tally.reach(completed=1, others=0, input=answer.raw.usage.prompt_tokens, output=12)


def test_a_chat_that_streams(model, tally):
    """The same text as whole, in pieces."""
    asked = model(**exactly(12))
    whole = asked.chat(HI)
    pieces = list(asked.stream_chat(HI))

    assert "".join(piece.delta for piece in pieces) == whole.message.content
    assert pieces[-1].message.content == whole.message.content
    tally.reach(completed=2, others=0, output=24)


def test_completions(model, tally):
    """By `/v1/completions`, whole and streamed."""
    asked = model(is_chat_model=False, is_function_calling_model=False, **exactly(7))
    whole = asked.complete("one two")
    pieces = list(asked.stream_complete("one two"))

    assert len(whole.text.split()) == 7
    assert pieces[-1].text == whole.text
    tally.reach(completed=2, others=0, output=14)


def test_a_tool_is_called_and_answers(model):
    """By LlamaIndex's own loop: called, run, its result sent back, and an answer in words."""
    asked = model()
    first = asked.chat_with_tools([LOOKUP], chat_history=HI)
    [call] = asked.get_tool_calls_from_response(first)
    assert (call.tool_name, set(call.tool_kwargs)) == ("look_up", {"city", "days"})

    answer = asked.predict_and_call([LOOKUP], chat_history=HI)
    assert "days of rain" in answer.response


def test_a_tool_call_that_streams(model):
    asked = model()
    pieces = list(asked.stream_chat_with_tools([LOOKUP], chat_history=HI))
    [call] = asked.get_tool_calls_from_response(pieces[-1])

    assert set(call.tool_kwargs) == {"city", "days"}


@pytest.mark.parametrize("strict", [True, False], ids=["JSON schema", "function"])
def test_a_structured_output(model, strict):
    """By a JSON schema, and by a call of a function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = model(should_use_structured_outputs=strict).as_structured_llm(Forecast)
        assert isinstance(asked.chat(HI).raw, Forecast)


def test_embeddings(gateway, tally):
    made = OpenAILikeEmbedding(
        api_base=gateway.api, api_key="sk-a", model_name=gateway.model, max_retries=0
    )
    vectors = made.get_text_embedding_batch(["one two three", "four"])

    assert [len(vector) for vector in vectors] == [8, 8]
    assert made.get_query_embedding("four") != vectors[0]
    tally.reach(completed=2, others=0)


def test_many_at_once(model, tally):
    """32 streams, asynchronously."""

    async def one(asked: OpenAILike) -> str:
        return "".join([piece.delta async for piece in await asked.astream_chat(HI)])

    async def run() -> list[str]:
        asked = model(**exactly(6))
        return await asyncio.gather(*(one(asked) for _ in range(32)))

    assert [len(text.split()) for text in asyncio.run(run())] == [6] * 32
    tally.reach(completed=32, others=0, output=192)

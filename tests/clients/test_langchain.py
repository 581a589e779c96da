"""LangChain: `langchain-openai` and `langchain-anthropic`."""

import asyncio

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

KEY = SecretStr("sk-a")
HI = [HumanMessage("say a few words please")]


class Forecast(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    days: int
    tags: list[str]


@tool
def lookup(city: str, days: int) -> str:
    """Looks a city up."""
    return f"{days} days of rain in {city}"


@pytest.fixture
def chat(gateway):
    """A chat model; each test binds what it asks for."""

    def make(**settings) -> ChatOpenAI:
        return ChatOpenAI(
            base_url=gateway.api, api_key=KEY, model=gateway.model, max_retries=0, **settings
        )

    return make


def test_a_chat(chat, tally):
    answer = chat(max_tokens=12, extra_body={"ignore_eos": True}).invoke(HI)

    assert len(answer.text.split()) == 12
    assert answer.usage_metadata["output_tokens"] == 12
    assert answer.response_metadata["finish_reason"] == "length"
    tally.reach(completed=1, others=0, input=answer.usage_metadata["input_tokens"], output=12)


def test_a_chat_that_streams(chat, tally):
    """The same text as whole, and the usage at the end, because LangChain asks for it."""
    model = chat(max_tokens=12, extra_body={"ignore_eos": True}, stream_usage=True)
    whole = model.invoke(HI)
    pieces = list(model.stream(HI))

    added = pieces[0]
    for piece in pieces[1:]:
        added += piece
    assert len(pieces) >= 12
    assert added.text == whole.text
    assert added.usage_metadata["output_tokens"] == 12
    tally.reach(completed=2, others=0, output=24)


def test_a_tool_is_called_and_answers(chat):
    """Called, run, its result sent back, and an answer in words."""
    model = chat().bind_tools([lookup])
    first = model.invoke(HI)
    [call] = first.tool_calls
    result = lookup.invoke(call)
    assert isinstance(result, ToolMessage)
    assert "days of rain" in result.text
    last = model.invoke([*HI, first, result])

    assert not last.tool_calls
    assert last.text


def test_a_tool_call_that_streams(chat):
    first, *rest = chat().bind_tools([lookup]).stream(HI)
    added = first
    for piece in rest:
        added += piece

    assert [call["name"] for call in added.tool_calls] == ["lookup"]
    assert set(added.tool_calls[0]["args"]) == {"city", "days"}


@pytest.mark.parametrize(
    "method", ["json_schema", "function_calling"], ids=["JSON schema", "function"]
)
def test_a_structured_output(chat, method):
    model = chat().with_structured_output(Forecast, method=method)

    assert isinstance(model.invoke(HI), Forecast)


def test_responses(chat, tally):
    """By the Responses API, whole and streamed."""
    model = chat(max_tokens=16, use_responses_api=True)
    whole = model.invoke(HI)
    text = "".join(piece.text for piece in model.stream(HI))

    assert text == whole.text
    tally.reach(completed=2, others=0, output=2 * whole.usage_metadata["output_tokens"])


def test_completions(gateway, tally):
    model = OpenAI(
        base_url=gateway.api, api_key=KEY, model=gateway.model, max_tokens=7,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    assert len(model.invoke("one two").split()) == 7
    assert len("".join(model.stream("one two")).split()) == 7
    tally.reach(completed=2, others=0, output=14)


def test_embeddings(gateway, tally):
    """As texts. LangChain's default is lists of ids of a tokenizer of OpenAI's, which it downloads
    and which mean something else to the engine."""
    model = OpenAIEmbeddings(
        base_url=gateway.api, api_key=KEY, model=gateway.model, check_embedding_ctx_length=False
    )
    vectors = model.embed_documents(["one two three", "four"])

    assert [len(vector) for vector in vectors] == [8, 8]
    assert model.embed_query("four") != vectors[0]
    tally.reach(completed=2, others=0)


def test_messages(gateway, tally):
    """By Anthropic's API: whole, streamed, and with a tool."""
    model = ChatAnthropic(
        base_url=gateway.url, api_key=KEY, model=gateway.model, max_tokens=40, max_retries=0
    )
    whole = model.invoke(HI)
    text = "".join(piece.text for piece in model.stream(HI))
    called = model.bind_tools([lookup]).invoke(HI)

    assert text == whole.text
    assert set(called.tool_calls[0]["args"]) == {"city", "days"}
    tally.reach(completed=3, others=0)


def test_a_batch(chat, tally):
    """32 chats at a time, asynchronously."""
    model = chat(max_tokens=6, extra_body={"ignore_eos": True})
    answers = asyncio.run(model.abatch([HI] * 32))

    assert [len(answer.text.split()) for answer in answers] == [6] * 32
    tally.reach(completed=32, others=0, output=192)

"""Prompts are counted by the model's own tokenizer, in time or not at all."""

import asyncio
import json
from hashlib import sha256
from threading import Event

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway.config.serving import ServedModel
from gateway.config.tokenizer_file import TokenizerFile
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.token_counter import AT_ONCE, MOST_BYTES, TokenCounter
from gateway.routing.body import read_body
from gateway.routing.endpoints import CHAT, COMPLETIONS, EMBEDDINGS

LONG = "a " * AT_ONCE


@pytest.fixture
def served(tmp_path):
    """A model whose tokens are words; its file cuts texts after three, as those of some models."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=3)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    file = TokenizerFile(str(path), sha256(path.read_bytes()).hexdigest())
    return ServedModel(
        name="m", max_model_len=4096, bytes_per_token=4.0, pools=("p",), tokenizer=file
    )


@pytest.fixture
async def counter(served):
    """A counter whose tokenizer is loaded."""
    counter = TokenCounter([served])
    await until(lambda: counter.ready)
    yield counter
    counter.close()


async def until(true):
    """Waits for something that another thread brings about."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.005)


async def counted(counter, endpoint=CHAT, model="m", **fields):
    body = json.dumps(fields).encode()
    found = asyncio.get_running_loop().create_future()

    async def count():
        found.set_result(await counter.count(model, read_body(body, endpoint), body))

    Fiber().start(count())
    return await found


def chat(*contents):
    return [{"role": "user", "content": content} for content in contents]


@pytest.mark.parametrize("more", ["", LONG])
async def test_all_text_is_counted_and_nothing_is_cut(counter, more):
    """Of messages, parts, tools and instructions, each by itself; at once or in the thread."""
    extra = len(more.split())
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "five six"}, picture]

    assert await counted(counter, messages=chat("one two", "three four", more)) == 4 + extra
    assert await counted(counter, messages=chat(parts, more)) == 2 + extra
    assert await counted(counter, messages=chat(more), tools=[{"a": "b c"}]) == 3 + extra
    assert await counted(counter, COMPLETIONS, prompt="one two three four " + more) == 4 + extra
    assert await counted(counter, EMBEDDINGS, input=["one two", "three", more]) == 3 + extra


async def test_what_cannot_be_counted_is_left_to_the_estimate(counter):
    """Another model, token ids, which are counted already, and a prompt that takes too long."""
    assert await counted(counter, messages=chat(LONG), model="other") is None
    assert await counted(counter, COMPLETIONS, prompt=[1, 2, 3]) is None
    assert await counted(counter, messages=chat("a " * MOST_BYTES)) is None
    assert await counted(counter, messages=chat(LONG)) == AT_ONCE


async def test_no_prompt_waits_long_nor_behind_much(counter):
    """While the thread is busy a prompt is given up after a while, and behind as much as can be
    counted in that time none waits at all; what was given up is not counted later."""
    busy = Event()
    assert counter._executor is not None
    counter._executor.submit(busy.wait)
    try:
        much = asyncio.ensure_future(counted(counter, messages=chat("a" * (MOST_BYTES - 99))))
        await asyncio.sleep(0)
        assert await counted(counter, messages=chat(LONG)) is None
        assert not much.done()
        assert await much is None
    finally:
        busy.set()

    await until(lambda: counter._waiting_bytes == 0)
    assert await counted(counter, messages=chat(LONG)) == AT_ONCE


async def test_another_configuration_has_other_tokenizers(counter, served, tmp_path):
    """A model without one is not counted any more; one with another file is, when it is loaded; a
    file that is gone is no harm."""
    counter.configure([])
    assert counter.idle
    assert await counted(counter, messages=chat("one two")) is None

    counter.configure([served])
    await until(lambda: counter.ready)
    assert await counted(counter, messages=chat("one two")) == 2

    gone = TokenizerFile(str(tmp_path / "gone.json"), "0")
    counter.configure([ServedModel(
        name="m", max_model_len=1, bytes_per_token=4.0, pools=(), tokenizer=gone
    )])  # fmt: skip
    assert await counted(counter, messages=chat("one two")) is None


async def test_a_tokenizer_that_fails_leaves_the_prompt_to_the_estimate(tmp_path):
    """As one whose vocabulary lacks a word and has no token for such."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    counter = TokenCounter([ServedModel(
        name="m", max_model_len=1, bytes_per_token=4.0, pools=(),
        tokenizer=TokenizerFile(str(path), "0"),
    )])  # fmt: skip
    await until(lambda: counter.ready)

    assert await counted(counter, messages=chat("one")) is None
    assert await counted(counter, messages=chat(LONG)) is None
    counter.close()

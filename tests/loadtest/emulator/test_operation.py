"""What an operator sees and does: sleep, what there is a path for, and metrics of three engines."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

MODEL = "tiny"
CHAT_PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "tell me a story"}]}
SHORT = {**CHAT, "max_tokens": 3, "ignore_eos": True}


@contextlib.asynccontextmanager
async def running(**options):
    """A served emulator and a client session bound to it."""
    emulator = Emulator(find_profile("llama-3-8b/H100", Path()), MODEL, **options)
    await emulator.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{emulator.port}") as session:
            yield emulator, session
    finally:
        await emulator.stop()


async def post(session, path, body=None):
    async with session.post(path, json=body) as response:
        data = await response.read()
        return response.status, await response.json() if data else None


async def scraped(session) -> dict[Any, Any]:
    """The samples of `/metrics` by name, or by name and the label that tells them apart."""
    async with session.get("/metrics") as response:
        page = await response.text()
    found: dict[Any, Any] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            told = sample.labels.get("sleep_state") or sample.labels.get("le")
            found[(sample.name, told) if told else sample.name] = sample
    return found


async def until(true):
    """Waits for what other tasks bring about, for five seconds at most."""
    async with asyncio.timeout(5):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(("level", "state"), [(1, "weights_offloaded"), (2, "discard_all")])
async def test_a_sleeping_engine_is_healthy_and_keeps_requests_waiting(level, state):
    """It says so on its own path and in its metrics; they go on when all of it is awake."""

    async def one_waits():
        return (await scraped(session))["vllm:num_requests_waiting"].value == 1

    async with running(sleep_mode=True) as (_, session):
        await post(session, f"/sleep?level={level}")
        async with session.get("/is_sleeping") as response:
            said = await response.json()
        async with session.get("/health") as response:
            health = response.status
        asked = asyncio.create_task(post(session, CHAT_PATH, SHORT))
        await until(one_waits)
        asleep = await scraped(session)
        await post(session, "/wake_up?tags=weights")
        async with session.get("/is_sleeping") as response:
            half = await response.json()
        done_half = asked.done()
        await post(session, "/wake_up")
        status, answer = await asked
        awake = await scraped(session)

    assert said == half == {"is_sleeping": True}
    assert health == 200
    assert not done_half
    states = {name[1]: s.value for name, s in asleep.items() if "sleep_state" in s.labels}
    assert states == dict.fromkeys(("awake", "weights_offloaded", "discard_all"), 0) | {state: 1}
    assert (status, answer["usage"]["completion_tokens"]) == (200, 3)
    assert awake["vllm:engine_sleep_state", "awake"].value == 1


@pytest.mark.parametrize(("mode", "reason", "tokens"), [("abort", "abort", None), ("wait", "", 40)])
async def test_falling_asleep_ends_what_is_under_way(mode, reason, tokens):
    """At once with what there is, or when it is finished."""

    async def one_runs():
        return (await scraped(session))["vllm:num_requests_running"].value == 1

    async with running(sleep_mode=True) as (_, session):
        body = {**CHAT, "max_tokens": 40, "ignore_eos": True}
        asked = asyncio.create_task(post(session, CHAT_PATH, body))
        await until(one_runs)
        status, _ = await post(session, f"/sleep?level=1&mode={mode}")
        _, answer = await asked

    assert status == 200
    assert answer["choices"][0]["finish_reason"] == (reason or "length")
    assert tokens in (None, answer["usage"]["completion_tokens"])


async def test_sleep_forgets_the_prefix_cache():
    """The KV is gone."""
    async with running(sleep_mode=True, prefix_cache=True) as (_, session):
        body = {"prompt": "word " * 100, "max_tokens": 2}
        details = []
        for path in (None, None, "/sleep", None):
            if path is not None:
                await post(session, path)
                await post(session, "/wake_up")
            _, answer = await post(session, "/v1/completions", body)
            details.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert details[:2] == [0, 96]
    assert details[2] == 0
    assert details[3] == 96


async def test_without_the_mode_nobody_can_put_it_to_sleep():
    """As vLLM outside of its development mode."""
    async with running() as (_, session):
        assert (await post(session, "/sleep"))[0] == 404


@pytest.mark.parametrize(
    ("task", "chats", "embeds"), [("generate", 200, 404), ("embed", 404, 200), ("both", 200, 200)]
)
async def test_a_model_does_what_it_is_for(task, chats, embeds):
    """There is no path for the rest: 404 in the framework's shape."""
    async with running(task=task) as (_, session):
        chat = await post(session, CHAT_PATH, SHORT)
        embedding = await post(session, "/v1/embeddings", {"input": "a b"})

    assert (chat[0], embedding[0]) == (chats, embeds)
    for status, body in (chat, embedding):
        assert status == 200 or body == {"detail": "Not Found"}


async def test_adapters_at_work_are_told():
    """By name, in a label, while their requests run; the value is the time."""

    async def one_runs():
        found = (await scraped(session))["vllm:lora_requests_info"]
        return found.labels["running_lora_adapters"] == "tuned" and found.value > 1e9

    async with running(loras=("tuned", "other")) as (_, session):
        body = {**CHAT, "model": "tuned", "max_tokens": 4000, "ignore_eos": True}
        asked = asyncio.create_task(post(session, CHAT_PATH, body))
        await until(one_runs)
        labels = (await scraped(session))["vllm:lora_requests_info"].labels
        asked.cancel()

    assert labels["max_lora"] == "2"
    assert labels["waiting_lora_adapters"] == ""


async def test_the_longest_answer_of_a_request_is_counted():
    """Once for a request, whatever its width."""
    async with running() as (_, session):
        await post(session, CHAT_PATH, {**SHORT, "n": 2})
        found = await scraped(session)

    assert found["vllm:request_max_num_generation_tokens_count"].value == 1
    assert found["vllm:request_max_num_generation_tokens_sum"].value == 3


async def test_an_sglang_has_its_own_names():
    """Running, waiting, KV and its capacity, hits; every sample with SGLang's labels."""
    async with running(engine="sglang", prefix_cache=True) as (emulator, session):
        for _ in range(2):
            await post(session, CHAT_PATH, {**SHORT, "messages": CHAT["messages"] * 5})
        found = await scraped(session)
        capacity = emulator.metrics.kv_tokens

    values = {name: sample.value for name, sample in found.items() if isinstance(name, str)}
    assert values["sglang:num_running_reqs"] == values["sglang:num_queue_reqs"] == 0
    assert values["sglang:token_usage"] == 0
    assert values["sglang:max_total_num_tokens"] == capacity
    assert values["sglang:num_requests_total"] == 2
    assert values["sglang:generation_tokens_total"] == 6
    hits = values["sglang:cached_tokens_total"]
    assert 0 < hits < values["sglang:prompt_tokens_total"]
    assert values["sglang:cache_hit_rate"] == hits / values["sglang:prompt_tokens_total"]
    assert values["sglang:time_to_first_token_seconds_count"] == 2
    labels = found["sglang:num_running_reqs"].labels
    assert set(labels) == {"engine_type", "model_name", "pp_rank", "tp_rank"}
    assert not any("vllm" in name for name in values)


async def test_a_tgi_has_its_own_names():
    """Gauges without labels, and counters without `_total`."""
    async with running(engine="tgi") as (_, session):
        await post(session, CHAT_PATH, SHORT)
        async with session.get("/metrics") as response:
            lines = (await response.text()).splitlines()

    assert {"tgi_queue_size 0", "tgi_batch_current_size 0", "tgi_request_count 1"} <= set(lines)
    assert "tgi_request_generated_tokens_sum 3.0" in lines
    assert "tgi_request_duration_count 1" in lines
    assert "# TYPE tgi_request_success counter" in lines

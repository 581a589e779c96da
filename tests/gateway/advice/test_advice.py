"""What engines that run today say of their traffic."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from gateway.advice.engine_totals import NAMES, read_totals
from gateway.advice.present_fleet import bill, present_engines
from gateway.advice.seen_trace import SPREAD, hit_share, kept_now, seen_traffic
from gateway.advice.watch import Watch, WatchedTraffic
from gateway.proxy.engines import DIALECTS
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from planner.errors import InvalidValue
from planner.traffic.trace import dispersion

ROOT = Path(__file__).resolve().parents[3]
PAGE = """
# TYPE vllm:request_prompt_tokens histogram
vllm:request_prompt_tokens_bucket{engine="0",le="100.0",model_name="m"} %(a)d
vllm:request_prompt_tokens_bucket{engine="0",le="1000.0",model_name="m"} %(n)d
vllm:request_prompt_tokens_bucket{engine="0",le="+Inf",model_name="m"} %(n)d
vllm:request_prompt_tokens_sum{engine="0",model_name="m"} %(tokens)d
vllm:request_generation_tokens_bucket{engine="0",le="200.0",model_name="m"} %(n)d
vllm:request_generation_tokens_bucket{engine="0",le="+Inf",model_name="m"} %(n)d
vllm:request_generation_tokens_sum{engine="0",model_name="m"} %(tokens)d
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5",model_name="m"} %(n)d
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} %(n)d
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 3
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} %(n)d
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 40
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100
vllm:broken nonsense
"""
SGLANG = """
sglang:num_requests_total{model_name="m",tp_rank="0"} 200
sglang:num_requests_total{model_name="m",tp_rank="1"} 200
sglang:prompt_tokens_total{model_name="m",tp_rank="0"} 60000
sglang:generation_tokens_total{model_name="m",tp_rank="0"} 24000
"""


def page(n, tokens):
    return PAGE % {"a": n // 2, "n": n, "tokens": tokens}


def watched(now, before, windows):
    totals = read_totals(now)
    assert totals is not None
    first = read_totals(before)
    assert first is not None
    seconds = sum(length for length, _ in windows)
    return WatchedTraffic(
        seconds=seconds, windows=list(windows), served={"http://a": totals.minus(first)}
    )


def test_every_engine_of_the_table_has_its_names():
    assert set(NAMES) == set(DIALECTS)


def test_only_what_came_meanwhile_counts():
    """Sizes with their exact means; the promise that is kept now; arrivals as they ended."""
    windows = [(10.0, 10.0), (10.0, 90.0)] * 4
    traffic = watched(page(900, 200_000), page(500, 100_000), windows)

    seen = seen_traffic(traffic, every_s=10.0)

    assert len(seen.trace) == 400
    assert seen.trace.duration_s == pytest.approx(80.0)
    assert seen.trace.input_tokens.mean() == pytest.approx(250.0, rel=0.02)
    assert seen.trace.output_tokens.max() <= 2 * 200
    assert kept_now(traffic, 0.99) == (0.5, None)
    assert hit_share(traffic) is None or hit_share(traffic) == pytest.approx(0.4)
    assert dispersion(seen.trace.arrival_s, 10.0, 80.0) == pytest.approx(36.6, rel=0.05)
    assert any("index of dispersion is 3" in line for line in seen.unknown)
    assert any("independent" in line for line in seen.unknown)
    correlation = np.corrcoef(seen.trace.input_tokens, seen.trace.output_tokens)[0, 1]
    assert abs(correlation) < 0.2


def test_where_only_means_are_known_a_spread_is_assumed_and_said():
    """Ranks of one engine tell the same and count once."""
    totals = read_totals(SGLANG)
    assert totals is not None
    assert (totals.engine, totals.requests, totals.models) == ("sglang", 200, ("m",))
    traffic = WatchedTraffic(seconds=60.0, windows=[(60.0, 200.0)], served={"a": totals})

    seen = seen_traffic(traffic, every_s=60.0)

    assert seen.trace.input_tokens.mean() == pytest.approx(300, rel=0.01)
    assert np.log(seen.trace.input_tokens).std() == pytest.approx(SPREAD, rel=0.2)
    assert any("the spread of sizes" in line for line in seen.unknown)
    assert any(line.startswith("bursts: less than") for line in seen.unknown)


def test_too_little_is_not_advised_on():
    traffic = watched(page(510, 101_000), page(500, 100_000), [(10.0, 10.0)])

    with pytest.raises(InvalidValue, match="only 10 requests ended"):
        seen_traffic(traffic, every_s=10.0)


def test_an_engine_that_began_anew_counts_from_its_start():
    before, after = read_totals(page(500, 100_000)), read_totals(page(20, 4_000))
    assert before is not None
    assert after is not None

    assert after.minus(before) is after


@pytest.mark.parametrize("text", ["", "nothing", "up 1\n", "<html></html>"])
def test_a_page_of_something_else_is_none(text):
    assert read_totals(text) is None


async def test_what_does_not_answer_is_told_at_once():
    watch = Watch(["http://127.0.0.1:9"], every_s=1.0)

    with pytest.raises(InvalidValue, match=r"127\.0\.0\.1:9"):
        await watch.run(60.0, lambda _: None)
    with pytest.raises(InvalidValue, match="must start with http"):
        Watch(["127.0.0.1:9"], every_s=1.0)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
async def test_engines_of_all_kinds_are_watched(engine):
    """Requests that end meanwhile, with their sizes; those of before do not count."""
    emulator = Emulator(find_profile("llama-3-8b/H100", ROOT), "llama-3-8b", engine=engine)
    url = f"http://127.0.0.1:{await emulator.start()}"
    body = {
        "model": "llama-3-8b", "messages": [{"role": "user", "content": "word " * 100}],
        "vllm_xargs": {"output_tokens": 3},
    }  # fmt: skip

    async def send(session, number):
        for _ in range(number):
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                assert reply.status == 200

    watch, read, enough = Watch([url], every_s=0.05), asyncio.Event(), asyncio.Event()

    def progress(traffic):
        read.set()
        if traffic.requests >= 60:
            enough.set()

    async with ClientSession() as session:
        await send(session, 5)
        begun = asyncio.create_task(watch.run(60.0, progress))
        await asyncio.wait_for(read.wait(), 30.0)
        await asyncio.gather(*(send(session, 10) for _ in range(6)))
        await asyncio.wait_for(enough.wait(), 30.0)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
    await emulator.stop()

    assert watch.traffic.requests == 60
    seen = seen_traffic(watch.traffic, every_s=0.05)
    assert seen.trace.output_tokens.mean() == pytest.approx(3.0, abs=0.5)
    assert seen.trace.input_tokens.mean() > 80
    assert watch.traffic.served[url].engine == engine
    ttft, tpot = kept_now(watch.traffic, 0.99)
    assert (ttft is None) is (engine == "tgi")
    assert tpot is not None


def test_what_runs_now_has_its_price():
    """One kind is as many as there are URLs; several kinds have their numbers."""
    usd = {"A10G": 1.0, "H100": 4.0}
    [alone] = present_engines(["a10g"], 3)
    assert bill([alone], usd) == 3.0
    both = present_engines(["A10G=2", "2xH100=1"], 3)
    assert bill(both, usd) == 10.0
    assert [one.words for one in both] == ["2 A10G", "1 2xH100"]
    assert present_engines([], 3) == ()
    for named, engines in ((["A10G=2"], 3), (["nothing"], 1), (["A10G", "H100"], 3), (["=3"], 1)):
        with pytest.raises(InvalidValue):
            present_engines(named, engines)
    with pytest.raises(InvalidValue, match="no price"):
        bill(present_engines(["L4"], 1), usd)

"""`cuvee advise`, as a user runs it."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner, Result

from cuvee.advise import advise
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[2]
MODEL = "llama-3-8b"
PRICES = """\
format: cuvee-prices/1
usd_per_gpu_hour:
  A10G: {usd: 1.0, source: offer, region: here, date: 2026-01-01}
  H100: {usd: 4.0, source: offer, region: here, date: 2026-01-01}
"""


@pytest.fixture
def small(tmp_path):
    """Options of a search that takes seconds."""
    file = tmp_path / "prices.yaml"
    file.write_text(PRICES)
    return ("--prices", file, "--seeds", 2, "--requests", 200)


def run(*arguments) -> Result:
    return CliRunner().invoke(advise, [str(a) for a in arguments])


@pytest.mark.long
async def test_engines_are_watched_and_advised_on(small):
    """Their traffic beside the cheapest certified fleet, and what is not known. Nothing but GETs
    of their metrics reaches them."""
    emulator = Emulator(find_profile(f"{MODEL}/H100", ROOT), MODEL)
    port = await emulator.start()
    url, over = f"http://127.0.0.1:{port}", asyncio.Event()

    async def traffic(session: ClientSession) -> None:
        while not over.is_set():
            body = {
                "model": MODEL, "messages": [{"role": "user", "content": "word " * 200}],
                "vllm_xargs": {"output_tokens": 8}, "stream": True,
            }  # fmt: skip
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                await reply.read()

    async with ClientSession() as session:
        senders = [asyncio.create_task(traffic(session)) for _ in range(4)]
        result = await asyncio.to_thread(
            run, "--url", f"{url}/metrics", "--for", 0.04, "--every", 0.2, "--gpu", "H100=4",
            *small, "--json",
        )  # fmt: skip
        wrong = result
        result = await asyncio.to_thread(
            run, "--url", url, "--for", 0.04, "--every", 0.2, "--gpu", "2xH100", *small,
            "--ttft", 2, "--tpot", 0.1, "--json",
        )  # fmt: skip
        over.set()
        await asyncio.gather(*senders)
    await emulator.stop()

    assert wrong.exit_code == 2
    assert "--gpu names 4 engines, and 1 are watched" in wrong.output
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["now"] == {"engines": ["1 2xH100"], "usd_per_hour": 8.0}
    assert told["served"] is True
    assert told["saving_against_now"] == pytest.approx(1 - told["usd_per_hour"] / 8.0)
    assert told["slo"]["ttft_s"] == 2.0
    assert "8 out" in told["seen"][0]
    assert any("independent" in line for line in told["unknown"])


def test_a_log_is_advised_on(small, tmp_path):
    """Its own arrivals and sizes, beside what runs now; a promise must be given."""
    rows = "".join(f"{n / 4},{200 + n},{50 + n}\n" for n in range(200))
    log = tmp_path / "log.csv"
    log.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    more = ("--log", log, "--model", MODEL, *small)

    result = run(*more, "--ttft", 2, "--tpot", 0.08, "--gpu", "H100=3")
    lacking = run(*more)

    assert result.exit_code == 0, result.output
    for words in ("certified: ", "now: 3 H100, $12.00/h: Cuvée would save", "What this does not"):
        assert words in result.stdout
    assert lacking.exit_code == 1
    assert "--ttft and --tpot: needed" in lacking.output


def test_mistakes_are_told_before_anything_is_watched(small):
    for code, arguments, words in (
        (2, (), "--url or --log"),
        (2, ("--url", "http://127.0.0.1:9", "--log", __file__), "--url or --log"),
        (1, ("--url", "http://127.0.0.1:9", *small), "127.0.0.1:9"),
        (2, ("--url", "http://127.0.0.1:9", "--gpu", "RTX", *small), "RTX"),
        (2, ("--url", "http://127.0.0.1:9", "--gpu", "H100=0", *small), "H100=0"),
        (1, ("--log", __file__, "--model", MODEL, *small), "test_advise.py"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, arguments
        assert words in result.output, result.output
        assert "Traceback" not in result.output

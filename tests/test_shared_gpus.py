"""Two models on one GPU, over real sockets: who is asked for is awake, and never both."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]


def configuration(engines: dict[str, str]) -> dict[str, Any]:
    """engines: URL by model."""
    slo = {"ttft_s": 5.0, "tpot_s": 0.2}
    return {
        "models": {model: {"slo": slo} for model in engines},
        "pools": {
            f"pool-{model}": {
                "model": model, "profile": "llama-3-8b/A10G", "usd_per_hour": 1.0,
                "shared_gpus": "rack", "discover": {"file": f"{model}.yaml"},
                "scale": {"prometheus": True, "least": 0, "most": 1, "wake_s": 1.0},
            }
            for model in engines
        },
        "limits": {"shared_gpus": {"rack": {"gpus": 1, "usd_per_hour": 3.0}}},
        "scaling": {"interval_s": 0.3, "hold_s": 0.0, "silence_s": 0.0, "drain_s": 5.0},
        "planner": {"window_s": 10.0, "interval_s": 5.0, "certify_cpu_s": 0},
        "gateway": {
            "host": "127.0.0.1", "port": 0, "admin_port": 0, "workers": 1, "drain_s": 1.0,
            "drain_delay_s": 0, "health_interval_s": 0.2, "warmup_s": 0, "scrape_interval_s": 0.1,
        },
    }  # fmt: skip


async def is_awake(session: ClientSession, url: str) -> bool:
    async with session.get(f"{url}/is_sleeping") as reply:
        return not (await reply.json())["is_sleeping"]


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.05)


@pytest.mark.long
async def test_one_lies_down_before_the_other_is_woken(tmp_path: Path):
    """Requests for the model that sleeps are refused until the other one has lain down and its own
    is awake; then they are served. What is under way is finished."""
    profile = find_profile("llama-3-8b/A10G", ROOT)
    engines = {model: Emulator(profile, model, sleep_mode=True) for model in ("one", "two")}
    urls = {m: f"http://127.0.0.1:{await engine.start()}" for m, engine in engines.items()}
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump(configuration(urls)))
    for model, url in urls.items():
        (tmp_path / f"{model}.yaml").write_text(yaml.safe_dump([url]))
    both: list[bool] = []
    try:
        async with ClientSession() as session, App(load(path), path=path) as app:
            async with session.post(f"{urls['two']}/sleep?level=1") as reply:
                assert reply.status == 200

            async def ask(model: str, tokens: int = 2) -> int:
                body = {
                    "model": model, "messages": [{"role": "user", "content": "word"}],
                    "vllm_xargs": {"output_tokens": tokens},
                }  # fmt: skip
                address = f"http://127.0.0.1:{app.port}/v1/chat/completions"
                async with session.post(address, json=body) as reply:
                    await reply.read()
                awake = [await is_awake(session, url) for url in urls.values()]
                both.append(all(awake))
                return reply.status

            await until(lambda: _asleep(app, "two"))
            first = await ask("one")
            long = asyncio.create_task(ask("one", 40))

            async def served() -> bool:
                return await ask("two") == 200

            await until(served)
            switched = [await is_awake(session, url) for url in urls.values()]
            finished = await long
            async with session.get(f"{app.admin}/cuvee/scaling") as reply:
                told = (await reply.json())["pools"]
            async with session.get(f"{app.admin}/cuvee/history") as reply:
                lines = [entry.get("cause", "") for entry in (await reply.json())["entries"]]
    finally:
        for engine in engines.values():
            await engine.stop()

    assert (first, finished, switched) == (200, 200, [False, True])
    assert not any(both)
    assert {name: pool["sleep"]["awake"] for name, pool in told.items()} == {
        "pool-one": 0, "pool-two": 1,
    }  # fmt: skip
    down = next(n for n, line in enumerate(lines) if "pool-one-0 goes to sleep" in line)
    up = next(n for n, line in enumerate(lines) if "pool-two-0 is woken" in line)
    assert down < up
    assert not any("are ordered" in line for line in lines)


async def _asleep(app: App, model: str) -> bool:
    return any(b.asleep for b in app.fleet.backends if b.pool == f"pool-{model}")

"""A gateway before engines that others use too, or that sleep, over real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODEL = "llama-3-8b"
OFTEN_S, NEVER_S = 0.02, 0.0
OTHERS = 100  # requests of another client
OURS = 12


def said(tokens: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": "one two three four"}],
        "vllm_xargs": {"output_tokens": tokens},
    }


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that happens elsewhere; a test that waits in vain fails."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


class Engines:
    """A running gateway before two emulated engines."""

    def __init__(self, app: App, emulators: list[Emulator], session: ClientSession) -> None:
        self.app, self.emulators, self.session = app, emulators, session
        self.urls = [f"http://127.0.0.1:{emulator.port}" for emulator in emulators]

    async def ask(self, base: str, tokens: int = 1) -> str | None:
        """The backend that served a request; `None` if it was not served."""
        async with self.session.post(f"{base}/v1/chat/completions", json=said(tokens)) as reply:
            await reply.read()
            return reply.headers.get("x-cuvee-backend") if reply.status == 200 else None

    async def served(self, count: int = OURS) -> Counter[str | None]:
        """By backend, as many requests one after the other."""
        base = f"http://127.0.0.1:{self.app.port}"
        return Counter([await self.ask(base) for _ in range(count)])

    async def metrics(self) -> dict[str, float]:
        async with self.session.get(f"{self.app.admin}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        return {n: float(v) for n, v in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}

    async def shows(self, name: str, backend: int, true: Callable[[float], bool]) -> None:
        """Waits until a metric of a backend is so."""
        sample = f'{name}{{backend="h100-{backend}",pool="h100"}}'
        await until(lambda: self._shown(sample, true))

    async def _shown(self, sample: str, true: Callable[[float], bool]) -> bool:
        return true((await self.metrics()).get(sample, -1.0))


@asynccontextmanager
async def running(
    tmp_path: Path, *, interval_s: float = OFTEN_S, workers: int = 1, **emulated: Any
) -> AsyncIterator[Engines]:
    profile = find_profile(f"{MODEL}/H100", CONFIGS)
    async with AsyncExitStack() as stack:
        emulators = [Emulator(profile, MODEL, **emulated) for _ in range(2)]
        urls = [f"http://127.0.0.1:{await emulator.start()}" for emulator in emulators]
        for emulator in emulators:
            stack.push_async_callback(emulator.stop)
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {
                "h100": {
                    "model": MODEL,
                    "profile": f"{MODEL}/H100",
                    "usd_per_hour": 1.0,
                    "backends": urls,
                    "engine": emulated.get("engine"),
                }
            },
            "gateway": {
                "admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0, "workers": workers,
                "scrape_interval_s": interval_s, "warmup_s": 0.5,
            },
        }  # fmt: skip
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        session = await stack.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield Engines(app, emulators, session)


@asynccontextmanager
async def others(engines: Engines, count: int = OTHERS) -> AsyncIterator[None]:
    """Another client at the first engine, past the gateway, with long answers."""
    first = engines.emulators[0]
    tasks = [asyncio.create_task(engines.ask(engines.urls[0], 5_000)) for _ in range(count)]
    try:

        async def all_there() -> bool:
            return first.engine.running + first.metrics.waiting == count

        await until(all_there)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi", None])
async def test_requests_go_where_others_are_not(tmp_path: Path, engine: str | None):
    """Of every engine, and where the configuration does not name it."""
    named: dict[str, Any] = {} if engine is None else {"engine": engine}
    async with running(tmp_path, **named) as engines, others(engines):
        await engines.shows("cuvee_engine_foreign", 0, lambda n: n >= OTHERS)
        found = await engines.served()

        assert found == {"h100-1": OURS}


@pytest.mark.long
async def test_without_asking_they_would_go_there_too(tmp_path: Path):
    """The other half of the comparison."""
    async with running(tmp_path, interval_s=NEVER_S) as engines, others(engines):
        found = await engines.served()

        assert found["h100-0"] > 0
        assert not any(name.startswith("cuvee_engine_running{") for name in await engines.metrics())


async def test_they_come_back_when_the_others_are_gone(tmp_path: Path):
    """What was seen once does not stay."""
    async with running(tmp_path) as engines:
        async with others(engines):
            await engines.shows("cuvee_engine_foreign", 0, lambda n: n >= OTHERS)
        await engines.shows("cuvee_engine_foreign", 0, lambda n: n == 0.0)
        found = await engines.served()

    assert found["h100-0"] > 0


async def test_every_worker_knows_it(tmp_path: Path):
    """The process that asks is not one that serves."""
    async with running(tmp_path, workers=2) as engines, others(engines):
        await engines.shows("cuvee_engine_foreign", 0, lambda n: n >= OTHERS)

        async def gone() -> bool:
            return bool(await engines.served() == {"h100-1": OURS})

        await until(gone)


async def test_our_own_requests_are_not_those_of_others(tmp_path: Path):
    """However many they are."""
    async with running(tmp_path) as engines:
        base = f"http://127.0.0.1:{engines.app.port}"
        tasks = [asyncio.create_task(engines.ask(base, 5_000)) for _ in range(20)]
        await engines.shows("cuvee_engine_running", 0, lambda n: n > 0)
        asked = [e.metrics.received for e in engines.emulators]
        for _ in range(4):
            await engines.shows("cuvee_scrape_age_seconds", 0, lambda age: 0.0 <= age < 5 * OFTEN_S)
            assert [b.foreign for b in engines.app.fleet.backends] == [0.0, 0.0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(asked) == 20


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_engine_that_sleeps_gets_nothing_until_it_wakes(tmp_path: Path, workers: int):
    """Its health is good all the time; readiness says it."""
    async with running(tmp_path, workers=workers, sleep_mode=True) as engines:
        await engines.session.post(f"{engines.urls[0]}/sleep?level=1")
        await engines.shows("cuvee_engine_sleeping", 0, lambda n: n == 1.0)
        ready: dict[str, Any] = {}

        async def one_lives() -> bool:
            async with engines.session.get(f"http://127.0.0.1:{engines.app.port}/readyz") as reply:
                ready.update(await reply.json())
            return bool(ready["live"] == {"h100": 1})

        await until(one_lives)  # a worker learns it within a fifth of a second
        up = (await engines.metrics())['cuvee_backend_up{backend="h100-0",pool="h100"}']
        if workers == 1:
            asleep = await engines.served()
            await engines.session.post(f"{engines.urls[0]}/wake_up")
            await engines.shows("cuvee_engine_sleeping", 0, lambda n: n == 0.0)

            async def serves() -> bool:
                return (await engines.served()).get("h100-0", 0) > 0

            await until(serves)  # it warms up first
            assert asleep == {"h100-1": OURS}
        assert ready["asleep"] == {"h100": 1}
        assert up == 1.0


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_hits_that_no_reply_tells_reach_the_demand(tmp_path: Path, engine: str):
    """By the engines' own counters; what their replies say stays as it is, which is nothing."""
    words = {"messages": [{"role": "user", "content": "the same words again " * 250}]}
    emulated: dict[str, Any] = {"prefix_cache": True, "tells_hits": False, "engine": engine}
    async with running(tmp_path, **emulated) as engines:
        base = f"http://127.0.0.1:{engines.app.port}"
        body = said(1) | words

        async def known() -> bool:
            async with engines.session.post(f"{base}/v1/chat/completions", json=body) as reply:
                assert "cached_tokens" not in await reply.text()
            await engines.metrics()
            demand = engines.app._planning._observed.snapshot(asyncio.get_running_loop().time())
            return bool(demand.cached_share.max(initial=0.0) > 0.2)

        await until(known)
        told = [v for n, v in (await engines.metrics()).items() if "cuvee_cached_tokens" in n]

    assert told == [0.0]

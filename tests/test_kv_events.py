"""KV events of emulated engines, heard by a whole gateway: its workers forget what engines do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession

from gateway.app import App
from gateway.config.load import load
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import Worker
from loadtest.emulator.kv_publisher import KvPublisher
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

pytest.importorskip("zmq")

ROOT = Path(__file__).resolve().parents[1]
PROFILE, MODEL = "llama-3-8b/H100", "llama-3-8b"
HELD = "cuvee_kv_held_tokens"
LONG = " ".join(f"word{n}" for n in range(1000))


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.02)


class Served:
    """A gateway before one engine that publishes."""

    def __init__(self, app: App, session: ClientSession, publisher: KvPublisher) -> None:
        self.app, self.session, self.publisher = app, session, publisher

    async def ask(self, text: str) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 2}
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        async with self.session.post(url, json=body) as reply:
            assert reply.status == 200

    async def metric(self, name: str) -> float | None:
        async with self.session.get(f"{self.app.admin}/metrics") as reply:
            found = re.search(rf"^{name}{{.*}} (\S+)$", await reply.text(), re.MULTILINE)
        return None if found is None else float(found[1])

    def clock(self) -> int:
        """Of the engine, as all workers read it."""
        plane: Any = self.app.plane
        if isinstance(plane, Supervisor):
            return plane.prefixes.clock(0)
        assert isinstance(plane, Worker)
        index = plane.router.affinity._index
        assert index is not None
        return index.clock(0)


@asynccontextmanager
async def served(folder: Path, workers: int) -> AsyncIterator[Served]:
    publisher = KvPublisher(replay_port=0)
    engine = Emulator(find_profile(PROFILE, ROOT), MODEL, prefix_cache=True, kv_publisher=publisher)
    url = f"http://127.0.0.1:{await engine.start()}"
    raw: dict[str, Any] = {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "h100": {
                "model": MODEL, "profile": PROFILE, "usd_per_hour": 1.0, "backends": [url],
                "kv_events": {
                    "endpoint": f"tcp://{{host}}:{publisher.port}",
                    "replay_endpoint": f"tcp://{{host}}:{publisher.replay_port}",
                    "topic": "kv-events",
                },
            }
        },
        "gateway": {
            "port": 0, "admin_port": 0, "workers": workers, "drain_s": 1, "drain_delay_s": 0,
        },
    }  # fmt: skip
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    try:
        async with App(load(path), host="127.0.0.1", port=0) as app, ClientSession() as session:
            yield Served(app, session, publisher)
    finally:
        await engine.stop()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_forget_what_engines_do(tmp_path: Path, workers: int):
    """What an engine holds is shown, and what is noted of it is forgotten when its cache is
    cleared; the loop is well."""
    async with served(tmp_path, workers) as gateway:

        async def connected() -> bool:
            return await gateway.metric("cuvee_kv_events_connected") == 1

        async def held() -> bool:
            return ((await gateway.metric(HELD)) or 0) >= 900

        async def empty() -> bool:
            return await gateway.metric(HELD) == 0

        await until(connected)
        await gateway.ask(LONG)
        await until(held)
        noted = gateway.clock()
        assert 1000 <= noted < 10_000

        gateway.publisher.cleared()
        await until(empty)

        profile = find_profile(PROFILE, ROOT)
        assert gateway.clock() > noted + 0.9 * profile.kv_capacity
        await gateway.ask(LONG + " again")
        async with gateway.session.get(f"{gateway.app.admin}/cuvee/loops") as reply:
            loop = (await reply.json())["loops"]["kv_events"]
        assert loop["error"] is None
        assert loop["good_at_s"] is not None
        assert await gateway.metric("cuvee_kv_events_total")
        assert await gateway.metric("cuvee_kv_event_gaps_total") == 0

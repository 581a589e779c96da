"""What a gateway tells of requests to programs that gather it, over real sockets."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from loadtest.process import free_port
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]
MODEL = "llama-3-8b"
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


@asynccontextmanager
async def served(folder: Path, **gateway: Any) -> AsyncIterator[tuple[App, ClientSession]]:
    """A gateway before one emulated engine, and a session for clients."""
    async with AsyncExitStack() as stack:
        engine = Emulator(find_profile("llama-3-8b/H100", ROOT), MODEL)
        url = f"http://127.0.0.1:{await engine.start()}"
        stack.push_async_callback(engine.stop)
        pool = {"model": MODEL, "profile": "llama-3-8b/H100", "usd_per_hour": 1.0}
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"h100": pool | {"backends": [url]}},
            "gateway": {"host": "127.0.0.1", "port": 0, "admin_port": 0, "drain_delay_s": 0}
            | gateway,
        }
        path = folder / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        app = await stack.enter_async_context(App(load(path)))
        yield app, await stack.enter_async_context(ClientSession())


async def ask(session: ClientSession, app: App, **headers: str) -> None:
    """One chat, as a stream."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "secret words of a prompt"}],
        "max_tokens": 3,
        "stream": True,
    }
    url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
    async with session.post(url, json=body, headers=headers) as reply:
        await reply.read()
        assert reply.status == 200


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and threads bring about."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("where", ["admin", "data"])
async def test_openmetrics_is_for_who_asks_for_it(tmp_path: Path, where: str):
    """With an exemplar for each request; on the data port too. All others get what they got."""
    async with served(tmp_path, operator_paths="both") as (app, session):
        await ask(session, app, **{"x-request-id": "my-own"})
        url = app.admin if where == "admin" else f"http://127.0.0.1:{app.port}"
        async with session.get(f"{url}/metrics", headers=OPENMETRICS) as reply:
            kind, page = reply.headers["content-type"], await reply.text()
        async with session.get(f"{url}/metrics") as reply:
            plain_kind, plain = reply.headers["content-type"], await reply.text()

    marked = {
        sample.exemplar.labels["request_id"]
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if family.name == "cuvee_ttft_seconds" and sample.exemplar is not None
    }
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert marked == {"my-own"}
    assert plain_kind.startswith("text/plain; version=0.0.4")
    assert "# EOF" not in plain
    assert "my-own" not in plain


@pytest.mark.long
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus (Debian)")
async def test_prometheus_itself_reads_it_with_its_exemplars(tmp_path: Path):
    """The shipped rules among what it evaluates."""
    rules = [str(ROOT / "configs" / "prometheus" / f"{n}.yaml") for n in ("alerts", "recording")]
    port = free_port()
    async with served(tmp_path) as (app, session):
        await ask(session, app, **{"x-request-id": "my-own"})
        config = tmp_path / "prometheus.yaml"
        targets = [{"targets": [app.admin.removeprefix("http://")]}]
        job = {"job_name": "cuvee", "scrape_interval": "1s", "static_configs": targets}
        config.write_text(yaml.safe_dump({"scrape_configs": [job], "rule_files": rules}))
        process = await asyncio.create_subprocess_exec(
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}/api/v1/query_exemplars"
            query = {"query": "cuvee_ttft_seconds_bucket", "start": "0", "end": "9999999999"}

            async def told() -> bool:
                try:
                    async with session.get(url, params=query) as reply:
                        found = (await reply.json())["data"]
                except (OSError, ClientError):  # it is not there yet
                    return False
                marks = [mark for series in found for mark in series["exemplars"]]
                return any(mark["labels"]["request_id"] == "my-own" for mark in marks)

            await until(told)
            async with session.get(f"http://127.0.0.1:{port}/api/v1/rules") as reply:
                groups = (await reply.json())["data"]["groups"]
        finally:
            process.terminate()
            await process.wait()

    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert sum(len(group["rules"]) for group in groups) == 27

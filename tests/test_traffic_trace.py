"""A gateway writes its own traffic, and the planner plans from that file as it is."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector
from click.testing import CliRunner

from cuvee import main
from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from planner.traffic.trace import read_trace

ROOT = Path(__file__).resolve().parents[1]
MODEL = "llama-3-8b"
KEYS = ("sk-one", "sk-two", "sk-three")


def written(path: Path, url: str, **gateway: Any) -> Path:
    """A configuration of one pool."""
    pool = {"model": MODEL, "profile": "llama-3-8b/H100", "usd_per_hour": 1.0, "backends": [url]}
    slo = {"ttft_s": 2.0, "tpot_s": 0.12}
    raw = {
        "models": {MODEL: {"slo": slo, "adapters": ["tuned"]}},
        "pools": {"h100": pool},
        "gateway": {
            "host": "127.0.0.1", "port": 0, "admin_port": 0, "drain_s": 5.0, "drain_delay_s": 0,
        } | gateway,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[Emulator, str]]:
    emulator = Emulator(
        find_profile("llama-3-8b/H100", ROOT), MODEL, prefix_cache=True, loras=["tuned"]
    )
    port = await emulator.start()
    try:
        yield emulator, f"http://127.0.0.1:{port}"
    finally:
        await emulator.stop()


async def ask(session: ClientSession, app: App, number: int, **fields: Any) -> dict[str, int]:
    """One chat, every second one as a stream; its usage."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"{number} " + "word " * (10 + number)}],
        "max_tokens": 2 + number % 7,
        "ignore_eos": True,
        "stream": number % 2 == 1,
    } | fields
    if body["stream"]:
        body["stream_options"] = {"include_usage": True}
    url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
    headers = {"authorization": f"Bearer {KEYS[number % len(KEYS)]}"}
    async with session.post(url, json=body, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        text = await reply.text()
    if body["stream"]:
        text = [line for line in text.splitlines() if '"usage":{' in line][-1][len("data: ") :]
    usage: dict[str, int] = json.loads(text)["usage"]
    return usage


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and threads bring about."""
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


async def counted(app: App) -> dict[str, float]:
    """The metric, by its label."""
    async with ClientSession() as session, session.get(f"{app.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    name = "cuvee_trace_requests_total{"
    found = [line.rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {label.split('"')[1]: float(value) for label, value in found}


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_was_served_can_be_planned_from(tmp_path: Path, workers: int):
    """Fifty requests, whole and streamed, of every worker: sizes, hits and callers are in the file
    when the gateway has ended, no line is torn, and `cuvee plan` takes it."""
    async with engine() as (_, url), AsyncExitStack() as stack:
        path = written(tmp_path / "cuvee.yaml", url, workers=workers, trace={"path": "traffic.csv"})
        app = await stack.enter_async_context(App(load(path)))
        session = await stack.enter_async_context(
            ClientSession(connector=TCPConnector(force_close=True))
        )
        usages = await asyncio.gather(*(ask(session, app, number) for number in range(50)))

    trace = read_trace(tmp_path / "traffic.csv", model=MODEL)
    sizes = zip(trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    expected = Counter((u["prompt_tokens"], u["completion_tokens"]) for u in usages)
    assert Counter((int(i), int(o)) for i, o in sizes) == expected
    assert len(set(trace.key)) == len(KEYS)
    text = (tmp_path / "traffic.csv").read_text()
    assert not any(word in text for word in ("sk-", "word", "Bearer"))

    planned = CliRunner().invoke(
        main,
        ["plan", "--config", str(path), "--trace", str(tmp_path / "traffic.csv"), "--rate", "5",
         "--json"],
    )  # fmt: skip
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["pools"]


async def test_choices_adapters_and_refusals_are_told_apart(tmp_path: Path):
    """Two choices are two sequences, a request for an adapter is one of its model, and one that the
    engine refused as wrong is no load."""
    async with engine() as (_, url), AsyncExitStack() as stack:
        path = written(tmp_path / "cuvee.yaml", url, trace={"path": "traffic.csv"})
        app = await stack.enter_async_context(App(load(path)))
        session = await stack.enter_async_context(ClientSession())
        await ask(session, app, 0, n=2)
        await ask(session, app, 2, model="tuned")
        with pytest.raises(AssertionError, match="temperature"):
            await ask(session, app, 4, temperature=-1)

    lines = [line.split(",") for line in (tmp_path / "traffic.csv").read_text().splitlines()]
    header, *rows = lines
    found = {tuple(row[header.index(n)] for n in ("adapter", "width", "outcome")) for row in rows}
    assert found == {("", "2", "ok"), ("tuned", "1", "ok"), ("", "1", "rejected")}
    assert len(read_trace(tmp_path / "traffic.csv")) == 3


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_begins_and_ends_it(tmp_path: Path, workers: int):
    """In every worker, without a restart."""
    async with engine() as (_, url), AsyncExitStack() as stack:
        path = written(tmp_path / "cuvee.yaml", url, workers=workers)
        app = await stack.enter_async_context(App(load(path), path=path))
        session = await stack.enter_async_context(
            ClientSession(connector=TCPConnector(force_close=True))
        )

        async def some_are_written() -> bool:
            await ask(session, app, 1)
            return (await counted(app)).get("written", 0) > 3

        await ask(session, app, 0)
        assert await counted(app) == {}
        written(path, url, workers=workers, trace={"path": "traffic.csv"})
        await app.reload("a test")
        await until(some_are_written)
        written(path, url, workers=workers)
        await app.reload("a test")
    assert len(read_trace(tmp_path / "traffic.csv")) >= 4


async def test_a_path_that_cannot_be_written_costs_no_request(tmp_path: Path):
    """They are served and counted as lost."""
    async with engine() as (_, url), AsyncExitStack() as stack:
        path = written(tmp_path / "cuvee.yaml", url, trace={"path": "nowhere/traffic.csv"})
        loaded = load(path)
        app = await stack.enter_async_context(App(loaded))
        session = await stack.enter_async_context(ClientSession())

        async def all_are_lost() -> bool:
            return await counted(app) == {"written": 0, "lost": 3}

        for number in range(3):
            await ask(session, app, number)
        await until(all_are_lost)

    assert any("gateway.trace.path: no such folder" in line for line in loaded.warnings)

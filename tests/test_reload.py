"""A gateway follows its configuration file while it serves, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from gateway.app import App
from gateway.config.load import load
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.workers.worker import Worker
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("first", "second")
SLO = {"ttft_s": 2.0, "tpot_s": 0.12}


class World:
    """A gateway, its file and emulated engines: two of each model, by URL."""

    def __init__(self, path: Path, urls: dict[str, list[str]], workers: int) -> None:
        self.path = path
        self.urls = urls
        self.workers = workers
        self.app: App
        self.engines: dict[str, Emulator] = {}

    def raw(self, **pools: tuple[str, list[str]]) -> dict[str, Any]:
        """A configuration of pools: each its model and its URLs."""
        models = dict.fromkeys(model for model, _ in pools.values())
        return {
            "models": {model: {"slo": dict(SLO)} for model in models},
            "pools": {
                name: {
                    "model": model,
                    "profile": "llama-3-8b/H100",
                    "usd_per_hour": 1.0,
                    "backends": urls,
                }
                for name, (model, urls) in pools.items()
            },
            "gateway": {
                "host": "127.0.0.1", "port": 0, "workers": self.workers, "drain_s": 1.0,
                "drain_delay_s": 0, "admin_port": 0,
            },
        }  # fmt: skip

    def write(self, raw: Any) -> None:
        """Replace the file at once, as tools that write configurations do."""
        other = self.path.with_suffix(".new")
        other.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw, sort_keys=False))
        other.replace(self.path)

    async def get(self, url: str) -> Any:
        async with ClientSession() as session, session.get(f"{self.app.admin}{url}") as reply:
            return await (reply.json() if url != "/metrics" else reply.text())

    async def reload(self) -> tuple[int, dict[str, Any]]:
        """The answer of `POST /cuvee/reload`."""
        async with (
            ClientSession() as session,
            session.post(f"{self.app.admin}/cuvee/reload") as reply,
        ):
            return reply.status, await reply.json()

    def ask(
        self, session: ClientSession, model: str, tokens: int = 2, slo_class: str = "default"
    ) -> Any:
        """A request for a chat's answer of so many tokens, as a stream."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "one two three four"}],
            "stream": True,
            "vllm_xargs": {"output_tokens": tokens},
        }
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        return session.post(url, json=body, headers={"x-cuvee-slo-class": slo_class})

    async def served(self, model: str) -> tuple[set[int], set[str]]:
        """The statuses and the backends of twenty requests on connections of their own."""
        async with ClientSession(connector=TCPConnector(force_close=True)) as session:
            replies = [await self.ask(session, model) for _ in range(20)]
            for reply in replies:
                await reply.read()
        backends = {reply.headers.get("x-cuvee-backend", "") for reply in replies}
        return {reply.status for reply in replies}, backends


@asynccontextmanager
async def world(folder: Path, *, workers: int = 1, **pools: Any) -> AsyncIterator[World]:
    """pools: model and number of engines of each; default: one pool of the first model."""
    async with AsyncExitStack() as stack:
        engines, urls = {}, {}
        for model in MODELS:
            emulators = [Emulator(find_profile("llama-3-8b/H100", ROOT), model) for _ in range(2)]
            urls[model] = [f"http://127.0.0.1:{await emulator.start()}" for emulator in emulators]
            for url, emulator in zip(urls[model], emulators, strict=True):
                stack.push_async_callback(emulator.stop)
                engines[url] = emulator
        made = World(folder / "cuvee.yaml", urls, workers)
        made.engines = engines
        made.write(made.raw(a=("first", urls["first"])))
        app = App(load(made.path), path=made.path)
        made.app = await stack.enter_async_context(app)
        yield made


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and processes bring about."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
async def test_pools_models_and_classes_come_and_go(tmp_path: Path, workers: int):
    """What was added serves, in every worker; what was removed finishes its streams and gets no
    more; a class that was added can be chosen."""
    async with world(tmp_path, workers=workers) as at, ClientSession() as session:
        first, second = at.urls["first"], at.urls["second"]

        async def serve(first: tuple[int, set[str]], second: tuple[int, set[str]]) -> None:
            """Wait until all workers answer so, and only by these backends."""

            async def true() -> bool:
                found = [await at.served(model) for model in MODELS]
                return all(
                    statuses == {status} and backends <= allowed
                    for (statuses, backends), (status, allowed) in zip(
                        found, (first, second), strict=True
                    )
                )

            await until(true)

        unknown = 404, {""}
        await serve((200, {"a-0", "a-1"}), unknown)
        async with at.ask(session, "first", tokens=200) as long:
            raw = at.raw(b=("second", second), a=("first", first[1:]))
            raw["models"]["first"]["classes"] = {"batch": {"ttft_s": 20, "tpot_s": 1.0}}
            at.write(raw)
            status, said = await at.reload()
            await serve((200, {"a-1"}), (200, {"b-0", "b-1"}))
            async with at.ask(session, "first", slo_class="batch") as reply:
                batch = reply.status
            at.write(at.raw(b=("second", second)))
            await at.reload()
            await serve(unknown, (200, {"b-0", "b-1"}))
            answer = await long.read()
        at.write(at.raw(a=("first", first), b=("second", second)))
        await at.reload()
        # A name is never given to another backend.
        await serve((200, {"a-2", "a-3"}), (200, {"b-0", "b-1"}))

    assert (status, said["status"]) == (200, "in force")
    assert {"pools.b", "pools.a.backends"} <= set(said["changed"])
    assert batch == 200
    assert answer.endswith(b"data: [DONE]\n\n")


async def test_a_bad_file_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The last good one stays; the answer, the log and `/readyz` have the lines, a metric says that
    there are some; a good file ends that."""
    async with world(tmp_path) as at:
        good = at.path.read_text()
        at.write(good.replace("model: first", "model: third", 1).replace("usd_per", "usd_pro"))
        status, said = await at.reload()
        serves, ready, page = (
            await at.served("first"), await at.get("/readyz"), await at.get("/metrics")
        )  # fmt: skip
        at.write(good)
        mended, unchanged = await at.reload()
        ready_again, page_again = await at.get("/readyz"), await at.get("/metrics")

    assert (status, said["status"]) == (400, "refused")
    assert said["problems"] == ready["config_problems"]
    assert any("usd_pro_hour" in line for line in said["problems"])
    assert ready["status"] == "ready"
    assert all(line in caplog.text for line in said["problems"])
    assert serves[0] == {200}
    assert "cuvee_config_last_reload_successful 0" in page
    assert (mended, unchanged["changed"], ready_again["config_problems"]) == (200, [], [])
    assert "cuvee_config_last_reload_successful 1" in page_again


async def test_what_needs_a_restart_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Ports and processes stay; what else the file says is in force."""
    caplog.set_level(logging.INFO)
    async with world(tmp_path) as at:
        raw = at.raw(a=("first", at.urls["first"]))
        raw["gateway"] |= {"port": 1, "workers": 3, "max_body_bytes": 100}
        at.write(raw)
        status, said = await at.reload()
        async with ClientSession() as session, at.ask(session, "first") as reply:
            large = reply.status

    assert status == 200
    assert said["changed"] == ["gateway.max_body_bytes"]
    assert said["needs_restart"] == ["gateway.port", "gateway.workers"]
    assert "needs a restart: gateway.port, gateway.workers" in caplog.text
    assert large == 413


@pytest.mark.long
async def test_the_file_is_watched(tmp_path: Path):
    """A new content is in force within seconds, without a signal."""
    async with world(tmp_path) as at:
        at.write(at.raw(a=("first", at.urls["first"]), b=("second", at.urls["second"])))

        async def served() -> bool:
            return (await at.served("second"))[0] == {200}

        await until(served)


async def test_requests_under_way_are_counted_by_the_new_numbers(tmp_path: Path):
    """A class that is put before theirs shifts the numbers of all buckets; what ends then teaches
    the planner about its own class."""
    async with world(tmp_path) as at, ClientSession() as session:
        first, second = at.urls["first"], at.urls["second"]
        async with at.ask(session, "first", tokens=60) as long:
            at.write(at.raw(b=("second", second), a=("first", first)))
            status, _ = await at.reload()
            await long.read()
        await at.get("/metrics")
        grid = at.app.plan.buckets.grid
        demand = at.app._planning._observed.snapshot(asyncio.get_running_loop().time())

    cells = {int(bucket) // grid.cells for bucket in demand.bucket}
    rates = demand.rate.reshape(2, grid.cells).sum(axis=1)
    assert status == 200
    assert [c.model for c in demand.buckets.classes] == ["second", "first"]
    assert cells == {1}
    assert rates[0] == 0
    assert rates[1] > 0


async def test_a_request_that_waits_for_a_model_that_leaves_is_told(tmp_path: Path):
    """It cannot be served any more, and does not have to wait until the queue gives it up."""
    async with world(tmp_path) as at, ClientSession() as session:
        raw = at.raw(a=("first", at.urls["first"]))
        raw["gateway"]["queue_timeout_s"] = 600.0
        at.write(raw)
        await at.reload()
        assert isinstance(at.app.plane, Worker)
        router, admission = at.app.plane.router, at.app.plane.dispatcher.admission
        leases: list[Lease] = []
        for tokens in (2000, 200, 1):
            size = Estimate(
                model="first", input_tokens=tokens, output_tokens=tokens, output_p90=tokens
            )
            while (lease := router.route(size, now_s=0.0)) is not None:
                leases.append(lease)

        async def ask() -> tuple[int, Any]:
            async with at.ask(session, "first") as reply:
                return reply.status, await reply.json()

        async def waits() -> bool:
            return admission.waiting == 1

        waiting = asyncio.create_task(ask())
        await until(waits)
        at.write(at.raw(b=("second", at.urls["second"])))
        changed, _ = await at.reload()
        status, told = await waiting
        left = admission.waiting
        for lease in leases:
            lease.release()

    assert changed == 200
    assert (status, told["error"]["code"]) == (404, "model_not_found")
    assert left == 0

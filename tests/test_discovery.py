"""Backends come and go while a gateway serves, as its sources say, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from tests.gateway.discovery.nameserver import name_server

NUMBERS = count()  # no two prompts begin alike, or the same backend would be preferred
ROOT = Path(__file__).resolve().parents[1]


class Place:
    """A gateway of one pool, engines that it may find, and the file that names those."""

    def __init__(self, folder: Path, urls: list[str]) -> None:
        self.file = folder / "backends.yaml"
        self.config = folder / "cuvee.yaml"
        self.urls = urls
        self.app: App

    def name(self, urls: Any) -> None:
        """Replace the file by a renamed one, as tools do."""
        other = self.file.with_suffix(".new")
        other.write_text(urls if isinstance(urls, str) else yaml.safe_dump(urls))
        other.replace(self.file)

    def configure(self, *, workers: int = 1, **pool: Any) -> None:
        """Write the configuration; pool: keys of its pool."""
        raw = {
            "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {
                "a": {"model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0} | pool
            },
            "gateway": {
                "host": "127.0.0.1", "port": 0, "admin_port": 0, "workers": workers, "drain_s": 1.0,
                "drain_delay_s": 0, "queue_timeout_s": 0.2, "health_interval_s": 0.2, "warmup_s": 0,
            },
        }  # fmt: skip
        other = self.config.with_suffix(".new")
        other.write_text(yaml.safe_dump(raw, sort_keys=False))
        other.replace(self.config)

    async def ask(self, session: ClientSession, tokens: int = 2) -> tuple[int, str]:
        """The status of a chat's answer, and the backend's URL."""
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": f"{next(NUMBERS)} two three four"}],
            "vllm_xargs": {"output_tokens": tokens},
        }
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        async with session.post(url, json=body) as reply:
            await reply.read()
            name = reply.headers.get("x-cuvee-backend", "")
        known = {backend.name: backend.url for backend in self.app.fleet.backends}
        return reply.status, known.get(name, name)

    async def answers(self) -> set[tuple[int, str]]:
        """The statuses and backends of twelve requests at one time, on connections of their own."""
        async with ClientSession(connector=TCPConnector(force_close=True)) as session:
            return set(await asyncio.gather(*(self.ask(session) for _ in range(12))))

    async def serves(self, urls: Sequence[str]) -> None:
        """Wait until these backends serve, all of them and no others."""

        async def true() -> bool:
            return await self.answers() == {(200, url) for url in urls}

        await until(true)

    async def get(self, path: str) -> Any:
        async with ClientSession() as session, session.get(f"{self.app.admin}{path}") as reply:
            return await (reply.text() if path == "/metrics" else reply.json())


@asynccontextmanager
async def place(folder: Path, *, served: Sequence[str] = ("m", "m")) -> AsyncIterator[Place]:
    """served: the model of each engine."""
    async with AsyncExitStack() as stack:
        urls = []
        for model in served:
            engine = Emulator(find_profile("llama-3-8b/H100", ROOT), model)
            urls.append(f"http://127.0.0.1:{await engine.start()}")
            stack.push_async_callback(engine.stop)
        yield Place(folder, urls)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and processes bring about."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
async def test_backends_come_and_go_by_a_file_and_no_request_is_lost(tmp_path: Path, workers: int):
    """What the file names serves, in every worker; what it names no more drains; requests that run
    meanwhile are all answered."""
    async with place(tmp_path) as at:
        first, second = at.urls
        at.name([first])
        at.configure(workers=workers, discover={"file": at.file.name})
        async with App(load(at.config), path=at.config) as at.app, ClientSession() as session:
            statuses: list[int] = []
            done = asyncio.Event()

            async def load_on() -> None:
                while not done.is_set():
                    statuses.append((await at.ask(session, tokens=20))[0])

            running = [asyncio.create_task(load_on()) for _ in range(4)]
            await at.serves([first])
            at.name([first, second])
            await at.serves([first, second])
            at.name([second])
            await at.serves([second])
            at.name([first])
            await at.serves([first])
            done.set()
            await asyncio.gather(*running)

            assert set(statuses) == {200}


@pytest.mark.long
async def test_a_gateway_without_backends_starts_and_serves_when_they_come(tmp_path: Path):
    """A pool of which nothing is known refuses with 503; so does one that is told to be empty."""
    async with place(tmp_path) as at:
        at.configure(discover={"file": at.file.name})
        async with App(load(at.config), path=at.config) as at.app:
            assert await at.answers() == {(503, "")}
            at.name(at.urls)
            await at.serves(at.urls)
            at.name("[]\n")

            async def empty() -> bool:
                return await at.answers() == {(503, "")}

            await until(empty)
            at.name(at.urls[1:])
            await at.serves(at.urls[1:])


@pytest.mark.long
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(tmp_path: Path):
    """Broken, with a bad URL or gone: the last backends serve; admin port and metrics say why."""
    async with place(tmp_path) as at:
        at.name(at.urls)
        at.configure(discover={"file": at.file.name})
        async with App(load(at.config), path=at.config) as at.app:
            await at.serves(at.urls)

            async def says(text: str) -> None:
                async def true() -> bool:
                    (source,) = (await at.get("/cuvee/discovery"))["sources"]
                    return text in (source["error"] or "")

                await until(true)

            at.name("[http://one, ")
            await says("backends.yaml:2: ")
            at.name(f"- {at.urls[0]}\n- ftp://two\n")
            await says("backends.yaml:2: [1]: must start with http:// or https://")
            at.file.unlink()
            await says("cannot be read: No such file or directory")
            await at.serves(at.urls)
            page = await at.get("/metrics")
            at.name(at.urls[:1])
            await at.serves(at.urls[:1])

            assert 'cuvee_discovered_backends{pool="a"} 2' in page
            failures = [ln for ln in page.splitlines() if ln.startswith("cuvee_discovery_failures")]
            assert len(failures) == 1
            assert not failures[0].endswith(" 0")
            told = await at.get("/cuvee/discovery")
            assert told["sources"][0]["error"] is None
            assert told["backends"] == {"a": at.urls[:1]}


@pytest.mark.long
async def test_what_is_found_is_asked_for_its_model(tmp_path: Path):
    """An engine of another model is found, and gets no requests."""
    async with place(tmp_path, served=("m", "another")) as at:
        at.name(at.urls)
        at.configure(discover={"file": at.file.name})
        async with App(load(at.config), path=at.config) as at.app:
            await at.serves(at.urls[:1])
            at.name(at.urls[1:])

            async def refused() -> bool:
                return await at.answers() == {(503, "")}

            await until(refused)


@pytest.mark.long
async def test_a_reload_keeps_what_was_found_and_follows_another_source(tmp_path: Path):
    """A changed key does not take discovered backends away; a pool that gets a source keeps its
    backends until that has answered; without a source it has those of the file alone."""
    async with place(tmp_path, served=("m", "m", "m")) as at:
        first, second, third = at.urls
        at.name([second])
        at.configure(backends=[first])
        async with App(load(at.config), path=at.config) as at.app:
            await at.serves([first])
            at.configure(discover={"file": "missing.yaml"})

            async def followed() -> bool:
                sources = (await at.get("/cuvee/discovery"))["sources"]
                return [one["name"].rpartition("/")[2] for one in sources] == ["missing.yaml"]

            await until(followed)
            assert await at.answers() == {(200, first)}
            at.configure(discover={"file": at.file.name}, backends=[first, second])
            await at.serves([first, second])
            assert any(
                "there twice" in one for one in (await at.get("/cuvee/discovery"))["remarks"]
            )
            at.configure(discover={"file": at.file.name}, backends=[third], usd_per_hour=2.0)
            await at.serves([second, third])
            at.configure(backends=[first])
            await at.serves([first])
            assert (await at.get("/cuvee/discovery"))["sources"] == []


@pytest.mark.long
async def test_backends_come_and_go_by_dns_and_no_request_is_lost(tmp_path: Path):
    """Two workers follow a service; when its name server fails, the last backends serve."""
    async with place(tmp_path) as at, name_server() as server:
        records = [f"0 0 {url.rpartition(':')[2]} e.test." for url in at.urls]
        server.records = {("s.test", "SRV"): records[:1], ("e.test", "A"): ["127.0.0.1"]}
        at.configure(
            workers=2,
            discover={"dns": {"name": "s.test", "record": "srv", "server": server.at}},
        )
        async with App(load(at.config), path=at.config) as at.app, ClientSession() as session:
            statuses: list[int] = []
            done = asyncio.Event()

            async def load_on() -> None:
                while not done.is_set():
                    statuses.append((await at.ask(session, tokens=20))[0])

            running = [asyncio.create_task(load_on()) for _ in range(4)]
            await at.serves(at.urls[:1])
            server.records["s.test", "SRV"] = records
            await at.serves(at.urls)
            server.records["s.test", "SRV"] = records[1:]
            await at.serves(at.urls[1:])
            server.failing = {"SRV"}

            async def failed() -> bool:
                (source,) = (await at.get("/cuvee/discovery"))["sources"]
                return "SERVFAIL" in (source["error"] or "")

            await until(failed)
            assert await at.answers() == {(200, at.urls[1])}
            server.failing = set()
            server.records["s.test", "SRV"] = records[:1]
            await at.serves(at.urls[:1])
            done.set()
            await asyncio.gather(*running)

            assert set(statuses) == {200}

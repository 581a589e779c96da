"""The fleet moves: backends are ordered, come, are drained and go, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, TCPConnector

from gateway.actuation.actuator import ActuationError, Actuator, ScaleOrder
from gateway.app import App
from gateway.config.load import Loaded, load
from loadtest.emulator.faults import NONE, Faults
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = count()
PRICES = {"A10G": 1.0, "L4": 1.1}


class Cloud:
    """Engines by GPU type that are started when they are ordered; they take a moment.

    refuses, swallows: GPU types of which an order is refused, or accepted and nothing comes.
    orders: all that were brought.
    """

    def __init__(self, folder: Path) -> None:
        self.config = folder / "cuvee.yaml"
        self._folder = folder
        self.refuses: set[str] = set()
        self.swallows: set[str] = set()
        self.orders: list[ScaleOrder] = []
        self.engines: dict[str, dict[str, Emulator]] = {}
        self.app: App

    def configure(self, *, workers: int = 1, scaling: Mapping[str, Any], **pools: Any) -> None:
        """Write the configuration. pools: keys of `scale`, by GPU type."""
        raw = {
            "models": {"m": {"slo": {"ttft_s": 5.0, "tpot_s": 0.2}}},
            "pools": {
                gpu: {
                    "model": "m", "profile": f"llama-3-8b/{gpu}", "usd_per_hour": PRICES[gpu],
                    "discover": {"file": f"{gpu}.yaml"},
                    "scale": {"prometheus": True, "startup_s": 1.0} | scale,
                }
                for gpu, scale in pools.items()
            },
            "scaling": {"interval_s": 0.3, "hold_s": 0.0, "silence_s": 0.0, "drain_s": 5.0}
            | dict(scaling),
            "planner": {"window_s": 10.0, "interval_s": 5.0, "certify_cpu_s": 0},
            "gateway": {
                "host": "127.0.0.1", "port": 0, "admin_port": 0, "workers": workers, "drain_s": 1.0,
                "drain_delay_s": 0, "health_interval_s": 0.2, "warmup_s": 0,
            },
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(raw, sort_keys=False))
        for gpu in pools:
            self._write(gpu)

    def make(self, loaded: Loaded) -> dict[str, Actuator]:
        """The actuators of a configuration."""
        return {name: Replicas(self, name) for name in loaded.config.pools}

    async def start(self, gpu: str, number: int = 1, *, faults: Faults = NONE) -> None:
        """Start engines, and name them in the file."""
        for _ in range(number):
            engine = Emulator(
                find_profile(f"llama-3-8b/{gpu}", ROOT), "m", faults=faults, sleep_mode=True
            )
            url = f"http://127.0.0.1:{await engine.start()}"
            self.engines.setdefault(gpu, {})[url] = engine
        self._write(gpu)

    async def stop(self, gpu: str, urls: list[str]) -> None:
        """End engines."""
        gone = [self.engines[gpu].pop(url) for url in urls]
        self._write(gpu)
        for engine in gone:
            await engine.stop()

    def _write(self, gpu: str) -> None:
        other = self._folder / f"{gpu}.new"
        other.write_text(yaml.safe_dump(list(self.engines.get(gpu, {}))))
        other.replace(self._folder / f"{gpu}.yaml")

    async def close(self) -> None:
        for gpu, engines in self.engines.items():
            await self.stop(gpu, list(engines))

    async def ask(
        self, session: ClientSession, tokens: int, *, stream: bool = False, words: int = 4
    ) -> int:
        """The status of a chat; 0 for a stream that does not end well."""
        body = {
            "model": "m", "stream": stream,
            "messages": [{"role": "user", "content": f"{next(NUMBERS)} " + "word " * words}],
            "vllm_xargs": {"output_tokens": tokens},
        }  # fmt: skip
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        async with session.post(url, json=body) as reply:
            text = await reply.text()
            ended = not stream or text.endswith("data: [DONE]\n\n")
            return reply.status if ended else 0

    async def scaling(self) -> Any:
        """What the admin port says."""
        return await self._get("/cuvee/scaling")

    async def _get(self, path: str) -> Any:
        async with ClientSession() as session, session.get(f"{self.app.admin}{path}") as reply:
            return await reply.json()

    async def metrics(self) -> str:
        """The page of metrics."""
        async with ClientSession() as session, session.get(f"{self.app.admin}/metrics") as reply:
            return await reply.text()

    async def drain(self, method: str = "POST", **body: Any) -> tuple[int, Any]:
        """What the admin port answers."""
        async with ClientSession() as session:
            url = f"{self.app.admin}/cuvee/drain"
            async with session.request(method, url, json=body) as reply:
                return reply.status, await reply.json()

    async def history(self) -> list[str]:
        """The causes in the journal that are about the loop."""
        entries = (await self._get("/cuvee/history"))["entries"]
        return [entry["cause"] for entry in entries if entry["kind"] == "scale"]

    async def knows(self, text: str) -> bool:
        """Whether the journal has a line with this text."""
        return any(text in line for line in await self.history())

    def there(self, gpu: str) -> int:
        """Backends of a pool that serve."""
        return sum(backend.healthy for backend in self.app.fleet.pool(gpu))


class Replicas:
    """The actuator of one pool of the cloud."""

    def __init__(self, cloud: Cloud, gpu: str) -> None:
        self._cloud, self._gpu = cloud, gpu
        self.name = f"cloud {gpu}"

    async def apply(self, order: ScaleOrder) -> None:
        self._cloud.orders.append(order)
        if self._gpu in self._cloud.refuses:
            raise ActuationError("out of stock", final=True)
        if self._gpu in self._cloud.swallows:
            return
        present = self._cloud.engines.get(self._gpu, {})
        if order.backends > len(present):
            await self._cloud.start(self._gpu, order.backends - len(present))
        else:
            gone = [url for url in order.leaving if url in present]
            await self._cloud.stop(self._gpu, gone[: len(present) - order.backends])

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def cloud(folder: Path) -> AsyncIterator[Cloud]:
    async with AsyncExitStack() as stack:
        made = Cloud(folder)
        stack.push_async_callback(made.close)
        yield made


async def until(true: Callable[[], Awaitable[bool] | bool], limit_s: float = 60.0) -> None:
    """Waits for something that other tasks and processes bring about."""
    async with asyncio.timeout(limit_s):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def load_on(
    at: Cloud, clients: int, tokens: int, *, stream: bool = False, words: int = 4
) -> AsyncIterator[list[int]]:
    """Statuses of what so many clients get that ask again and again."""
    statuses: list[int] = []
    async with ClientSession(connector=TCPConnector(limit=0)) as session:
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                statuses.append(await at.ask(session, tokens, stream=stream, words=words))
                if statuses[-1] == 429:
                    await asyncio.sleep(0.5)  # as `retry-after` would have it, and shorter

        running = [asyncio.create_task(ask()) for _ in range(clients)]
        yield statuses
        done.set()
        await asyncio.gather(*running)


@pytest.mark.long
async def test_backends_are_ordered_for_what_comes(tmp_path: Path):
    """From none: the first request brings one, more bring more; no request fails once one serves,
    and the journal has a line for each step."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={}, A10G={"most": 4, "least": 0})
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            async with ClientSession() as session:
                refused = await at.ask(session, 2)
            await until(lambda: at.there("A10G") == 1)
            async with load_on(at, 6, 8, words=3000) as statuses:  # seconds of prefill each
                await until(lambda: at.there("A10G") >= 2)
            learned = (await at.scaling())["pools"]["A10G"]["startup"]
            history = await at.history()

    assert refused == 503
    assert set(statuses) <= {200, 429}
    assert learned["learned_from"] >= 1
    assert None not in learned["phases_s"].values()
    assert any("A10G-0 is ready" in line for line in history)
    assert at.orders[0].backends == 1
    assert at.orders[-1].backends >= 2


@pytest.mark.parametrize("how", ["refuses", pytest.param("swallows", marks=pytest.mark.long)])
async def test_what_cannot_be_had_is_had_of_another_type(tmp_path: Path, how: str):
    """The cheaper type is refused, or ordered and never comes: it is limited to what is there, the
    other one is ordered at once, and the pool that failed is not wished any more."""
    async with cloud(tmp_path) as at:
        getattr(at, how).add("A10G")
        at.configure(
            scaling={"timeout_factor": 1.0, "retry_s": 600.0},
            A10G={"most": 4, "least": 0}, L4={"most": 4, "least": 0},
        )  # fmt: skip
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            async with ClientSession() as session:
                await at.ask(session, 2)
                await until(lambda: at.there("L4") == 1)
                served = await at.ask(session, 2)
            told = await at.scaling()
            history = await at.history()

    assert served == 200
    assert told["pools"]["A10G"]["wish"] == 0
    assert told["limits"][0].startswith("A10G: 0 are taken for all that there are")
    assert any("A10G is limited to the 0 GPUs that are there" in line for line in history)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_a_notice_loses_no_request_and_the_backend_is_replaced(tmp_path: Path, workers: int):
    """All workers leave it at once, its streams end well, another is ordered beside it; when it is
    gone there are as many as before, and the drain is forgotten."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={}, workers=workers, A10G={"most": 4, "least": 2})
        await at.start("A10G", 2)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            async with load_on(at, 8, 40, stream=True) as statuses:
                await until(lambda: len(statuses) >= 8)
                first = at.app.fleet.pool("A10G")[0]
                status, told = await at.drain(url=first.url + "/", seconds=30, why="spot notice")
                drained = (await at.scaling())["drained"]
                await until(lambda: not first.in_flight)
                await until(lambda: at.there("A10G") == 2)
                await at.stop("A10G", [first.url])
                await until(lambda: first not in at.app.fleet.backends)
                before = len(statuses)
                await until(lambda: len(statuses) >= before + 8)
                await until(lambda: len(at.orders) == 2)
            left = (await at.scaling())["drained"]
            unknown, _ = await at.drain(url=first.url)
            plan = at.app.plan.backends

    assert (status, told["backends"]) == (200, [first.name])
    assert drained[0]["backend"] == first.name
    assert drained[0]["why"] == "spot notice"
    assert set(statuses) == {200}
    assert [(order.backends, order.running) for order in at.orders] == [(3, 2), (2, 2)]
    assert (left, unknown) == ([], 404)
    assert plan == (2,)


async def test_streams_that_have_not_begun_go_to_others_after_a_notice(tmp_path: Path):
    """One engine begins none of its streams: told that it ends soon, all of them are served by the
    other one, and no failure is counted."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={"dry_run": True}, A10G={"most": 2})
        await at.start("A10G", faults=Faults(stall_after=0))
        await at.start("A10G")
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            slow, _ = at.app.fleet.pool("A10G")
            async with ClientSession() as session:
                asked = [asyncio.create_task(at.ask(session, 2, stream=True)) for _ in range(8)]
                await until(lambda: slow.in_flight >= 2)
                await at.drain(url=slow.url, seconds=120)
                statuses = await asyncio.gather(*asked)
            page = await at.metrics()

    assert statuses == [200] * 8
    assert "cuvee_backend_failures_total{" not in page


@pytest.mark.long
async def test_engines_lie_down_instead_of_being_stopped_and_are_woken_first(tmp_path: Path):
    """Nobody asks: the only engine is put to sleep, and not stopped. The first request is refused
    and has it woken, and nothing is ordered."""
    async with cloud(tmp_path) as at:
        at.configure(
            scaling={},
            A10G={"most": 4, "least": 0, "asleep": 1, "asleep_usd_per_hour": 0.0, "wake_s": 5.0},
        )
        await at.start("A10G")
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            (engine,) = at.app.fleet.backends
            await until(lambda: engine.asleep and at.app.fleet.pool("A10G") == (engine,))
            async with ClientSession() as session:
                refused = await at.ask(session, 2)
                await until(lambda: not engine.asleep)
                served = await at.ask(session, 2)
            await until(lambda: at.knows("A10G-0 is ready"))
            history = await at.history()

    assert (refused, served) == (503, 200)
    assert at.orders == []
    assert any("A10G-0 goes to sleep" in line for line in history)


async def test_a_drained_backend_serves_again_when_it_is_told_to(tmp_path: Path):
    """By its name; discovery does not bring it back before that, and a dry run orders nothing."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={"dry_run": True}, A10G={"most": 4, "least": 2})
        await at.start("A10G", 2)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            name = at.app.fleet.pool("A10G")[0].name
            await at.drain(backend=name)
            alone, plan = at.there("A10G"), at.app.plan.backends
            await at.start("A10G")
            await until(lambda: at.there("A10G") == 2)
            names = {backend.name for backend in at.app.fleet.pool("A10G")}
            status, told = await at.drain("DELETE", backend=name)
            again = at.there("A10G")
            bad, _ = await at.drain(backend=name, url="http://x")
            pool = (await at.scaling())["pools"]["A10G"]
            history = await at.history()

    assert (alone, plan) == (1, (1,))
    assert name not in names
    assert (status, told["drained"], again) == (200, [], 3)
    assert bad == 400
    assert at.orders == []
    assert any("a dry run orders nothing" in line for line in history)
    assert pool["wish"] == 2


async def test_a_drain_outlives_the_gateway(tmp_path: Path):
    """A gateway that starts again with the same state leaves the backend alone until it is told."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={"dry_run": True, "state": "state.json"}, A10G={"most": 4, "least": 2})
        await at.start("A10G", 2)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            drained = at.app.fleet.pool("A10G")[0]
            await at.drain(backend=drained.name)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            await until(lambda: at.there("A10G") == 1)
            (left,) = (await at.scaling())["drained"]
            await at.drain("DELETE", url=drained.url)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            await until(lambda: at.there("A10G") == 2)
            none = (await at.scaling())["drained"]

    assert left["url"] == drained.url
    assert none == []


@pytest.mark.long
async def test_a_gateway_that_starts_stops_nothing_before_it_has_seen_the_demand(tmp_path: Path):
    """Three run and none is needed: they stay until the hold is over, and the reason is told. Then
    all go, after they were drained."""
    async with cloud(tmp_path) as at:
        at.configure(scaling={"hold_s": 2.0}, A10G={"most": 4, "least": 0})
        await at.start("A10G", 3)
        async with App(load(at.config), path=at.config, make=at.make) as at.app:
            await until(lambda: not at.app.fleet.backends)
            held, *others = await at.history()

    assert "is to have 3, 0 would do: the demand was observed for" in held
    assert any("0 backends are ordered" in line for line in others)
    assert (at.orders[-1].backends, len(at.orders[-1].leaving)) == (0, 3)

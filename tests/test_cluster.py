"""Several gateways serve one fleet by a real Redis, over real sockets."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession

from gateway.app import App
from gateway.config.load import load
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile
from tests.redis_server import RedisServer, Relay, free_port, redis_server

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = count()
LEASE_S = 0.5
KEYS = ("lease", "token", "plan", "views", "reports")


class Union:
    """Engines, a Redis, and gateways over both."""

    def __init__(self, folder: Path, server: RedisServer, urls: list[str]) -> None:
        self.folder, self.server, self.urls = folder, server, urls
        self.stack = AsyncExitStack()

    def config(self, redis: str, **more: Any) -> Path:
        """A configuration of one pool; more: keys of the file."""
        raw: dict[str, Any] = {
            "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {
                "a": {
                    "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 1.0,
                    "backends": self.urls,
                }
            },
            "planner": {
                "objective": "provision", "interval_s": 0.2, "min_requests": 5, "window_s": 10,
                "patience": 1,
                "certify_cpu_s": 0,
            },
            "gateway": {
                "host": "127.0.0.1", "port": 0, "admin_port": 0, "drain_s": 1.0,
                "drain_delay_s": 0, "health_interval_s": 0.5, "warmup_s": 0,
                "operator_paths": "both",
                "cluster": {
                    "redis": redis, "view_s": 0.05, "report_s": 0.2, "lease_s": LEASE_S,
                    "timeout_s": 0.2,
                },
            },
        }  # fmt: skip
        for key, value in more.items():
            raw[key] = {**raw.get(key, {}), **value}
        path = self.folder / f"cuvee-{next(NUMBERS)}.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return path

    async def gateway(self, redis: str | None = None, **more: Any) -> App:
        """A gateway that serves, until the end or until it is closed."""
        app = App(load(self.config(redis or self.server.url, **more)))
        return await self.stack.enter_async_context(app)


@asynccontextmanager
async def union(folder: Path, engines: int = 2) -> AsyncIterator[Union]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(redis_server(folder))
        urls = []
        for _ in range(engines):
            engine = Emulator(find_profile("llama-3-8b/H100", ROOT), "m")
            urls.append(f"http://127.0.0.1:{await engine.start()}")
            stack.push_async_callback(engine.stop)
        made = Union(folder, server, urls)
        await stack.enter_async_context(made.stack)
        yield made


async def ask(app: App, session: ClientSession, tokens: int = 2, **body: Any) -> int:
    """The status of a chat's whole answer; 0 where it broke off."""
    request = {
        "model": "m",
        "messages": [{"role": "user", "content": f"{next(NUMBERS)} two three four"}],
        "vllm_xargs": {"output_tokens": tokens},
    } | body
    url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
    async with session.post(url, json=request) as reply:
        text = await reply.text()
        return reply.status if "error" not in text else 0


async def cluster(app: App) -> dict[str, Any]:
    async with ClientSession() as session, session.get(f"{app.admin}/cuvee/cluster") as reply:
        told: dict[str, Any] = (await reply.json())["cluster"]
        return told


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and processes bring about."""
    async with asyncio.timeout(20):
        while True:
            found = true()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


def leaders(*apps: App) -> list[App]:
    return [app for app in apps if app.alliance.leads()]


def agree(*apps: App) -> bool:
    """Whether one of them plans, and all have its plan."""
    return len(leaders(*apps)) == 1 and len({app.plan.plan_id for app in apps}) == 1


@pytest.mark.long
async def test_one_plans_for_all_and_all_have_its_plan(tmp_path: Path):
    """What both serve is planned for by one; the other puts its plan in force."""
    async with union(tmp_path) as at, ClientSession() as session:
        one, two = await at.gateway(), await at.gateway()
        await until(lambda: agree(one, two))
        (leader,) = leaders(one, two)
        follower = two if leader is one else one
        before = leader.plan.plan_id
        served = [await ask(app, session, tokens=30) for _ in range(6) for app in (one, two)]
        await until(lambda: leader.plan.plan_id != before and agree(one, two))
        told = await cluster(follower)

        def counted() -> bool:
            return one.alliance.tokens.totals == two.alliance.tokens.totals != {}

        await until(counted)
        assert set(served) == {200}
        assert one.alliance.tokens.of("") > 12 * 30
        assert sum(leader.plan.rate) > 0
        assert told["plan_from"] == told["leader"] == (await cluster(leader))["gateway"]
        async with session.get(f"{follower.admin}/cuvee/view/now") as reply:
            page = await reply.json()
        assert page["cluster"]["leader"] == told["leader"]
        assert list(page["cluster"]["gateways"]) == [told["leader"]]
        assert page["plan"]["id"] == leader.plan.plan_id


@pytest.mark.long
async def test_another_plans_when_the_one_that_did_is_gone(tmp_path: Path):
    """One that ends hands over at once; the other keeps its plan and goes on from what both
    saw."""
    async with union(tmp_path) as at, ClientSession() as session:
        two = await at.gateway()
        await until(lambda: agree(two))
        async with App(load(at.config(at.server.url))) as one:
            await until(lambda: agree(one, two))
            served = [await ask(app, session) for _ in range(6) for app in (one, two)]
            await until(lambda: leaders(one, two) == [two])
        plan = two.plan.plan_id
        three = await at.gateway()
        await until(
            lambda: three.plan.plan_id == plan and (two.alliance.leads() or three.alliance.leads())
        )

        assert set(served) == {200}


async def test_in_flight_is_known_to_the_others_and_gone_with_its_end(tmp_path: Path):
    """The load of a backend is that of all gateways; when a gateway's requests end, so does what
    the others count for it."""
    async with union(tmp_path, engines=1) as at, ClientSession() as session:
        one, two = await at.gateway(), await at.gateway()
        await until(lambda: agree(one, two))
        (mine,), (theirs,) = one.fleet.backends, two.fleet.backends
        running = asyncio.gather(*(ask(one, session, tokens=60) for _ in range(3)))
        await until(lambda: mine.in_flight == theirs.in_flight == 3)
        assert abs(mine.load - theirs.load) < 1e-6
        assert set(await running) == {200}
        await until(lambda: mine.in_flight == theirs.in_flight == 0 and theirs.load == 0.0)


@pytest.mark.long
async def test_what_one_drains_gets_nothing_from_any(tmp_path: Path):
    """A notice to one gateway is known to all; so is its end."""
    async with union(tmp_path) as at, ClientSession() as session:
        one, two = await at.gateway(), await at.gateway()
        await until(lambda: agree(one, two))
        drain = {"url": at.urls[0], "why": "a notice"}
        async with session.post(f"{one.admin}/cuvee/drain", json=drain) as reply:
            assert reply.status == 200
        await until(lambda: len(two.fleet.pool("a")) == 1)
        async with session.get(f"{two.admin}/cuvee/scaling") as reply:
            told = (await reply.json())["drained_by_others"]
        served = [await ask(two, session) for _ in range(4)]
        async with session.delete(f"{one.admin}/cuvee/drain", json=drain) as reply:
            assert reply.status == 200
        await until(lambda: len(two.fleet.pool("a")) == 2)

        assert [(one["url"], one["why"]) for one in told] == [(at.urls[0], "a notice")]
        assert set(served) == {200}


async def test_all_serve_while_redis_stands_still(tmp_path: Path):
    """No request waits for it; nobody plans, the plan stays; it is said, and over when it goes
    on."""
    async with union(tmp_path) as at, ClientSession() as session:
        one, two = await at.gateway(), await at.gateway()
        await until(lambda: agree(one, two))
        at.server.pause()
        served = [await ask(app, session) for _ in range(5) for app in (one, two)]
        await until(lambda: leaders(one, two) == [])
        served += [await ask(app, session) for _ in range(5) for app in (one, two)]
        told = await cluster(one)
        at.server.resume()
        await until(lambda: agree(one, two))

        async def heard() -> bool:  # connections from before may break once more
            return bool((await cluster(one))["up"])

        await until(heard)
        assert set(served) == {200}
        assert not told["up"]
        assert told["error"]
        assert told["failures"] > 0


async def test_a_redis_that_forgot_everything_is_filled_again(tmp_path: Path):
    """After FLUSHALL, and after a kill and a start without a disk."""
    async with union(tmp_path) as at:
        one, two = await at.gateway(), await at.gateway()
        await until(lambda: agree(one, two))

        async def filled() -> bool:
            answers = [await at.server.ask("EXISTS", f"cuvee:{{cuvee}}:{key}") for key in KEYS]
            return answers == [b":1\r\n"] * len(KEYS)

        await until(filled)
        await at.server.ask("FLUSHALL")
        await until(filled)
        await until(lambda: agree(one, two))
        await at.server.kill()
        await at.server.start()
        await until(filled)
        await until(lambda: agree(one, two))


async def test_of_two_that_are_cut_off_one_plans_and_both_serve(tmp_path: Path):
    """The one that is cut off plans no more before the other begins, and follows when it is heard
    again."""
    async with union(tmp_path) as at, ClientSession() as session, Relay(at.server.port) as relay:
        one = await at.gateway(relay.url)
        await until(lambda: agree(one))
        two = await at.gateway()
        await until(lambda: agree(one, two) and leaders(one, two) == [one])
        most = 0
        relay.cut()

        def handed_over() -> bool:
            nonlocal most
            most = max(most, len(leaders(one, two)))
            return leaders(one, two) == [two]

        await until(handed_over)
        served = [await ask(app, session) for _ in range(5) for app in (one, two)]
        relay.mend()
        await until(lambda: agree(one, two))

        assert most == 1
        assert set(served) == {200}


@pytest.mark.long
async def test_one_that_joins_late_begins_with_what_is_known(tmp_path: Path):
    """The plan in force and what was learned, though it has not served anything yet."""
    async with union(tmp_path) as at, ClientSession() as session:
        one = await at.gateway()
        await until(lambda: agree(one))
        empty = one.plan.plan_id
        assert {await ask(one, session, tokens=40) for _ in range(12)} == {200}
        await until(lambda: one.plan.plan_id != empty)
        learned = b":1\r\n"

        async def kept() -> bool:
            return await at.server.ask("HEXISTS", "cuvee:{cuvee}:plan", "learned") == learned

        await until(kept)
        two = await at.gateway()

        assert two.plan.plan_id == one.plan.plan_id
        assert two._estimator.lengths.state().histories


async def test_another_configuration_is_not_followed_and_said(tmp_path: Path):
    """A gateway whose prices differ keeps its own last plan."""
    async with union(tmp_path) as at:
        one = await at.gateway()
        await until(lambda: agree(one))
        two = await at.gateway(buckets={"input_to": 4096})

        async def said() -> bool:
            return "another configuration" in (await cluster(two))["problem"]

        await until(said)
        assert two.plan.plan_id != one.plan.plan_id
        assert leaders(one, two) == [one]


@pytest.mark.long
@pytest.mark.parametrize("workers", [2])
async def test_worker_processes_see_what_other_gateways_have(tmp_path: Path, workers: int):
    """The supervisor puts it into the array that they share; its own is told to the others."""
    async with union(tmp_path, engines=1) as at, ClientSession() as session:
        one = await at.gateway(gateway={"workers": workers})
        two = await at.gateway()
        await until(lambda: agree(one, two))
        (mine,), (theirs,) = one.fleet.backends, two.fleet.backends
        held = asyncio.gather(*(ask(app, session, tokens=80) for app in (one, one, two)))
        await until(lambda: mine.in_flight == theirs.in_flight == 3)
        assert set(await held) == {200}
        await until(lambda: mine.in_flight == theirs.in_flight == 0)


@pytest.mark.long
async def test_gateways_that_are_killed_at_random_lose_no_request_of_others(tmp_path: Path):
    """Three processes under load; one after another is killed without a word, the one that plans
    among them, and comes back. What was sent to the others is answered, every time."""
    rng = random.Random(7)
    async with union(tmp_path) as at, ClientSession() as session:
        paths = [at.config(at.server.url, gateway={"port": free_port()}) for _ in range(3)]
        served = [await Served.start(path) for path in paths]
        stopped = asyncio.Event()
        try:
            await asyncio.gather(*(one.ready(session) for one in served))
            clients = [
                asyncio.create_task(one.load(session, stopped)) for one in served for _ in range(4)
            ]
            for _ in range(4):
                await until(lambda: one_leads(served))
                victim = rng.choice(served)
                if rng.random() < 0.5:
                    victim = next(one for one in served if one.leads)
                before = [one.answered for one in served]
                await victim.kill()
                await until(
                    lambda v=victim, b=before: all(
                        one is v or one.answered >= least + 10
                        for one, least in zip(served, b, strict=True)
                    )
                )
                await victim.restart()
                await victim.ready(session)
            stopped.set()
            await asyncio.gather(*clients)
        finally:
            stopped.set()
            for one in served:
                await one.kill()

        assert [one.lost for one in served] == [0, 0, 0]
        assert min(one.answered for one in served) > 50


class Served:
    """A gateway in a process of its own, and what its clients got. leads: as it said last."""

    def __init__(self, path: Path) -> None:
        raw = yaml.safe_load(path.read_text())
        self._path, self._port = path, raw["gateway"]["port"]
        self._process: asyncio.subprocess.Process
        self._alive = False
        self._life = 0
        self.answered = self.lost = 0
        self.leads = False

    @classmethod
    async def start(cls, path: Path) -> "Served":
        served = cls(path)
        await served.restart()
        return served

    async def restart(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cuvee", "serve", "--config", str(self._path),
            stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip

    async def kill(self) -> None:
        self._alive, self.leads = False, False
        self._life += 1
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def ready(self, session: ClientSession) -> None:
        async def serves() -> bool:
            with suppress(ClientError):
                return await self._ask(session) == 200
            return False

        await until(serves)
        self._alive = True

    async def look(self, session: ClientSession) -> None:
        """Whether it plans: the data port answers metrics of operators too."""
        url = f"http://127.0.0.1:{self._port}/metrics"
        with suppress(ClientError):
            async with session.get(url) as reply:
                self.leads = "cuvee_cluster_leads 1" in await reply.text()

    async def load(self, session: ClientSession, stopped: asyncio.Event) -> None:
        """Ask again and again while it lives; what it owes while it lives is lost if it fails."""
        while not stopped.is_set():
            if not self._alive:
                await asyncio.sleep(0.02)
                continue
            life = self._life
            try:
                status = await self._ask(session)
            except ClientError:
                status = 0
            await self.look(session)
            if status == 200:
                self.answered += 1
            elif life == self._life:
                self.lost += 1

    async def _ask(self, session: ClientSession) -> int:
        request = {
            "model": "m",
            "messages": [{"role": "user", "content": f"{next(NUMBERS)} two three four"}],
            "vllm_xargs": {"output_tokens": 8},
        }
        url = f"http://127.0.0.1:{self._port}/v1/chat/completions"
        async with session.post(url, json=request) as reply:
            await reply.read()
            return reply.status


def one_leads(served: list[Served]) -> bool:
    return sum(one.leads for one in served) == 1


@pytest.mark.long
async def test_the_old_plan_of_one_that_stood_still_is_refused(tmp_path: Path):
    """The process that plans is stopped (SIGSTOP) until another one plans, and goes on: it writes
    nothing over the plan of the other, and follows it."""
    async with union(tmp_path) as at, ClientSession() as session:
        two = await at.gateway()
        path = at.config(at.server.url, gateway={"port": free_port()})
        await until(lambda: agree(two))
        one = await Served.start(path)
        try:
            await one.ready(session)
            two.alliance.leave()  # as if it were about to end: the other one plans

            async def leads() -> bool:
                await one.look(session)
                return one.leads

            await until(leads)
            one._process.send_signal(signal.SIGSTOP)
            three = await at.gateway()
            await until(lambda: three.alliance.leads())
            one._process.send_signal(signal.SIGCONT)

            async def follows() -> bool:
                return not await leads()

            async def its_plan() -> bool:
                told = await cluster(three)
                return bool(told["plan_from"] == told["gateway"])

            await until(follows)
            await until(its_plan)
            assert three.alliance.leads()
        finally:
            await one.kill()

"""Several worker processes behind one port, over real sockets, and what happens when they die."""

import asyncio
import fcntl
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientConnectionError, ClientSession, TCPConnector

from gateway.app import App
from gateway.config.load import load
from gateway.workers.channel import HEAD
from gateway.workers.supervisor import Supervisor
from loadtest.emulator.server import Emulator
from loadtest.process import free_port
from planner.engine.profiles import find_profile

ROOT = Path(__file__).resolve().parents[1]
PROFILE = "llama-3-8b/H100"
MODEL = "llama-3-8b"
WORKERS = 2
SERVED = f'cuvee_requests_total{{model="{MODEL}",outcome="ok",pool="h100"}}'


def said(tokens: int) -> dict[str, Any]:
    """A streaming chat body whose answer has so many tokens."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": "one two three four"}],
        "stream": True,
        "vllm_xargs": {"output_tokens": tokens},
    }


def written(folder: Path, ports: list[int], **gateway: Any) -> Path:
    """A configuration for backends on these ports of this machine."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    raw = {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "h100": {
                "model": MODEL,
                "profile": PROFILE,
                "usd_per_hour": 1.0,
                "backends": urls,
            }
        },
        "gateway": {
            "host": "127.0.0.1", "port": 0, "admin_port": 0, "workers": WORKERS, "drain_s": 1.0,
            "drain_delay_s": 0,
        } | gateway,
    }  # fmt: skip
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[tuple[list[Emulator], list[int]]]:
    """Emulated backends and their ports."""
    async with AsyncExitStack() as stack:
        emulators = [Emulator(find_profile(PROFILE, ROOT), MODEL) for _ in range(count)]
        ports = [await emulator.start() for emulator in emulators]
        for emulator in emulators:
            stack.push_async_callback(emulator.stop)
        yield emulators, ports


@asynccontextmanager
async def supervisor(
    folder: Path, **gateway: Any
) -> AsyncIterator[tuple[App, Supervisor, list[Emulator]]]:
    """A gateway of several workers before two emulated backends."""
    async with engines(2) as (emulators, ports):
        app = App(load(written(folder, ports, **gateway)))
        async with app:
            assert isinstance(app.plane, Supervisor)
            yield app, app.plane, emulators


def fresh() -> ClientSession:
    """A client with a connection per request: the kernel deals each to a worker of its choice."""
    return ClientSession(connector=TCPConnector(force_close=True, limit=0))


async def chat(session: ClientSession, port: int, tokens: int) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with session.post(url, json=said(tokens)) as reply:
        return reply.status, await reply.read()


async def metrics(url: str) -> dict[str, float]:
    async with ClientSession() as session, session.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return {n: float(v) for n, v in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}


async def until(true: Callable[[], Awaitable[bool]], limit_s: float = 10.0) -> None:
    """Waits for something that another process brings about; in vain is a failure."""
    async with asyncio.timeout(limit_s):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


async def test_the_admin_port_is_not_ready_before_the_data_port_listens(tmp_path: Path):
    """Whoever is sent requests when `/readyz` says so must not find the door closed."""
    refused: list[bool] = []
    data, admin = free_port(), free_port()

    async def ready(session: ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{admin}/readyz") as reply:
                return reply.status == 200
        except ClientConnectionError:
            return False

    async def connect_when_ready() -> None:
        async with ClientSession() as session:
            await until(lambda: ready(session), 60.0)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", data)
            writer.close()
            refused.append(False)
        except ConnectionRefusedError:
            refused.append(True)

    async with asyncio.TaskGroup() as group:
        client = group.create_task(connect_when_ready())
        async with supervisor(tmp_path, port=data, admin_port=admin):
            await client

    assert refused == [False]


async def test_two_workers_serve_and_their_metrics_add_up(tmp_path: Path):
    """Requests on many connections reach both workers; one scrape, at either port, has them all."""
    async with supervisor(tmp_path, operator_paths="both") as (app, _, _), fresh() as session:
        done = await asyncio.gather(*(chat(session, app.port, 3) for _ in range(40)))
        data = f"http://127.0.0.1:{app.port}"

        async def all_told() -> bool:
            return (await metrics(data)).get(SERVED) == 40

        await until(all_told)
        told = await metrics(app.admin)
        plan = await (await session.get(f"{data}/cuvee/plan")).json()
        missing = await session.get(f"{data}/nowhere")

    assert {status for status, _ in done} == {200}
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in done)
    assert told[SERVED] == 40
    assert sum(v for k, v in told.items() if k.startswith("cuvee_in_flight{")) == 0
    assert plan["plan_id"] == app.plan.plan_id
    assert missing.status == 404


async def test_a_killed_worker_is_replaced_and_its_leases_vanish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """kill -9 under streams: another worker listens within a second, the other's streams end
    whole, and nothing of the dead one's is counted as in flight any more. A line says how it ended,
    and another which process serves in its place."""
    caplog.set_level(logging.INFO)
    async with supervisor(tmp_path) as (app, plane, emulators), fresh() as session:
        streams = [asyncio.create_task(chat(session, app.port, 150)) for _ in range(30)]

        async def all_running() -> bool:
            return sum(e.engine.running for e in emulators) == 30

        async def replaced() -> bool:
            return None not in plane.pids and victim not in plane.pids

        def in_flight() -> int:
            plane.drain()
            return sum(b.in_flight for b in app.fleet.backends)

        async def nothing_held() -> bool:
            return in_flight() == 0

        await until(all_running)
        held, victim = in_flight(), plane.pids[0]
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await until(replaced, limit_s=1.0)
        ended = await asyncio.gather(*streams, return_exceptions=True)
        whole = [end for end in ended if not isinstance(end, BaseException)]
        await until(nothing_held)
        later = await asyncio.gather(*(chat(session, app.port, 2) for _ in range(20)))
        told = await metrics(app.admin)
        successor = plane.pids[0]
    lines = [record.getMessage() for record in caplog.records]

    assert f"worker 0 ({victim}) is gone: ended by SIGKILL; another in 0 s" in lines
    assert f"worker 0 ({successor}) serves" in lines
    assert held == 30
    assert 0 < len(whole) < 30  # the chance that one worker had all is 1 in 2^29
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in whole)
    assert {status for status, _ in later} == {200}
    assert (told["cuvee_workers"], told["cuvee_workers_replaced_total"]) == (WORKERS, 1)


async def test_tables_reach_all_workers(tmp_path: Path):
    """A plan put in force is soon in the receipts of every worker, also of one that replaced
    another."""
    async with supervisor(tmp_path) as (app, plane, _), fresh() as session:
        url = f"http://127.0.0.1:{app.port}/readyz"

        async def plans() -> set[str]:
            replies = [await session.get(url) for _ in range(20)]
            return {(await reply.json())["plan_id"] for reply in replies}

        async def all_other() -> bool:
            return await plans() == {"other"}

        before = await plans()
        app.publish(replace(app.plan, plan_id="other"), "the test says so")
        await until(all_other)
        victim = plane.pids[1]
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        await until(all_other)

    assert before == {app.plan.plan_id}


async def test_workers_know_which_backends_are_down(tmp_path: Path):
    """The supervisor probes for all: a fleet that is down makes every worker unready."""
    async with (
        supervisor(tmp_path, health_interval_s=0.05) as (app, _, emulators),
        fresh() as session,
    ):
        url = f"http://127.0.0.1:{app.port}/readyz"

        async def statuses() -> set[int]:
            return {(await session.get(url)).status for _ in range(20)}

        async def unready() -> bool:
            return await statuses() == {503}

        before = await statuses()
        for emulator in emulators:
            emulator.crash()
        await until(unready)

    assert before == {200}


async def test_backends_come_and_go_in_every_worker(tmp_path: Path):
    """A new backend serves through all workers, a replaced one too; one that left is asked by none,
    and its row in the shared array is given away only when no worker writes to it any more."""
    async with engines(1) as (_, [third]), supervisor(tmp_path) as (app, plane, _):
        first, second = (backend.url for backend in app.fleet.backends)
        new = f"http://127.0.0.1:{third}"

        async def served() -> set[str]:
            async with fresh() as session:
                url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
                replies = [await session.post(url, json=said(1)) for _ in range(20)]
                for reply in replies:
                    await reply.read()
                return {reply.headers["x-cuvee-backend"] for reply in replies}

        async def only_new() -> bool:
            return await served() == {"h100-2"}

        async def freed() -> bool:
            return not plane.rows_in_use()

        async with fresh() as session:
            url = f"http://127.0.0.1:{app.port}/v1/chat/completions"
            async with session.post(url, json=said(100)) as long:
                leaving = int(long.headers["x-cuvee-backend"].removeprefix("h100-"))
                await app.apply({"h100": [new, first, second]})
                await app.apply({"h100": [new]})
                in_use = plane.rows_in_use()
                await until(only_new)
                still_in_use = plane.rows_in_use()
                body = await long.read()
        await until(freed)
        victim = plane.pids[0]
        assert victim is not None
        os.kill(victim, signal.SIGKILL)

        async def replaced() -> bool:
            return None not in plane.pids and victim not in plane.pids

        await until(replaced)
        after = await served()
        await app.apply({"h100": [new, first]})
        rows = {app.fleet.row(backend) for backend in app.fleet.backends}

    assert in_use == {0, 1}
    assert leaving in still_in_use  # rows are numbered as the first backends are
    assert body.endswith(b"data: [DONE]\n\n")
    assert after == {"h100-2"}
    assert rows == {0, 2}  # the lowest free one


async def test_the_load_of_every_worker_is_shown(tmp_path: Path):
    """What each worker carries, by its number: its connections, its queue, its retries."""
    async with supervisor(tmp_path) as (app, _, _), fresh() as session:
        streams = [asyncio.create_task(chat(session, app.port, 150)) for _ in range(30)]

        async def all_shown() -> bool:
            page = await metrics(app.admin)
            shown = [page[f'cuvee_client_connections{{worker="{n}"}}'] for n in range(WORKERS)]
            return sum(shown) == 30 and all(shown)

        await until(all_shown)
        page = await metrics(app.admin)
        await asyncio.gather(*streams)

    for number in range(WORKERS):
        assert page[f'cuvee_queued_requests{{worker="{number}"}}'] == 0
        assert page[f'cuvee_retry_budget{{worker="{number}"}}'] > 0
        assert page[f'cuvee_breakers_open{{worker="{number}"}}'] == 0


async def test_a_replacement_knows_what_was_learned(tmp_path: Path):
    """A worker that starts late believes of a prompt what the others found out about such."""
    words = {"messages": [{"role": "user", "content": "friendship " * 200}]}
    async with supervisor(tmp_path) as (app, plane, _), fresh() as session:
        url = f"http://127.0.0.1:{app.port}/v1/chat/completions"

        async def right() -> bool:
            """Whether a worker takes such a prompt for as long as it is."""
            asked.append(1)
            async with session.post(url, json=said(1) | words | {"stream": False}) as reply:
                used = (await reply.json())["usage"]["prompt_tokens"]
                low, high = grid.bounds(int(reply.headers["x-cuvee-bucket"]))[0]
                return bool(low <= used < high)

        async def learned() -> bool:
            return all([await right() for _ in range(10)])

        async def replaced() -> bool:
            return None not in plane.pids and not set(victims) & set(plane.pids)

        async def all_told() -> bool:
            told = await metrics(app.admin)
            return told.get(SERVED) == len(asked)

        asked: list[int] = []
        grid, victims = app.plan.buckets.grid, plane.pids
        before = await right()
        await until(learned)
        await until(all_told)
        for victim in victims:
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
        await until(replaced)
        after = await right()

    assert not before  # four bytes a token is far off for such words
    assert after


async def test_a_draining_crew_finishes_its_streams(tmp_path: Path):
    """All workers say 503 to readiness first; running streams end whole, then nobody listens."""
    slow = {"drain_delay_s": 0.5, "drain_s": 10.0}
    async with supervisor(tmp_path, **slow) as (app, _, emulators), fresh() as session:
        streams = [asyncio.create_task(chat(session, app.port, 40)) for _ in range(8)]

        async def all_running() -> bool:
            return sum(e.engine.running for e in emulators) == 8

        async def unready() -> bool:
            return (await session.get(f"http://127.0.0.1:{app.port}/readyz")).status == 503

        await until(all_running)
        leaving = asyncio.create_task(app.__aexit__())
        await until(unready)
        done = await asyncio.gather(*streams)
        await leaving
        with pytest.raises(ClientConnectionError):
            await chat(session, app.port, 1)

    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in done)


async def test_a_port_belongs_to_one_gateway(tmp_path: Path):
    """A second one on the same port does not start, although workers share it."""
    async with supervisor(tmp_path) as (app, _, _):
        twin = App(load(tmp_path / "cuvee.yaml"), port=app.port)
        with pytest.raises(OSError, match="another gateway"):
            await twin.__aenter__()


async def serve(
    path: Path, *options: str, log: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """The command, in a process group of its own; log: its standard output and error."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cuvee", "serve", "--config", str(path), *options,
        start_new_session=True, cwd=ROOT,
        stdout=log, stderr=log,
    )  # fmt: skip


async def answers(session: ClientSession, port: int, path: str) -> int:
    """The status of a GET, 0 if nobody listens."""
    try:
        async with session.get(f"http://127.0.0.1:{port}{path}") as reply:
            return reply.status
    except ClientConnectionError:
        return 0


@pytest.mark.long
async def test_the_supervisors_death_does_not_stop_serving(tmp_path: Path):
    """After kill -9 of the supervisor requests are served; SIGTERM, or a new gateway on the port,
    ends the workers that it left, and no process of either remains."""
    async with AsyncExitStack() as stack:
        _, ports = await stack.enter_async_context(engines(1))
        port = free_port()
        session = await stack.enter_async_context(fresh())
        path = written(tmp_path, ports, port=port, operator_paths="both")

        async def ready() -> bool:
            return await answers(session, port, "/readyz") == 200

        async def supervised() -> bool:
            """Twenty connections in a row reach workers that have a supervisor."""
            statuses = [await answers(session, port, "/metrics") for _ in range(20)]
            return set(statuses) == {200}

        async def gone() -> bool:
            return not _alive(first.pid) and not _alive(second.pid)

        first = await serve(path)
        stack.callback(_end, first.pid)
        await until(ready, limit_s=60.0)
        first.kill()
        await first.wait()
        orphaned = [await chat(session, port, 3) for _ in range(10)]
        state = await answers(session, port, "/readyz"), await answers(session, port, "/metrics")
        second = await serve(path)
        stack.callback(_end, second.pid)
        await until(supervised, limit_s=60.0)
        second.kill()
        await second.wait()
        os.killpg(second.pid, signal.SIGTERM)
        await until(gone)

    assert {status for status, _ in orphaned} == {200}
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in orphaned)
    assert state == (200, 503)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
async def test_a_second_signal_ends_at_once(tmp_path: Path, workers: int):
    """The first one lets a long answer finish; the second leaves no process and no connection."""
    async with AsyncExitStack() as stack:
        emulators, ports = await stack.enter_async_context(engines(1))
        port = free_port()
        session = await stack.enter_async_context(fresh())
        path = written(tmp_path, ports, port=port, workers=workers, drain_s=600)

        async def ready() -> bool:
            return await answers(session, port, "/readyz") == 200

        async def refused() -> bool:
            return await answers(session, port, "/livez") == 0

        async def aborted() -> bool:
            return emulators[0].engine.running == 0

        async def gone() -> bool:
            return not _alive(gateway.pid)

        gateway = await serve(path)
        stack.callback(_end, gateway.pid)
        await until(ready, limit_s=60.0)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        long = await session.post(url, json=said(100_000))
        gateway.send_signal(signal.SIGTERM)
        await until(refused)
        drains = await long.content.readany()
        gateway.send_signal(signal.SIGINT)
        status = await gateway.wait()
        await until(gone)
        await until(aborted)
        long.close()

    assert drains
    assert status == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("workers", "successors"), [pytest.param(1, 2, marks=pytest.mark.long), (2, 2)]
)
async def test_a_successor_takes_over_without_a_lost_request(
    tmp_path: Path, workers: int, successors: int
):
    """While requests come on new connections all the time, one gateway replaces another: every
    request is answered, a long answer too, and the first gateway ends by itself."""
    async with AsyncExitStack() as stack:
        _, ports = await stack.enter_async_context(engines(1))
        port, admin = free_port(), free_port()
        session = await stack.enter_async_context(fresh())
        (tmp_path / "new").mkdir()
        keys = {"port": port, "admin_port": admin, "drain_s": 20.0}
        old = written(tmp_path, ports, workers=workers, **keys)
        new = written(tmp_path / "new", ports, workers=successors, **keys)

        async def ready() -> bool:
            return await answers(session, port, "/readyz") == 200

        async def client() -> list[int]:
            statuses = []
            while first.returncode is None:
                statuses.append((await chat(session, port, 1))[0])
                await asyncio.sleep(0.01)
            return statuses

        first = await serve(old)
        stack.callback(_end, first.pid)
        await until(ready, limit_s=60.0)
        long = asyncio.create_task(chat(session, port, 300))
        clients = [asyncio.create_task(client()) for _ in range(4)]
        second = await serve(new, "--replace")
        stack.callback(_end, second.pid)
        status = await first.wait()
        statuses = [status for found in await asyncio.gather(*clients) for status in found]
        _, body = await long
        after = await answers(session, admin, "/readyz"), await answers(session, admin, "/metrics")
        os.killpg(second.pid, signal.SIGKILL)
        await second.wait()

    assert status == 0
    assert set(statuses) == {200}
    assert body.endswith(b"data: [DONE]\n\n")
    assert after == (200, 200)


async def test_a_hangup_reloads(tmp_path: Path):
    """SIGHUP to all processes, as a terminal sends it, ends none and has the file read again."""
    async with AsyncExitStack() as stack:
        _, ports = await stack.enter_async_context(engines(1))
        port = free_port()
        session = await stack.enter_async_context(fresh())
        path = written(tmp_path, ports, port=port)

        async def ready() -> bool:
            return await answers(session, port, "/readyz") == 200

        async def all_refuse() -> bool:
            return {(await chat(session, port, 2))[0] for _ in range(10)} == {413}

        gateway = await serve(path)
        stack.callback(_end, gateway.pid)
        await until(ready, limit_s=60.0)
        before = (await chat(session, port, 2))[0]
        written(tmp_path, ports, port=port, max_body_bytes=100)
        os.killpg(gateway.pid, signal.SIGHUP)
        await until(all_refuse)
        gateway.terminate()
        status = await gateway.wait()

    assert (before, status) == (200, 0)


def _end(group: int) -> None:
    if _alive(group):
        os.killpg(group, signal.SIGKILL)


def _alive(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("reader", ["asleep", "gone"])
async def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, workers: int, reader: str):
    """Standard output and error are a full or a closed pipe: every request is served all the same,
    and a signal ends the gateway."""
    async with AsyncExitStack() as stack:
        _, ports = await stack.enter_async_context(engines(1))
        port = free_port()
        session = await stack.enter_async_context(fresh())
        path = written(tmp_path, ports, port=port, workers=workers, request_log=1)

        async def ready() -> bool:
            return await answers(session, port, "/readyz") == 200

        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        gateway = await serve(path, log=writing)
        stack.callback(_end, gateway.pid)
        os.close(writing)
        if reader == "gone":
            os.close(reading)
        else:
            stack.callback(os.close, reading)
        await until(ready, limit_s=60.0)
        done = [await chat(session, port, 2) for _ in range(60)]
        gateway.send_signal(signal.SIGTERM)
        status = await gateway.wait()

    assert {code for code, _ in done} == {200}
    assert status == 0


async def test_a_worker_that_cannot_obey_is_replaced(tmp_path: Path):
    """It would serve with an old plan and old backends for ever."""
    async with supervisor(tmp_path) as (app, plane, _), fresh() as session:
        before = plane.pids
        channel = plane._slots[0].channel
        assert channel is not None
        channel._writer.write(HEAD.pack(2) + b"\xff\x80")  # a message of another version

        async def replaced() -> bool:
            return None not in plane.pids and plane.pids[0] != before[0]

        await until(replaced)
        statuses = [(await chat(session, app.port, 2))[0] for _ in range(10)]

    assert plane.replaced == 1
    assert statuses == [200] * 10

"""What a gateway tells of requests to programs that gather it, over real sockets."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession, web
from multidict import CIMultiDict
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.app import App
from gateway.config.load import load
from loadtest.process import free_port
from tests.otlp_collector import OtlpCollector, collecting, named

ROOT = Path(__file__).resolve().parents[1]
MODEL = "llama-3-8b"
PROMPT, KEY = "words that nobody else may read", "sk-that-nobody-may-see"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


class Engine:
    """A scripted engine; headers: of the requests that it got."""

    def __init__(self) -> None:
        self.headers: list[CIMultiDict[str]] = []

    async def probe(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": MODEL}]})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(CIMultiDict(request.headers))
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        said = '{"choices":[{"index":0,"delta":{"content":"hi"}}]}'
        usage = '"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}'
        ended = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],' + usage + "}"
        await reply.write(f"data: {said}\n\ndata: {ended}\n\ndata: [DONE]\n\n".encode())
        return reply


class Served:
    """A gateway that runs before one engine, and a session for clients."""

    def __init__(self, app: App, engine: Engine, session: ClientSession) -> None:
        self.app, self.engine, self.session = app, engine, session

    async def ask(self, **headers: str) -> CIMultiDict[str]:
        """One chat, as a stream; the headers that the engine got."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": True}
        url = f"http://127.0.0.1:{self.app.port}/v1/chat/completions"
        headers = {"authorization": f"Bearer {KEY}"} | headers
        async with self.session.post(url, json=body, headers=headers) as reply:
            await reply.read()
            assert reply.status == 200
        return self.engine.headers[-1]

    async def loops(self) -> dict[str, Any]:
        async with self.session.get(f"{self.app.admin}/cuvee/loops") as reply:
            found: dict[str, Any] = (await reply.json())["loops"]
        return found


@asynccontextmanager
async def served(folder: Path, **gateway: Any) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        engine, web_app = Engine(), web.Application()
        web_app.router.add_get("/{path:.*}", engine.probe)
        web_app.router.add_post("/{path:.*}", engine.serve)
        runner = web.AppRunner(web_app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        pool = {"model": MODEL, "profile": "llama-3-8b/H100", "usd_per_hour": 1.0}
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"h100": pool | {"backends": [url], "engine": "vllm"}},
            "gateway": {"host": "127.0.0.1", "port": 0, "admin_port": 0, "drain_delay_s": 0}
            | gateway,
        }
        path = folder / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        app = await stack.enter_async_context(App(load(path)))
        yield Served(app, engine, await stack.enter_async_context(ClientSession()))


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that other tasks and threads bring about."""
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("where", ["admin", "data"])
async def test_openmetrics_is_for_who_asks_for_it(tmp_path: Path, where: str):
    """With an exemplar for each request; on the data port too. All others get what they got."""
    async with served(tmp_path, operator_paths="both") as at:
        await at.ask(**{"x-request-id": "my-own"})
        app, session = at.app, at.session
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
    async with served(tmp_path) as at:
        app, session = at.app, at.session
        await at.ask(**{"x-request-id": "my-own"})
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
    assert sum(len(group["rules"]) for group in groups) == 28


def otel(collector: OtlpCollector, **settings: Any) -> dict[str, Any]:
    """What the gateway sends where, and all of it before it ends."""
    return {"endpoint": collector.url, "sample": 1.0, "metrics_s": 0.0} | settings


async def test_a_trace_goes_from_the_client_to_the_engine(tmp_path: Path):
    """The gateway's span is a child of the client's; the engine's will be one of the gateway's.
    What the client says and who it is is nowhere in it."""
    async with collecting() as collector:
        async with served(tmp_path, otel=otel(collector, sample=0.0)) as at:
            own_id = {"x-request-id": "my-own"}
            got = await at.ask(traceparent=SAMPLED, tracestate="a=b", **own_id)
            await collector.got(2)
        own, call = collector.spans

    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, PARENT)
    assert got.getall("traceparent") == [f"00-{TRACE}-{call.span_id.hex()}-01"]
    assert got["tracestate"] == "a=b"
    assert call.parent_span_id == own.span_id
    assert named(own.attributes)["cuvee.request_id"] == "my-own"
    assert named(own.attributes)["gen_ai.usage.input_tokens"] == 9
    assert own.start_time_unix_nano < call.start_time_unix_nano <= call.end_time_unix_nano
    assert [event.name for event in own.events] == ["dispatch", "first token"]
    whole = b"".join(collector.bodies)
    assert PROMPT.encode() not in whole
    assert KEY.encode() not in whole


@pytest.mark.long
async def test_the_client_decides_about_its_trace_and_the_share_about_all_others(tmp_path: Path):
    """Engines are told of what is not traced, so that they begin no traces of their own."""
    async with collecting() as collector:
        async with served(tmp_path, otel=otel(collector, sample=0.0)) as at:
            unsampled, without = await at.ask(traceparent=UNSAMPLED), await at.ask()
            broken = await at.ask(traceparent="00-zz", tracestate="a=b")
        none = list(collector.spans)
        async with served(tmp_path, otel=otel(collector)) as at:
            begun, restarted = await at.ask(), await at.ask(traceparent=f"00-{TRACE}-{'0' * 16}-01")
            await collector.got(4)

    assert none == []
    assert unsampled["traceparent"] == UNSAMPLED
    for got in (without, broken):
        (line,) = got.getall("traceparent")
        assert line[-3:] == "-00"
        assert "tracestate" not in got
    assert [span.trace_id.hex() for span in collector.spans[::2]] == [
        got["traceparent"].split("-")[1] for got in (begun, restarted)
    ]
    assert TRACE not in restarted["traceparent"]


@pytest.mark.long
async def test_a_gateway_need_not_follow_its_clients(tmp_path: Path):
    """Else each could make work for all by a flag. Their traces go on where the share chooses."""
    async with collecting() as collector:
        settings = otel(collector, follow_parent=False)
        async with served(tmp_path, otel=settings | {"sample": 1e-9}) as at:
            quiet = await at.ask(traceparent=SAMPLED)
        none = list(collector.spans)
        async with served(tmp_path, otel=settings) as at:
            await at.ask(traceparent=UNSAMPLED)
            await collector.got(2)

    assert none == []
    assert quiet.getall("traceparent") == [UNSAMPLED]
    assert collector.spans[0].trace_id.hex() == TRACE


async def test_without_a_collector_traces_pass_unchanged(tmp_path: Path):
    """As they always did."""
    async with served(tmp_path) as at:
        got = await at.ask(traceparent=SAMPLED, tracestate="a=b")
        without = await at.ask()

    assert (got["traceparent"], got["tracestate"]) == (SAMPLED, "a=b")
    assert "traceparent" not in without


@pytest.mark.long
async def test_exemplars_are_traces_where_there_are_any(tmp_path: Path):
    """A dashboard then links from a bucket to the trace."""
    async with collecting() as collector, served(tmp_path, otel=otel(collector)) as at:
        await at.ask(traceparent=SAMPLED)
        async with at.session.get(f"{at.app.admin}/metrics", headers=OPENMETRICS) as reply:
            page = await reply.text()

    assert f'trace_id="{TRACE}"' in page
    assert "cuvee_otel_requests_total" in page


@pytest.mark.long
async def test_requests_are_served_while_the_collector_does_not_answer(tmp_path: Path):
    """A loop says that it fails; and a collector that is wrong is told to the operator."""
    nowhere = {"endpoint": f"http://127.0.0.1:{free_port()}", "sample": 1.0, "timeout_s": 1.0}
    async with served(tmp_path, otel=nowhere) as at:
        await at.ask()

        async def failing() -> bool:
            return (await at.loops()).get("telemetry", {}).get("error") is not None

        await until(failing)
        await at.ask()
        error = (await at.loops())["telemetry"]["error"]

    assert nowhere["endpoint"] in error


@pytest.mark.long
async def test_several_workers_trace_and_send_by_one(tmp_path: Path):
    """Workers only note; the supervisor sends."""
    async with collecting() as collector:
        settings = otel(collector, metrics_s=0.5)
        async with served(tmp_path, workers=2, otel=settings) as at:
            asked = [await at.ask() for _ in range(8)]
            await collector.got(16)
            await until(lambda: _there("gen_ai.server.request.duration" in collector.metrics))
    traces = {got["traceparent"].split("-")[1] for got in asked}

    assert {span.trace_id.hex() for span in collector.spans} == traces
    assert len(traces) == 8


async def _there(found: bool) -> bool:
    return found

"""Lists that are too wide for the promise are served in parts, where the configuration says so."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import openai
import pytest
import yaml
from aiohttp import ClientSession, web

from gateway.app import App
from gateway.config.load import load

MODEL = "m"
LONG = "word " * 1600  # 8,000 bytes: within a TTFT of 2 s a backend prefills some of them


class Engine:
    """Counts words. bodies, traces: of its requests. most: requests at once. refusing: prompts that
    begin so get 400. hold: set while it may answer. left: clients that closed meanwhile."""

    def __init__(self):
        self.traces = []
        self.bodies, self.now, self.most, self.left = [], 0, 0, 0
        self.refusing = "never"
        self.failures = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def answer(self, request):
        if request.method == "GET":
            return web.Response(status=200 if request.path == "/health" else 404)
        body = await request.json()
        self.traces.append(request.headers.get("traceparent"))
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.hold.wait()
            return self.told(body, "embeddings" in request.path)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.now -= 1

    def told(self, body, embeds):
        prompts = body["input" if embeds else "prompt"]
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if self.failures:
            self.failures -= 1
            return web.Response(status=500)
        if any(prompt.startswith(self.refusing) for prompt in prompts):
            return web.json_response({"error": {"message": "refused", "code": 400}}, status=400)
        numbers = [float(prompt.split()[0]) for prompt in prompts]
        usage = {"prompt_tokens": len(prompts), "total_tokens": len(prompts)}
        about = {"id": "i", "object": "list", "created": 1, "model": body["model"], "usage": usage}
        if embeds:
            data = [
                {"object": "embedding", "index": n, "embedding": [x]} for n, x in enumerate(numbers)
            ]
            return web.json_response(about | {"data": data})
        count = body.get("n", 1)
        choices = [
            {"index": n, "text": f"{numbers[n // count]:g}", "finish_reason": "stop"}
            for n in range(len(numbers) * count)
        ]
        return web.json_response(about | {"choices": choices})


@asynccontextmanager
async def serving(tmp_path, *engines, otel=None, **model):
    """A gateway before these engines of one pool."""
    async with AsyncExitStack() as stack:
        urls = []
        for engine in engines:
            scripted = web.Application(client_max_size=1 << 24)
            scripted.router.add_route("*", "/{path:.*}", engine.answer)
            runner = web.AppRunner(scripted, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        pool = {
            "model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0, "backends": urls,
        }  # fmt: skip
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}} | model},
            "pools": {"p": pool},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0, "otel": otel},
        }
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw))
        yield await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))


def client(app):
    url = f"http://127.0.0.1:{app.port}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0)


def prompts(count):
    """Long ones, each with its number in front."""
    return [f"{n} {LONG}" for n in range(count)]


async def observed(app):
    """Requests by outcome."""
    async with ClientSession() as session, session.get(f"{app.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith("cuvee_requests_total{"):
            outcome = line.split('outcome="')[1].split('"')[0]
            found[outcome] = found.get(outcome, 0) + float(line.rsplit(" ", 1)[1])
    return {outcome: count for outcome, count in found.items() if count}


async def test_a_wide_list_is_served_in_parts_and_answered_whole(tmp_path):
    """Each part by a backend of its own choosing, no more at once than there are backends; vectors
    in the order of the prompts, usage as the sum. What fits is sent as it came."""
    engines = Engine(), Engine()
    async with serving(tmp_path, *engines, split_lists=True) as app, client(app) as sdk:
        answer = await sdk.embeddings.create(
            model=MODEL, input=prompts(60), encoding_format="float"
        )
        small = await sdk.embeddings.create(model=MODEL, input=["7", "8"], encoding_format="float")
        counts = await observed(app)
        assert app.in_flight == 0

    assert [one.embedding for one in answer.data] == [[float(n)] for n in range(60)]
    assert [one.index for one in answer.data] == list(range(60))
    assert (answer.usage.prompt_tokens, len(small.data)) == (60, 2)
    sent = [len(body["input"]) for engine in engines for body in engine.bodies]
    assert sum(sent) == 62
    assert len(sent) > 3
    assert all(engine.most <= 2 for engine in engines)
    assert all(engine.bodies for engine in engines)
    assert counts == {"ok": len(sent)}


async def test_choices_of_a_list_count_through(tmp_path):
    """With two for each prompt, each has its own number."""
    engine = Engine()
    async with serving(tmp_path, engine, split_lists=True) as app, client(app) as sdk:
        answer = await sdk.completions.create(model=MODEL, prompt=prompts(40), n=2, max_tokens=4)

    assert [one.index for one in answer.choices] == list(range(80))
    assert [int(one.text) for one in answer.choices] == [n // 2 for n in range(80)]
    assert len(engine.bodies) > 1


@pytest.mark.parametrize("asked", [{}, {"split_lists": False}, {"split_lists": True}])
async def test_only_what_is_asked_for_is_split(tmp_path, asked):
    """Not by default, and no stream."""
    engine = Engine()
    async with serving(tmp_path, engine, **asked) as app, client(app) as sdk:
        if asked.get("split_lists"):
            with pytest.raises(openai.APIError):  # the engine does not stream
                await sdk.completions.create(model=MODEL, prompt=prompts(60), stream=True)
        else:
            await sdk.embeddings.create(model=MODEL, input=prompts(60), encoding_format="float")

    assert {len(body.get("input", body.get("prompt"))) for body in engine.bodies} == {60}


async def test_a_part_is_tried_elsewhere_and_the_last_failure_is_the_answer(tmp_path):
    """One failure of a backend costs nothing; a refusal ends the list with its words, and no part
    goes on that nobody wants."""
    engines = Engine(), Engine()
    async with serving(tmp_path, *engines, split_lists=True) as app, client(app) as sdk:
        engines[0].failures = 1
        answer = await sdk.embeddings.create(
            model=MODEL, input=prompts(60), encoding_format="float"
        )
        assert len(answer.data) == 60
        before = sum(len(engine.bodies) for engine in engines)
        for engine in engines:
            engine.refusing = "3 "
        with pytest.raises(openai.BadRequestError, match="refused"):
            await sdk.embeddings.create(model=MODEL, input=prompts(60), encoding_format="float")
        assert app.in_flight == 0
        counts = await observed(app)

    assert sum(len(engine.bodies) for engine in engines) - before < before
    assert counts["rejected"] == 1


async def test_a_client_that_leaves_ends_all_parts(tmp_path):
    """Those under way are aborted at their engines; no other is begun."""
    engines = Engine(), Engine()
    for engine in engines:
        engine.hold.clear()
    async with serving(tmp_path, *engines, split_lists=True) as app, asyncio.timeout(10):
        body = json.dumps({"model": MODEL, "input": prompts(60)}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", app.port)
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        while sum(engine.now for engine in engines) < 2:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while sum(engine.left for engine in engines) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        counts = await observed(app)
        assert app.in_flight == 0

    assert counts == {"abandoned": 2}
    assert sum(len(engine.bodies) for engine in engines) == 2


@pytest.mark.long
async def test_a_list_in_parts_is_one_trace(tmp_path):
    """Its first part stands for it; engines see one trace, whichever part they have."""
    otlp = pytest.importorskip("tests.otlp_collector")
    engine, other = Engine(), Engine()
    async with otlp.collecting() as collector:
        otel = {"endpoint": collector.url, "sample": 1.0, "metrics_s": 0.0}
        async with (
            serving(tmp_path, engine, other, otel=otel, split_lists=True) as app,
            client(app) as sdk,
        ):
            await sdk.embeddings.create(model=MODEL, input=prompts(60), encoding_format="float")
            await collector.got(2)
        spans = [span.trace_id.hex() for span in collector.spans]

    lines = engine.traces + other.traces
    assert len(lines) > 2
    assert spans == [lines[0].split("-")[1]] * 2
    assert len(set(lines)) == 1

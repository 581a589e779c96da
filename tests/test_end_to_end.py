"""The whole gateway against emulated backends, over real sockets, with the official SDK."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import openai
import pytest
import yaml
from aiohttp import ClientSession, ClientTimeout, web
from tokenizers import Tokenizer, models, pre_tokenizers

from gateway import logs
from gateway.app import App
from gateway.config.load import load
from gateway.errors import ConfigError
from gateway.proxy.engines import VLLM
from gateway.routing.breaker import TOLERATED
from gateway.routing.estimate import Estimate
from gateway.routing.table import compile_table
from gateway.workers.worker import Worker
from loadtest.emulator.faults import NONE, Faults
from loadtest.emulator.server import Emulator
from loadtest.replay.send import ReplayOptions, replay
from planner.engine.profiles import find_profile
from planner.traffic.trace import Trace

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODEL = "llama-3-8b"
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "one two three four"}],
}


ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
STREAM = 'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def said(tokens: int, **fields: Any) -> dict[str, Any]:
    """A chat body whose answer has so many tokens."""
    return CHAT | {"vllm_xargs": {"output_tokens": tokens}} | fields


class Fleet:
    """A running gateway with emulated backends by pool."""

    def __init__(self, app: App, emulators: dict[str, list[Emulator]]) -> None:
        self.app = app
        self.emulators = emulators
        self.url = f"http://127.0.0.1:{app.port}"
        assert isinstance(app.plane, Worker)
        self.worker = app.plane

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        options = {"max_retries": 0} | options
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="sk-test", **options)

    async def metrics(self) -> dict[str, float]:
        async with ClientSession() as session, session.get(f"{self.app.admin}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        return {n: float(v) for n, v in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}

    async def outcomes(self) -> dict[str, float]:
        """Requests by outcome, over all pools."""
        found: dict[str, float] = {}
        for name, value in (await self.metrics()).items():
            if name.startswith("cuvee_requests_total{"):
                outcome = name.split('outcome="')[1].split('"')[0]
                found[outcome] = found.get(outcome, 0) + value
        return found


@asynccontextmanager
async def running(
    tmp_path: Path,
    pools: dict[str, list[Faults]] | None = None,
    *,
    urls: dict[str, list[str]] | None = None,
    queued: int | None = None,
    classes: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **gateway: Any,
) -> AsyncIterator[Fleet]:
    """A gateway on a free port before one emulator per Faults, or before given URLs."""
    if pools is None:
        pools = {} if urls else {"h100": [NONE]}
    async with AsyncExitStack() as stack:
        emulators: dict[str, list[Emulator]] = {}
        listed = dict(urls or {})
        for pool, faults in pools.items():
            profile = find_profile(f"llama-3-8b/{pool}", CONFIGS)
            emulators[pool] = [
                Emulator(profile, MODEL, faults=f, max_num_queued_reqs=queued, task="both")
                for f in faults
            ]
            listed[pool] = [f"http://127.0.0.1:{await e.start()}" for e in emulators[pool]]
            for emulator in emulators[pool]:
                stack.push_async_callback(emulator.stop)
        path = tmp_path / "cuvee.yaml"
        raw = configured(listed, gateway, classes)
        raw["models"][MODEL] |= model or {}
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield Fleet(app, emulators)


@asynccontextmanager
async def emulated(count: int) -> AsyncIterator[tuple[list[Emulator], list[str]]]:
    """Emulated backends and their base URLs."""
    async with AsyncExitStack() as stack:
        profile = find_profile("llama-3-8b/H100", CONFIGS)
        emulators = [Emulator(profile, MODEL) for _ in range(count)]
        urls = [f"http://127.0.0.1:{await emulator.start()}" for emulator in emulators]
        for emulator in emulators:
            stack.push_async_callback(emulator.stop)
        yield emulators, urls


def configured(
    urls: dict[str, list[str]], gateway: dict[str, Any], classes: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}, "classes": classes or {}}},
        "pools": {
            pool: {
                "model": MODEL,
                "profile": f"llama-3-8b/{pool}",
                "usd_per_hour": 1.0,
                "backends": backends,
            }
            for pool, backends in urls.items()
        },
        "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
    }


async def until(true: Callable[[], bool]) -> None:
    """Waits for something that another task brings about; a test that waits in vain fails."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.005)


async def test_a_prompt_is_routed_by_what_the_tokenizer_counts(tmp_path: Path):
    """Not by its bytes: 400 words of one letter are 400 tokens, and would be estimated as 200. So
    it is whether it is counted at once or in the thread, and the gateway of a model without a
    tokenizer estimates."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "words.json"))
    chat = CHAT | {"messages": [{"role": "user", "content": "a " * 400}], "max_tokens": 2}
    small = CHAT | {"messages": [{"role": "user", "content": "a " * 60}], "max_tokens": 2}

    async with running(tmp_path, model={"tokenizer": "words.json"}) as fleet:
        await until(lambda: fleet.worker.counter.ready)
        with_it = [await asked_bucket(fleet, body) for body in (chat, small)]
    async with running(tmp_path) as fleet:
        without = [await asked_bucket(fleet, body) for body in (chat, small)]

    grid = fleet.worker.table.buckets.grid
    row = len(grid.output_edges) - 1
    assert [bucket // row for bucket in with_it] == [2, 0]
    assert [bucket // row for bucket in without] == [1, 0]


async def asked_bucket(fleet: Fleet, body: dict[str, Any]) -> int:
    """The bucket of a request, as its receipt tells."""
    async with (
        ClientSession() as session,
        session.post(f"{fleet.url}/v1/chat/completions", json=body) as reply,
    ):
        assert reply.status == 200
        return int(reply.headers["x-cuvee-bucket"])


async def test_a_client_that_leaves_while_its_prompt_is_counted_gets_no_backend(tmp_path: Path):
    """It was not accepted yet, and is never sent."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.save(str(tmp_path / "words.json"))
    busy = Event()
    async with running(tmp_path, model={"tokenizer": "words.json"}) as fleet:
        counter = fleet.worker.counter
        await until(lambda: counter.ready)
        assert counter._executor is not None
        counter._executor.submit(busy.wait)
        try:
            body = json.dumps(CHAT | {"messages": [{"role": "user", "content": "a " * 400}]})
            _, writer = await asyncio.open_connection("127.0.0.1", fleet.app.port)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
            writer.write(f"{head}\r\n\r\n{body}".encode())
            await until(lambda: counter._waiting_bytes > 0)
            writer.transport.abort()
            await until(lambda: not fleet.worker._listener.connections)
        finally:
            busy.set()
        await until(lambda: counter._waiting_bytes == 0)

        assert await fleet.outcomes() == {}


async def test_the_sdk_chats_and_completes_streaming_and_not(tmp_path: Path):
    """The official async SDK works as against OpenAI, with usage where it was asked for."""
    async with running(tmp_path) as fleet, fleet.client() as client:
        extra = {"vllm_xargs": {"output_tokens": 5}}
        chat = await client.chat.completions.create(**CHAT, extra_body=extra)
        text = await client.completions.create(model=MODEL, prompt="a b c", extra_body=extra)
        streams = [
            await client.chat.completions.create(
                **CHAT, stream=True, stream_options={"include_usage": True}, extra_body=extra
            ),
            await client.completions.create(
                model=MODEL, prompt=[1, 2, 3], stream=True, extra_body=extra,
                stream_options={"include_usage": True},
            ),
        ]  # fmt: skip
        chunks = [[chunk async for chunk in stream] for stream in streams]
        models = [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        vector = await client.embeddings.create(model=MODEL, input="a b c", encoding_format="float")

    assert chat.usage is not None
    assert chat.usage.completion_tokens == 5
    assert text.usage is not None
    assert text.usage.prompt_tokens == 3
    assert [c[-1].usage.completion_tokens for c in chunks] == [5, 5]
    assert chunks[0][-2].choices[0].finish_reason == "stop"
    assert models == [MODEL]
    assert len(vector.data[0].embedding) > 0


async def test_every_choice_of_a_stream_keeps_its_fingerprint(tmp_path: Path):
    """As a client of the engine itself sees it, from the second stream on: the first teaches it."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        direct = f"http://127.0.0.1:{fleet.emulators['h100'][0].port}"

        async def marks(base: str) -> list[bool]:
            body = said(5, stream=True, n=3)
            async with session.post(f"{base}/v1/chat/completions", json=body) as reply:
                lines = (await reply.text()).splitlines()
            data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            ends = [d for d in data if d["choices"][0]["finish_reason"]]
            return ["system_fingerprint" in end for end in ends]

        expected, first, second = (
            await marks(direct),
            await marks(fleet.url),
            await marks(fleet.url),
        )

    assert expected == second == [True] * 3
    assert first == [False, False, True]


async def test_the_sync_sdk_works_too(tmp_path: Path):
    """The official sync SDK, from a thread of its own."""

    def talk(url: str) -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0) as client:
            extra = {"vllm_xargs": {"output_tokens": 4}}
            whole = client.chat.completions.create(**CHAT, extra_body=extra)
            stream = client.chat.completions.create(**CHAT, stream=True, extra_body=extra)
            parts = "".join(c.choices[0].delta.content or "" for c in stream)
            return whole.choices[0].message.content, parts

    async with running(tmp_path) as fleet:
        whole, parts = await asyncio.to_thread(talk, fleet.url)

    assert whole
    assert parts


@pytest.mark.parametrize("stream", [False, True])
async def test_the_clients_own_mistakes_raise_its_typed_exceptions(tmp_path: Path, stream: bool):
    """400 and 404 come as BadRequestError and NotFoundError with the server's words."""
    async with running(tmp_path) as fleet, fleet.client() as client:
        with pytest.raises(openai.NotFoundError, match="`nope` does not exist") as missing:
            await client.chat.completions.create(**CHAT | {"model": "nope"}, stream=stream)
        with pytest.raises(openai.BadRequestError) as negative:
            await client.chat.completions.create(**CHAT, max_tokens=-1, stream=stream)
        long = {"messages": [{"role": "user", "content": "word " * 9000}]}
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.chat.completions.create(**CHAT | long, stream=stream)
        outcomes = await fleet.outcomes()

    assert missing.value.code == "model_not_found"
    assert negative.value.status_code == 400
    assert outcomes == {"rejected": 2}  # what no router could place was never accepted


async def test_a_full_fleet_queues_and_then_says_429(tmp_path: Path):
    """Two wait in the queue until there is room, the next finds it full: RateLimitError."""
    sizes = [
        Estimate(model=MODEL, input_tokens=n, output_tokens=n, output_p90=n) for n in (2000, 200, 1)
    ]
    async with running(tmp_path, queue_requests=2) as fleet, fleet.client() as client:
        leases, admission = [], fleet.worker.dispatcher.admission
        for size in sizes:
            while (lease := fleet.worker.router.route(size, now_s=0.0)) is not None:
                leases.append(lease)
        waiting = [
            asyncio.create_task(client.chat.completions.create(**CHAT, max_tokens=3))
            for _ in range(2)
        ]
        await until(lambda: admission.waiting == 2)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**CHAT)
        for lease in leases:
            lease.release()
        fleet.worker.dispatcher.room(asyncio.get_running_loop().time())
        replies = await asyncio.gather(*waiting)
        outcomes = await fleet.outcomes()

    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert [reply.choices[0].finish_reason for reply in replies] == ["length"] * 2
    assert outcomes == {"ok": 2, "shed": 1}


async def test_no_live_backend_is_a_503(tmp_path: Path):
    """Before a fleet that is down the gateway lives, is not ready, and answers 503."""
    nobody = {"h100": ["http://127.0.0.1:1"]}
    async with running(tmp_path, urls=nobody) as fleet, fleet.client() as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**CHAT)
        async with ClientSession() as session:
            paths = ("/livez", "/readyz", "/health")
            states = [(await session.get(fleet.url + path)).status for path in paths]
        outcomes = await fleet.outcomes()

    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert refused.value.type == "service_unavailable"
    assert states == [200, 503, 503]
    assert outcomes == {"shed": 1}


async def test_every_answer_carries_its_receipt(tmp_path: Path):
    """Pool, backend, bucket, plan, decision and the request id, kept or made."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        kept = await session.post(url, json=said(2), headers={"X-Request-Id": "mine-7"})
        made = await session.post(url, json=said(2, stream=True))
        await made.read()
        refused = await session.post(url, json=said(2, max_tokens=-3))

    names = {f"x-cuvee-{n}" for n in ("pool", "backend", "bucket", "plan", "decision")}
    assert kept.headers["x-request-id"] == "mine-7"
    assert re.fullmatch("[0-9a-f]{16}-[0-9]+", made.headers["x-request-id"])
    for reply in (kept, made, refused):
        assert names <= {name.lower() for name in reply.headers}
        assert reply.headers["x-cuvee-pool"] == "h100"
    assert kept.headers["x-cuvee-decision"] == "planned"


@pytest.mark.parametrize("asked", [True, False])
async def test_the_usage_of_a_stream_is_learned_and_shown_to_who_asked(tmp_path: Path, asked: bool):
    """The gateway counts tokens as the engine reports them; only a client that asks sees them."""
    body = said(5, stream=True) | ({"stream_options": {"include_usage": True}} if asked else {})
    async with running(tmp_path) as fleet, ClientSession() as session:
        async with session.post(f"{fleet.url}/v1/chat/completions", json=body) as reply:
            text = await reply.text()
        counted = await fleet.metrics()

    assert text.endswith("data: [DONE]\n\n")
    assert ('"usage":{' in text.replace(" ", "")) is asked
    assert sum(v for n, v in counted.items() if 'direction="output"' in n) == 5


@pytest.mark.parametrize("status", [200, 500])
async def test_comments_keep_a_waiting_client(tmp_path: Path, status: int):
    """Until a stream begins its client hears comments; then the answer, or what went wrong."""
    heard = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await heard.wait()
        if status != 200:
            return web.Response(status=status)
        return web.Response(text=STREAM, content_type="text/event-stream")

    async with (
        serving(slow) as url,
        running(tmp_path, urls={"h100": [url]}, sse_keepalive_s=0.05, retries=0) as fleet,
        ClientSession() as session,
        session.post(f"{fleet.url}/v1/chat/completions", json=said(3, stream=True)) as reply,
    ):
        first = await reply.content.readline()
        heard.set()
        rest = await reply.text()

    assert (reply.status, first) == (200, b": keep-alive\n")
    assert ("[DONE]" in rest) is (status == 200)
    assert ('"error"' in rest) is (status != 200)


async def test_a_request_chooses_its_slo_class(tmp_path: Path):
    """By our header, or by llm-d's where it names a class; a class that is not there is a 400."""
    batch = {"batch": {"ttft_s": 30.0, "tpot_s": 0.5}}
    async with running(tmp_path, classes=batch) as fleet, ClientSession() as session:

        async def sent(**headers: str) -> tuple[int, int, dict[str, Any]]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            url = f"{fleet.url}/v1/chat/completions"
            async with session.post(url, json=said(2), headers=named) as reply:
                bucket = int(reply.headers.get("x-cuvee-bucket", -1))
                return reply.status, bucket, await reply.json()

        _, plain, _ = await sent()
        _, ours, _ = await sent(x_cuvee_slo_class="batch")
        _, theirs, _ = await sent(x_llm_d_inference_objective="batch")
        _, foreign, _ = await sent(x_llm_d_inference_objective="sheddable")
        status, _, body = await sent(x_cuvee_slo_class="gold")

    cells = fleet.app.plan.buckets.grid.cells
    assert [bucket // cells for bucket in (plain, ours, theirs, foreign)] == [0, 1, 1, 0]
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == "x-cuvee-slo-class"
    assert "`default`, `batch`" in body["error"]["message"]


async def test_the_body_is_forwarded_as_received(tmp_path: Path):
    """Byte for byte, odd spacing and unknown fields included; what is the gateway's stays there."""
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def record(request: web.Request) -> web.Response:
        seen.append((await request.read(), {k.lower(): v for k, v in request.headers.items()}))
        return web.json_response(
            ANSWER, headers={"x-own": "1", "X-Cuvee-Pool": "spoof", "Connection": "x-hop"}
        )

    body = b'{"model" : "llama-3-8b",\n "odd":{"a":[1,2]}, "messages":[], "x":"\\u00e9" }'
    headers = {
        "Content-Type": "application/json",
        "Authorization": "Bearer sk-1",
        "Connection": "keep-alive, X-Secret",
        "X-Secret": "1",
        "TE": "trailers",
        "traceparent": "00-1-2-03",
        "Cookie": "session=1",
        "X-Cuvee-SLO-Class": "default",
        "X-Data-Parallel-Rank": "7",
    }
    async with (
        serving(record) as url,
        running(tmp_path, urls={"h100": [url]}) as fleet,
        ClientSession() as session,
    ):
        reply = await session.post(f"{fleet.url}/v1/chat/completions", data=body, headers=headers)

    sent, forwarded = seen[0]
    assert sent == body
    assert forwarded["traceparent"] == "00-1-2-03"
    assert forwarded["x-request-id"] == reply.headers["x-request-id"]
    assert not {"authorization", "x-secret", "te", "cookie", "x-data-parallel-rank"} & set(
        forwarded
    )
    assert not any(name.startswith("x-cuvee-") for name in forwarded)
    assert reply.headers.getall("x-cuvee-pool") == ["h100"]
    assert reply.headers["x-own"] == "1"


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A backend of the test's own: healthy, and `handler` for chat."""

    async def healthy(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/health", healthy)
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_its_request(tmp_path: Path, stream: bool):
    """The engine stops working for it, its lease is released, and it is observed once."""
    async with running(tmp_path) as fleet:
        engine = fleet.emulators["h100"][0].engine
        session = ClientSession()
        url = f"{fleet.url}/v1/chat/completions"
        asking = asyncio.create_task(session.post(url, json=said(4000, stream=stream)))
        await until(lambda: engine.running == 1)
        if stream:
            (await asking).close()
        else:
            asking.cancel()
        await session.close()
        await until(lambda: engine.running == 0)
        backend = fleet.worker.router.fleet.backends[0]
        await until(lambda: backend.in_flight == 0)
        outcomes = await fleet.outcomes()

    assert (backend.load, backend.pending_s) == (0.0, 0.0)
    assert outcomes == {"abandoned": 1}


async def test_a_broken_stream_ends_in_an_error_event(tmp_path: Path):
    """A backend that dies mid-stream makes the SDK raise; it is never a clean end."""
    faults = {"h100": [Faults(die_after=3)]}
    async with running(tmp_path, faults) as fleet, fleet.client() as client:
        stream = await client.chat.completions.create(
            **CHAT, stream=True, extra_body={"vllm_xargs": {"output_tokens": 9}}
        )
        words: list[str | None] = []
        with pytest.raises(openai.APIError) as broken:
            await collect(stream, words)
        outcomes = await fleet.outcomes()

    assert len(words) == 4  # the role chunk and three tokens
    assert broken.value.type == "upstream_error"
    assert outcomes == {"failed": 1}


@pytest.mark.long
async def test_a_backend_that_breaks_its_answers_off_is_found_out(tmp_path: Path):
    """It is idle, so it looks like the best choice; three broken answers are enough to see that it
    is not, however few requests there are at a time."""
    pools = {"h100": [Faults(die_after=1), NONE, NONE]}
    async with running(tmp_path, pools) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        whole = 0
        for _ in range(40):
            async with session.post(url, json=said(3, stream=True)) as reply:
                whole += (await reply.read()).endswith(b"data: [DONE]\n\n")
        body = await (await session.get(f"{fleet.url}/readyz")).json()

    assert whole >= 40 - TOLERATED
    assert body["status"] == "ready"


async def test_a_clients_bad_requests_are_no_outage_of_the_others(tmp_path: Path):
    """Every backend fails that gets one of them, and stays in service for the next request."""
    faults = {"h100": [Faults(status=500)] * 4}
    async with running(tmp_path, faults) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        statuses = []
        for _ in range(60):
            async with session.post(url, json=said(1)) as reply:
                statuses.append(reply.status)

        ready = await (await session.get(f"{fleet.url}/readyz")).json()

    assert set(statuses) == {500}  # never 503: there always is a backend
    assert ready["live"]["h100"] >= 3


@pytest.mark.parametrize(("backends", "made"), [(1, 0), (2, 1), (4, 1)])
async def test_retries_are_counted_as_they_are_made(tmp_path: Path, backends: int, made: int):
    """A failed attempt is none if no other follows it."""
    faults = {"h100": [Faults(status=500)] * backends}
    async with running(tmp_path, faults) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        async with session.post(url, json=said(1)) as reply:
            status = reply.status
        found = await fleet.metrics()

    counted = sum(n for name, n in found.items() if name.startswith("cuvee_retries_total{"))
    assert (status, counted) == (500, made)


async def collect(stream: Any, words: list[str | None]) -> None:
    """Reads a stream to its end, or to what breaks it."""
    async for chunk in stream:
        words.append(chunk.choices[0].delta.content)  # noqa: PERF401 (an error may come)


async def test_a_silent_stream_is_cut_after_the_idle_timeout(tmp_path: Path):
    """An engine that stopped can leave a stream open without a byte; the client must not hang."""
    faults = {"h100": [Faults(stall_after=2)]}
    async with running(tmp_path, faults, idle_timeout_s=0.2) as fleet, fleet.client() as client:
        stream = await client.chat.completions.create(
            **CHAT, stream=True, extra_body={"vllm_xargs": {"output_tokens": 9}}
        )
        with pytest.raises(openai.APIError, match=r"silent for 0\.2 s") as broken:
            await collect(stream, [])

    assert broken.value.code == "upstream_timeout"


async def test_an_error_event_of_the_engine_passes_through(tmp_path: Path):
    """An engine that crashes mid-stream says so inside the stream; so do we."""
    faults = {"h100": [Faults(error_after=2)]}
    async with running(tmp_path, faults) as fleet, fleet.client() as client:

        async def hear() -> None:
            stream = await client.chat.completions.create(
                **CHAT, stream=True, extra_body={"vllm_xargs": {"output_tokens": 9}}
            )
            await collect(stream, [])

        # On a busy machine all of it is there before any of it is passed on: then it is a 500.
        with pytest.raises(openai.APIError, match="EngineCore"):
            await hear()
        outcomes = await fleet.outcomes()

    assert outcomes == {"failed": 1}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "fault", [Faults(die_before_headers=True), Faults(status=500), Faults(status=503)], ids=str
)
async def test_a_failure_before_the_first_byte_is_retried_elsewhere(
    tmp_path: Path, fault: Faults, stream: bool
):
    """With one bad and one good backend no request fails."""
    pools = {"h100": [fault, NONE]}
    async with running(tmp_path, pools) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        for _ in range(4):
            async with session.post(url, json=said(2, stream=stream)) as reply:
                assert reply.status == 200
                assert b"error" not in await reply.read()
                assert reply.headers["x-cuvee-backend"] == "h100-1"
        outcomes = await fleet.outcomes()

    assert outcomes == {"ok": 4}


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_is_full_costs_no_request(tmp_path: Path, stream: bool):
    """vLLM's admission limit, an event in a 200 stream or a 503, sends the request elsewhere, or
    into our queue; with everything full for too long the client hears it in the engine's words."""
    async with running(tmp_path, {"h100": [NONE, NONE]}, queued=2) as fleet:
        async with ClientSession() as session:
            url = f"{fleet.url}/v1/chat/completions"
            body = said(10, stream=stream)
            replies = await asyncio.gather(*(session.post(url, json=body) for _ in range(24)))
            bodies = [await reply.read() for reply in replies]
        outcomes = await fleet.outcomes()
    async with running(tmp_path, queued=0, queue_timeout_s=0.1) as fleet, fleet.client() as client:
        with pytest.raises(openai.InternalServerError, match="currently busy") as refused:
            await client.chat.completions.create(**CHAT, stream=stream)
        shed = await fleet.outcomes()

    assert [reply.status for reply in replies] == [200] * 24
    assert not any(b'"error"' in body for body in bodies)
    assert outcomes == {"ok": 24}
    assert shed == {"shed": 1}
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_backend_that_went_silent_is_given_up_on(tmp_path: Path, stream: bool):
    """vLLM on SIGTERM leaves requests open without a byte: they move on when probes fail too."""
    asked = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(silent))
        good = Emulator(find_profile("llama-3-8b/H100", CONFIGS), MODEL)
        other = f"http://127.0.0.1:{await good.start()}"
        stack.push_async_callback(good.stop)
        fleet = await stack.enter_async_context(running(tmp_path, urls={"h100": [url, other]}))
        session = await stack.enter_async_context(ClientSession())
        body = said(3, stream=stream)
        asking = asyncio.create_task(session.post(f"{fleet.url}/v1/chat/completions", json=body))
        await asked.wait()
        fleet.worker.backend_lost(fleet.worker.router.fleet.backends[0])
        reply = await asking
        answer = await reply.read()

    assert reply.status == 200
    assert b"error" not in answer
    assert reply.headers["x-cuvee-backend"] == "h100-1"


def answering(status: int = 200, text: str = "", kind: str = "application/json") -> Any:
    """A backend of the test's own that always answers the same."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=status, text=text, content_type=kind, headers={"location": "http://10.9.9.9/"}
        )

    return answer


ABORTED = json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "abort"}]})
ROLE = 'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
DONE = "data: [DONE]\n\n"
SSE = "text/event-stream"
NO_ANSWERS = {
    "html": (answering(text="<html>portal</html>", kind="text/html"), None),
    "nothing": (answering(), None),
    "no content": (answering(204), None),
    "an error": (answering(text='{"error":{"message":"x"}}'), None),
    "another shape": (answering(text='{"status":"ok"}'), None),
    "a redirect": (answering(307), None),
    "another key": (answering(401), None),
    "forbidden": (answering(403), None),
    "another model": (answering(404), None),
    "another method": (answering(405), None),
    "too slow": (answering(408), None),
    "no money": (answering(402), None),
    "another service": (answering(418), None),
    "another host": (answering(421, '{"detail":"Misdirected Request"}'), None),
    "a page for everything": (answering(400, "<h1>400</h1>", "text/html"), None),
    "given up": (answering(text=ABORTED), False),
    "a stream": (answering(text=STREAM, kind=SSE), False),
    "no stream": (answering(text=json.dumps(ANSWER)), True),
    "a stream without output": (answering(text=ROLE + DONE, kind=SSE), True),
    "a stream without end": (answering(text=ROLE, kind=SSE), True),
    "a stream given up": (
        answering(text=ROLE + STREAM.replace("stop", "abort"), kind=SSE), True
    ),
    "an error later": (
        answering(text=ROLE + 'data: {"error":{"message":"x","code":500}}\n\n', kind=SSE), True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_what_is_no_answer_is_asked_of_another_backend(tmp_path: Path, name: str):
    """Whatever a backend with good probes says instead of an answer: no client hears it, and after
    three times the backend gets no requests for a while."""
    handler, only = NO_ANSWERS[name]
    good = Emulator(find_profile("llama-3-8b/H100", CONFIGS), MODEL)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(handler))
        urls = {"h100": [url, f"http://127.0.0.1:{await good.start()}"]}
        stack.push_async_callback(good.stop)
        fleet = await stack.enter_async_context(running(tmp_path, urls=urls))
        session = await stack.enter_async_context(ClientSession())
        for stream in (False, True) * 6:
            if only in (None, stream):
                chat = f"{fleet.url}/v1/chat/completions"
                async with session.post(chat, json=said(2, stream=stream)) as reply:
                    answer = await reply.text()
                assert (reply.status, reply.headers["x-cuvee-backend"]) == (200, "h100-1")
                assert '"error"' not in answer
        outcomes = await fleet.outcomes()
        failed = [n for n in await fleet.metrics() if "failures_total" in n and "h100-0" in n]

    assert set(outcomes) == {"ok"}
    assert failed


async def test_no_client_hears_of_an_internal_address(tmp_path: Path):
    """A redirect that all backends give is an error of theirs."""
    async with (
        serving(answering(307)) as url,
        running(tmp_path, urls={"h100": [url]}) as fleet,
        ClientSession() as session,
    ):
        chat = f"{fleet.url}/v1/chat/completions"
        reply = await session.post(chat, json=said(2), allow_redirects=False)
        text = await reply.text()

    assert (reply.status, "location" in reply.headers) == (502, False)
    assert "10.9.9.9" not in text


@pytest.mark.parametrize("status", [401, 404])
async def test_what_all_backends_refuse_is_the_clients_mistake(tmp_path: Path, status: int):
    """It gets the answer, and no backend is blamed, however often it tries."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(answering(status))) for _ in range(2)]
        fleet = await stack.enter_async_context(running(tmp_path, urls={"h100": urls}))
        session = await stack.enter_async_context(ClientSession())
        chat = f"{fleet.url}/v1/chat/completions"
        statuses = [(await session.post(chat, json=said(2))).status for _ in range(9)]
        tripped = [b.breaker.failures for b in fleet.worker.router.fleet.backends]
        outcomes = await fleet.outcomes()

    assert statuses == [status] * 9
    assert tripped == [0, 0]
    assert outcomes == {"rejected": 9}


@pytest.mark.parametrize("backends", [1, 2, 4])
async def test_a_poisonous_request_is_sent_twice_at_most(tmp_path: Path, backends: int):
    """Also where connections that were kept open break under it."""
    sends = 0

    async def poisoned(request: web.Request) -> web.Response:
        nonlocal sends
        if b"POISON" not in await request.read():
            return web.json_response(ANSWER)
        sends += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(poisoned)) for _ in range(backends)]
        fleet = await stack.enter_async_context(running(tmp_path, urls={"h100": urls}))
        session = await stack.enter_async_context(ClientSession())
        chat = f"{fleet.url}/v1/chat/completions"
        kept = await asyncio.gather(*(session.post(chat, json=said(2)) for _ in range(8)))
        poison = await session.post(chat, json=said(2, user="POISON"))
        after = await session.post(chat, json=said(2))

    assert {reply.status for reply in kept} == {200}
    assert (poison.status, sends) == (502, 2)
    assert after.status == 200


@pytest.mark.long
@pytest.mark.parametrize("way", ["abort", "reset"])
async def test_an_engine_that_stops_loses_no_unary_request_and_no_stream_quietly(
    tmp_path: Path, way: Any
):
    """At SIGTERM vLLM may answer 200 with what it has. Unary requests are whole in the end, and
    streams with text end in an error event; nothing is learned from what was cut."""
    pools = {"h100": [Faults(on_term=way), NONE]}
    async with running(tmp_path, pools) as fleet, ClientSession() as session:
        chat, (first, second) = f"{fleet.url}/v1/chat/completions", fleet.emulators["h100"]
        streams = await asyncio.gather(
            *(session.post(chat, json=said(300, stream=True)) for _ in range(4))
        )
        unary = [asyncio.create_task(session.post(chat, json=said(300))) for _ in range(4)]
        await until(lambda: first.engine.running + second.engine.running == 8)
        await first.terminate()
        first.crash()
        texts = [await reply.text() for reply in streams]
        bodies = [await (await reply).json() for reply in unary]
        found = await fleet.metrics()

    assert [body["usage"]["completion_tokens"] for body in bodies] == [300] * 4
    for reply, text in zip(streams, texts, strict=True):
        stopped = reply.headers["x-cuvee-backend"] == "h100-0"
        assert ('"error"' in text) is stopped
        assert text.endswith(DONE) is not stopped
    assert any('"error"' in text for text in texts)
    kinds = [n for n in found if "failures_total" in n and 'backend="h100-0"' in n]
    assert kinds


async def test_an_engine_that_asks_for_a_pause_gets_it(tmp_path: Path):
    """Its words and its Retry-After reach the client at once, if nobody else can serve in time; and
    nothing is sent to it until then."""
    asked = 0

    async def full(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        error = {"message": "too busy for you", "type": "x", "code": 503}
        return web.json_response({"error": error}, status=503, headers={"Retry-After": "40"})

    async with (
        serving(full) as url,
        running(tmp_path, urls={"h100": [url]}) as fleet,
        ClientSession() as session,
    ):
        chat = f"{fleet.url}/v1/chat/completions"
        first = await session.post(chat, json=said(2))
        second = await session.post(chat, json=said(2))
        words = [(await reply.json())["error"]["message"] for reply in (first, second)]
        outcomes = await fleet.outcomes()

    assert (first.status, first.headers["retry-after"], words[0]) == (503, "40", "too busy for you")
    assert (second.status, second.headers["retry-after"]) == (429, "40")
    assert asked == 1
    assert outcomes == {"shed": 2}


async def test_a_pause_of_one_backend_is_served_by_another(tmp_path: Path):
    """It is no failure, and no request waits for it."""

    async def full(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "40"})

    good = Emulator(find_profile("llama-3-8b/H100", CONFIGS), MODEL)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(full))
        urls = {"h100": [url, f"http://127.0.0.1:{await good.start()}"]}
        stack.push_async_callback(good.stop)
        fleet = await stack.enter_async_context(running(tmp_path, urls=urls))
        session = await stack.enter_async_context(ClientSession())
        chat = f"{fleet.url}/v1/chat/completions"
        replies = [await session.post(chat, json=said(2)) for _ in range(6)]
        found = await fleet.metrics()

    assert [reply.status for reply in replies] == [200] * 6
    assert found['cuvee_backend_failures_total{backend="h100-0",kind="full",pool="h100"}'] == 1


async def test_expect_100_continue_is_answered(tmp_path: Path):
    """A client that waits for the word before it sends its body gets it."""
    async with running(tmp_path) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.app.port)
        body = b'{"messages":[{"role":"user","content":"a"}],"max_tokens":1}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        second = await reader.readuntil(b"\r\n")
        writer.close()

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second == b"HTTP/1.1 200 OK\r\n"


async def test_a_crash_loses_only_what_was_streaming(tmp_path: Path):
    """After a backend dies every new request goes to the other one, at once."""
    pools = {"h100": [NONE, NONE]}
    async with running(tmp_path, pools) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        fleet.emulators["h100"][0].crash()
        replies = await asyncio.gather(
            *(session.post(url, json=said(3, stream=True)) for _ in range(20))
        )
        bodies = [await reply.read() for reply in replies]

    assert [reply.status for reply in replies] == [200] * 20
    assert all(body.endswith(b"data: [DONE]\n\n") for body in bodies)


async def test_swapping_tables_under_load_loses_nothing(tmp_path: Path):
    """Plans change under 200 running streams; every stream ends whole and every lease returns."""
    pools = {"h100": [NONE, NONE], "a100-80g": [NONE]}
    async with running(tmp_path, pools) as fleet:
        router, plan = fleet.worker.router, fleet.app.plan
        other = replace(
            plan,
            plan_id="other",
            weights=tuple(tuple(reversed(row)) for row in plan.weights),
        )
        tables = [compile_table(p, fleet.app.pools) for p in (plan, other)]
        async with ClientSession(timeout=ClientTimeout(total=60)) as session:

            async def ask(number: int) -> tuple[str, bytes]:
                await asyncio.sleep(number * 0.002)
                router.table = tables[number % 2]
                reply = await session.post(
                    f"{fleet.url}/v1/chat/completions", json=said(10, stream=True)
                )
                return reply.headers["x-cuvee-plan"], await reply.read()

            done = await asyncio.gather(*map(ask, range(200)))
        loads = [(b.in_flight, b.load, b.pending_s) for b in router.fleet.backends]
        outcomes = await fleet.outcomes()

    assert {plan for plan, _ in done} == {plan.plan_id, "other"}
    assert all(body.endswith(b"data: [DONE]\n\n") for _, body in done)
    assert loads == [(0, 0.0, 0.0)] * 3
    assert outcomes == {"ok": 200}


async def test_prompt_tokens_are_learned_from_replies(tmp_path: Path):
    """The bucket of a prompt becomes that of its true tokens, which only the backend knows."""
    words = CHAT | {"messages": [{"role": "user", "content": "friendship " * 200}]}
    async with running(tmp_path) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        grid = fleet.app.plan.buckets.grid
        rows = []
        for _ in range(60):
            body = words | {"vllm_xargs": {"output_tokens": 1}}
            async with session.post(url, json=body) as reply:
                rows.append(grid.bounds(int(reply.headers["x-cuvee-bucket"]))[0])
                used = (await reply.json())["usage"]["prompt_tokens"]

    assert rows[0][0] > used  # four bytes a token is far off for such words
    assert rows[-1][0] <= used < rows[-1][1]


@pytest.mark.parametrize(
    ("fields", "width", "answers"), [({"n": 4}, 4, 4), ({"n": 2, "best_of": 5}, 5, 2)]
)
async def test_a_request_of_several_sequences_is_held_and_learned_as_such(
    tmp_path: Path, fields: dict[str, Any], width: int, answers: int
):
    """While it is served it is so many in flight; then it teaches the length of one answer, and is
    as many requests of the demand."""
    held: list[int] = []

    async def choices(_: web.Request) -> web.Response:
        held.extend(backend.in_flight for backend in fleet.worker.router.fleet.backends)
        usage = {"prompt_tokens": 12, "completion_tokens": 20 * answers}
        return web.json_response(ANSWER | {"usage": usage})

    async with serving(choices) as url, running(tmp_path, urls={"H100": [url]}) as fleet:
        async with (
            ClientSession() as session,
            session.post(f"{fleet.url}/v1/chat/completions", json=CHAT | fields) as reply,
        ):
            assert reply.status == 200
            bucket = int(reply.headers["x-cuvee-bucket"])
        delta = fleet.worker.drain()
        lesson = fleet.worker.recent[-1]
        after = [backend.in_flight for backend in fleet.worker.router.fleet.backends]

    assert (held, after) == ([width], [0])
    assert lesson.output_tokens == 20
    assert sum(count for count, *_ in delta.sizes.values()) == width
    assert delta.arrivals.get(bucket, 0) >= width - 1  # the first was counted when it came


async def test_a_refusal_for_length_is_learned_from(tmp_path: Path):
    """The engine's words reach the client unchanged, and the estimator."""
    message = "The input (5000 tokens) is longer than the model's context length (4096 tokens)."
    error = {"message": message, "type": "BadRequestError", "code": 400}

    async def too_long(_: web.Request) -> web.Response:
        return web.json_response({"error": error}, status=400)

    async with serving(too_long) as url, running(tmp_path, urls={"H100": [url]}) as fleet:
        async with (
            ClientSession() as session,
            session.post(f"{fleet.url}/v1/chat/completions", json=CHAT) as reply,
        ):
            told = await reply.json()
        fleet.worker.drain()
        lesson = fleet.worker.recent[-1]

    assert told == {"error": error}
    assert (lesson.input_tokens, lesson.least_input) == (None, 5000)


async def test_what_is_no_request_is_refused_in_openais_shape(tmp_path: Path):
    """Unknown paths, wrong methods, bodies too large or broken: an error object each."""
    async with running(tmp_path, max_body_bytes=1000) as fleet, ClientSession() as session:
        chat = f"{fleet.url}/v1/chat/completions"
        replies = [
            await session.get(f"{fleet.url}/nowhere"),
            await session.get(chat),
            await session.post(chat, data=b"{" + b" " * 2000),
            await session.post(chat, data=b"{not json"),
            await session.post(chat, json=CHAT | {"max_tokens": "many"}),
        ]
        ids = [reply.headers["x-request-id"] for reply in replies]
        errors = [(await reply.json())["error"] for reply in replies]

    assert [reply.status for reply in replies] == [404, 405, 413, 400, 400]
    assert all(error["message"] and error["type"] for error in errors)
    assert errors[4]["param"] == "max_tokens"
    assert replies[1].headers["allow"] == "POST"
    assert len(set(ids)) == 5


async def test_a_draining_gateway_finishes_its_streams(tmp_path: Path):
    """Leaving the app: running streams end whole, the listener is gone."""
    async with running(tmp_path, drain_s=5.0) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        reply = await session.post(url, json=said(30, stream=True))
        leaving = asyncio.create_task(fleet.app.__aexit__())
        body = await reply.read()
        await leaving
        with pytest.raises(OSError, match=r"refused|reset|Connect|write"):
            await session.post(url, json=said(1))

    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_leaving_gateway_keeps_no_connection(tmp_path: Path):
    """Until it stops to accept, each answer closes its connection, so that clients go elsewhere."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        kept = await session.post(url, json=said(2))
        fleet.worker.leave()
        closed = [await session.post(url, json=said(2, stream=stream)) for stream in (False, True)]
        bodies = [await reply.read() for reply in closed]

    assert kept.headers.get("connection") is None
    assert [reply.status for reply in closed] == [200, 200]
    assert [reply.headers["connection"] for reply in closed] == ["close", "close"]
    assert bodies[1].endswith(b"data: [DONE]\n\n")


async def test_what_the_drain_cuts_off_is_told(tmp_path: Path):
    """A stream that is too long ends in an error event, another answer in a 503; no reset."""
    async with running(tmp_path, drain_s=0.1) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        stream = await session.post(url, json=said(100_000, stream=True))
        whole = asyncio.create_task(session.post(url, json=said(100_000)))
        await until(lambda: fleet.emulators["h100"][0].engine.running == 2)
        await fleet.app.__aexit__()
        body, refused = await stream.read(), await whole
        error = (await refused.json())["error"]
        await until(lambda: fleet.emulators["h100"][0].engine.running == 0)

    last = json.loads(body.rstrip().rpartition(b"data: ")[2])["error"]
    assert (last["type"], last["code"]) == ("service_unavailable", "draining")
    assert (refused.status, error) == (503, last)
    assert refused.headers["connection"] == "close"
    assert refused.headers["retry-after"] == "1"


async def test_the_plan_explains_itself_over_http(tmp_path: Path):
    """`/cuvee/plan` holds the plan and why it is in force. Before anything was observed it is made
    for a guess, and what single GPU types would cost for that is not told."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        reply = await session.get(f"{fleet.app.admin}/cuvee/plan")
        body = await reply.json()

    assert body["plan_id"] == fleet.app.plan.plan_id
    assert body["reason"]
    assert body["paces"] == []  # not a minute has passed
    assert body["single_types"] == {}


async def test_the_history_begins_with_the_plan(tmp_path: Path):
    """`/cuvee/history` has what was decided since the start."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        body = await (await session.get(f"{fleet.app.admin}/cuvee/history")).json()

    (start,) = [entry for entry in body["entries"] if entry["kind"] == "start"]
    assert start["plan"]["plan_id"] == fleet.app.plan.plan_id


async def test_prefix_hits_are_observed_by_caller_and_pool(tmp_path: Path):
    """A replay of which 60 % of the prompt tokens are the same hits an engine's prefix cache; the
    gateway tells as much, in `/cuvee/hits` and as counters, and the client sees the engine's own
    usage."""
    count = 40
    trace = Trace(
        arrival_s=np.linspace(0.0, 0.39, count),
        input_tokens=np.full(count, 2000.0),
        output_tokens=np.full(count, 3.0),
        key=("sk-test",) * count,
        cached_tokens=np.full(count, 1200.0),
    )
    engine = Emulator(find_profile("llama-3-8b/H100", CONFIGS), MODEL, prefix_cache=True)
    url = f"http://127.0.0.1:{await engine.start()}"
    try:
        async with running(tmp_path, urls={"h100": [url]}) as fleet, ClientSession() as session:
            records = await replay(fleet.url, trace, ReplayOptions(model=MODEL))
            body = await (await session.get(f"{fleet.app.admin}/cuvee/hits")).json()
            counted = await fleet.metrics()
    finally:
        await engine.stop()

    hits = sum(record.cached_tokens for record in records)
    prompts = sum(record.input_tokens for record in records)
    labels = f'model="{MODEL}",pool="h100"'
    assert [record.error for record in records] == [None] * count
    assert hits / prompts == pytest.approx(0.6, abs=0.03)
    assert counted[f"cuvee_cached_tokens_total{{{labels}}}"] == hits
    assert counted[f'cuvee_tokens_total{{direction="input",{labels}}}'] == prompts
    (row,) = body["hits"]
    assert (row["pool"], row["cached_tokens"]) == ("h100", hits)
    assert row["share"] == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize(("where", "status"), [("admin", 404), ("both", 200)])
async def test_operators_paths_are_on_the_data_port_where_asked_for(
    tmp_path: Path, where: str, status: int
):
    """By default clients read no metrics and no plan; the admin port answers always."""
    async with running(tmp_path, operator_paths=where) as fleet, ClientSession() as session:
        found = {
            (path, url == fleet.url): (await session.get(url + path)).status
            for path in ("/metrics", "/cuvee/plan")
            for url in (fleet.url, fleet.app.admin)
        }

    assert found == {
        ("/metrics", True): status, ("/cuvee/plan", True): status,
        ("/metrics", False): 200, ("/cuvee/plan", False): 200,
    }  # fmt: skip


async def test_a_receipt_can_be_the_requests_id_alone(tmp_path: Path):
    """For clients who are not to see pools and backends; of answers and of errors."""
    async with running(tmp_path, receipt="request-id") as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        bodies = [said(2), said(2, stream=True), said(2, model="nothing")]
        bodies.append(said(2, messages=CHAT["messages"] * 9000))  # while the stream goes on
        replies = [await session.post(url, json=body) for body in bodies]

    assert [reply.status for reply in replies] == [200, 200, 404, 400]
    assert all("x-request-id" in reply.headers for reply in replies)
    assert not any(name.startswith("x-cuvee-") for r in replies for name in r.headers)


@pytest.mark.parametrize(("key", "taken"), [("port", "port"), ("admin_port", "admin")])
async def test_a_taken_port_is_named_by_its_key(tmp_path: Path, key: str, taken: str):
    """Whoever starts a second gateway knows what to change."""
    async with running(tmp_path) as fleet:
        port = fleet.app.port if taken == "port" else int(fleet.app.admin.rpartition(":")[2])
        raw = configured({"h100": ["http://127.0.0.1:1"]}, {"host": "127.0.0.1", "port": 0})
        raw["gateway"][key] = port
        path = tmp_path / "second.yaml"
        path.write_text(yaml.safe_dump(raw))

        # Of another gateway it is known how to replace it.
        found = f"another gateway .* on port {port}" if key == "port" else f"127.0.0.1:{port}: "
        with pytest.raises(OSError, match=f"gateway.{key}: .*{found}"):
            await App(load(path)).__aenter__()


async def test_backends_come_and_go_while_requests_run(tmp_path: Path):
    """A new backend serves once it was probed; one that is taken away finishes what it has."""
    async with (
        emulated(3) as (emulators, urls),
        running(tmp_path, urls={"h100": urls[:2]}, warmup_s=0) as fleet,
        ClientSession() as session,
    ):
        url = f"{fleet.url}/v1/chat/completions"
        async with session.post(url, json=said(80, stream=True)) as long:
            leaving = int(long.headers["x-cuvee-backend"].removeprefix("h100-"))
            await fleet.app.apply({"h100": [urls[1 - leaving], urls[2]]})
            replies = await asyncio.gather(*(session.post(url, json=said(2)) for _ in range(12)))
            answer = await long.read()
        await fleet.app.apply({"h100": [urls[leaving]]})
        again = await session.post(url, json=said(2))
        outcomes = await fleet.outcomes()
        running_backends = fleet.app.running

    served = {reply.headers["x-cuvee-backend"] for reply in replies}
    assert served == {f"h100-{1 - leaving}", "h100-2"}
    assert answer.endswith(b"data: [DONE]\n\n")
    assert again.headers["x-cuvee-backend"] == "h100-3"  # a name is never given to another backend
    assert emulators[leaving].engine.running == 0
    assert running_backends == (1,)
    assert outcomes == {"ok": 14}


async def test_a_whole_fleet_is_replaced_without_a_failed_request(tmp_path: Path):
    """The new backends are probed before the old ones leave."""
    async with (
        emulated(2) as (_, urls),
        running(tmp_path, urls={"h100": urls[:1]}) as fleet,
        ClientSession() as session,
    ):
        url = f"{fleet.url}/v1/chat/completions"
        changing = True

        async def client() -> list[int]:
            statuses = []
            while changing:
                async with session.post(url, json=said(2)) as reply:
                    await reply.read()
                    statuses.append(reply.status)
            return statuses

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for turn in range(6):
            await fleet.app.apply({"h100": [urls[1 - turn % 2]]})
        changing = False
        statuses = {status for found in await asyncio.gather(*clients) for status in found}

    assert statuses == {200}


async def test_a_new_backend_that_is_down_gets_nothing(tmp_path: Path):
    """Only a good probe brings a backend into service; a wrong list changes nothing."""
    async with running(tmp_path) as fleet, ClientSession() as session:
        url = f"{fleet.url}/v1/chat/completions"
        own = [backend.url for backend in fleet.app.fleet.backends]
        with pytest.raises(ConfigError, match="no such pool"):
            await fleet.app.apply({"h100": own, "l4": ["http://127.0.0.1:1"]})
        await fleet.app.apply({"h100": [*own, "http://127.0.0.1:1"]})
        replies = [await session.post(url, json=said(2)) for _ in range(8)]
        outcomes = await fleet.outcomes()

    assert {reply.headers["x-cuvee-backend"] for reply in replies} == {"h100-0"}
    assert outcomes == {"ok": 8}


async def test_everything_that_goes_wrong_is_counted(tmp_path: Path):
    """What the gateway refuses before it knows a model, what a backend fails and why it rests, and
    what a client sees in the end."""
    async with (
        running(
            tmp_path,
            {"h100": [Faults(status=500), NONE]},
            max_body_bytes=10_000,
            health_interval_s=60.0,
        ) as fleet,
        ClientSession() as session,
    ):
        chat = f"{fleet.url}/v1/chat/completions"
        for data in (b"{", json.dumps(CHAT | {"model": "other"}).encode(), b" " * 10_001):
            await session.post(chat, data=data)
        await session.get(f"{fleet.url}/nothing")
        await session.get(chat)
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.app.port)
        writer.write(b"what?\r\n\r\n")
        await reader.read()
        writer.close()
        replies = await asyncio.gather(*(session.post(chat, json=said(2)) for _ in range(12)))
        found = await fleet.metrics()
    refusals = {n: v for n, v in found.items() if n.startswith("cuvee_refusals_total")}
    backend = 'backend="h100-0",kind="error",pool="h100"'

    assert {reply.status for reply in replies} == {200}
    assert refusals == {
        'cuvee_refusals_total{code="400",reason="invalid_request_error"}': 2,
        'cuvee_refusals_total{code="404",reason="model_not_found"}': 1,
        'cuvee_refusals_total{code="404",reason="not_found"}': 1,
        'cuvee_refusals_total{code="405",reason="method_not_allowed"}': 1,
        'cuvee_refusals_total{code="413",reason="request_too_large"}': 1,
    }
    assert found[f"cuvee_backend_failures_total{{{backend}}}"] >= TOLERATED
    assert found[f"cuvee_backend_ejections_total{{{backend}}}"] == 1
    assert found['cuvee_backend_resting{backend="h100-0",pool="h100"}'] == 1
    assert found[f'cuvee_responses_total{{class="default",code="200",model="{MODEL}"}}'] == 12
    assert found['cuvee_backend_connections{worker="0"}'] >= 1
    assert found['process_open_fds{process="gateway"}'] > 3
    assert found['process_resident_memory_bytes{process="solver"}'] > 1e6


async def test_a_backend_that_rested_is_told_to_be_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Whatever closes its breaker: an answer or a probe."""
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    async with running(tmp_path, {"h100": [NONE, NONE]}, health_interval_s=60.0) as fleet:
        breaker = fleet.app.fleet.backends[1].breaker
        breaker.failed(asyncio.get_running_loop().time(), unreachable=True, may_open=True)
        await until(lambda: bool(fleet.worker._rested.names))
        breaker.succeeded(0.0)
        await until(lambda: "backend h100-1 gets requests again" in lines())


async def test_a_log_line_for_each_request_where_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """With `request_log: 1` every request has a line with what was decided, sizes, times and the
    end, without the caller's key and without the prompt; one that was refused too."""
    caplog.set_level(logging.INFO, "cuvee.requests")
    before = datetime.now(UTC)
    async with running(tmp_path, request_log=1) as fleet, fleet.client() as client:
        await client.chat.completions.create(
            **CHAT, extra_headers={"x-request-id": "mine"}, max_tokens=3
        )
        for model, words in ((MODEL, 9000), ("other", 1)):
            with pytest.raises(openai.APIStatusError):
                await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "word " * words}]
                )
        await fleet.outcomes()
    records = [record for record in caplog.records if record.name == "cuvee.requests"]
    lines: list[dict[str, Any]] = [dict(logs.fields(record)) for record in records]
    first, second, third = sorted(lines, key=lambda line: line["status"])

    assert (first["request_id"], first["outcome"], first["status"]) == ("mine", "ok", 200)
    assert (first["backend"], first["output_tokens"], first["attempts"]) == ("h100-0", 3, 1)
    assert (first["class"], first["slo_met"]) == ("default", "yes")
    assert before <= datetime.fromisoformat(first["arrived_at"]) <= datetime.now(UTC)
    assert (second["outcome"], second["status"]) == ("rejected", 400)
    assert third == {"outcome": "rejected", "status": 404, "reason": "model_not_found"}
    shown = "".join(f"{r.getMessage()} {logs.fields(r)}" for r in records)
    assert "sk-test" not in shown
    assert "three" not in shown


async def test_vllms_row_names_metrics_that_vllm_has():
    """What the table of engines expects of vLLM is there, under the same names, in the emulator's
    page, which is that of a recorded vLLM."""
    async with emulated(1) as (_, [url]), ClientSession() as session:
        async with session.get(f"{url}/metrics") as reply:
            page = await reply.text()
        async with session.get(url + VLLM.health) as reply:
            status = reply.status
    metrics = VLLM.metrics

    assert status == 200
    for name in (metrics.running, metrics.waiting, metrics.kv_used):
        assert f"\n{name}{{" in page

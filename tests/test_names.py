"""Names, keys and contexts over real sockets: what clients ask for, and what engines get."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from aiohttp import ClientSession, web

from gateway.app import App
from gateway.config.load import load

MODEL = "org/llama"
USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}


class Engine:
    """A scripted engine that keeps what it got.

    names: that `/v1/models` lists, with their contexts. context: beyond which it refuses. key: that
    it asks for, of probes too unless `asks_probes` is false.
    """

    def __init__(
        self,
        *names: str,
        context: int = 8192,
        key: str | None = None,
        asks_probes: bool = True,
    ) -> None:
        self.asks_probes = asks_probes
        self.names = names
        self.context = context
        self.key = key
        self.url = ""
        self.sick = False
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.probes: list[tuple[str, dict[str, str]]] = []

    async def probe(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.probes.append((request.path, headers))
        asks = self.key is not None and self.asks_probes
        if asks and headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "no"}}, status=401)
        if request.path == "/v1/models":
            entries = [{"id": name, "max_model_len": self.context} for name in self.names]
            return web.json_response({"object": "list", "data": entries})
        return web.Response(status=500 if self.sick else 200)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.bodies.append(body)
        if self.key is not None and self.headers[-1].get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "no"}}, status=401)
        if body["model"] not in self.names:
            text = f"The model `{body['model']}` does not exist."
            return web.json_response({"error": {"message": text}}, status=404)
        if "embeddings" in request.path:
            vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
            return web.json_response({"model": body["model"], "data": [vector], "usage": USAGE})
        prompt = len(json.dumps(body["messages"])) // 4
        if prompt + body.get("max_tokens", 1) > self.context:
            text = (
                f"This model's maximum context length is {self.context} tokens. However, you "
                f"requested {body.get('max_tokens', 1)} output tokens and your prompt contains "
                f"{prompt} input tokens."
            )
            return web.json_response({"error": {"message": text, "code": 400}}, status=400)
        return await self._answer(request, body)

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        text = f'a "model":"{body["model"]}" in the text'
        if not body.get("stream"):
            choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
            return web.json_response(about | {"choices": [choice], "usage": USAGE})
        reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await reply.prepare(request)
        for delta, reason in (({"content": text}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            event = json.dumps(about | {"choices": [choice]}, separators=(",", ":"))
            await reply.write(f"data: {event}\n\n".encode())
        await reply.write(b"data: [DONE]\n\n")
        return reply


@dataclass
class Served:
    """A gateway that runs, and a client of it."""

    app: App
    sdk: openai.AsyncOpenAI


@asynccontextmanager
async def gateway(
    tmp_path: Path,
    engines: dict[str, Engine],
    *,
    model: dict[str, Any] | None = None,
    pools: dict[str, dict[str, Any]] | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A gateway before one engine a pool; the pools' profiles are H100 and, of `small`, A10G. Of
    `h100/2`: another engine of the pool `h100`."""
    async with AsyncExitStack() as stack:
        sections: dict[str, Any] = {}
        for name, engine in engines.items():
            scripted = web.Application()
            scripted.router.add_get("/{path:.*}", engine.probe)
            scripted.router.add_post("/{path:.*}", engine.serve)
            runner = web.AppRunner(scripted)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            port = runner.addresses[0][1]
            engine.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            pool, _, second = name.partition("/")
            if second:
                sections[pool]["backends"].append(engine.url)
                continue
            sections[name] = {
                "model": MODEL,
                "profile": "llama-3-8b/A10G" if name == "small" else "llama-3-8b/H100",
                "usd_per_hour": 1.0 if name == "small" else 5.0,
                "backends": [engine.url],
            } | (pools or {}).get(name, {})
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 5.0, "tpot_s": 0.5}} | (model or {})},
            "pools": sections,
            "planner": {"certify_cpu_s": 0},
            "gateway": {"admin_port": 0, "drain_delay_s": 0, "health_interval_s": 0.05} | settings,
        }
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        url = f"http://127.0.0.1:{app.port}/v1"
        sdk = openai.AsyncOpenAI(base_url=url, api_key="sk-client", max_retries=0)
        yield Served(app, await stack.enter_async_context(sdk))


def hello(model: str = MODEL, words: int = 1, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi " * words}]} | fields


@pytest.mark.parametrize("workers", [1, 2])
async def test_clients_engines_and_paths_may_use_different_names(tmp_path, workers):
    """An alias reaches the engine under its own name, and comes back as the client wrote it, in
    whole answers and in streams; text that looks like a name stays."""
    engine = Engine("served/v2")
    async with gateway(
        tmp_path,
        {"h100": engine},
        model={"aliases": ["fast"]},
        pools={"h100": {"served_name": "served/v2"}},
        workers=workers,
    ) as served:
        chat = served.sdk.chat.completions
        for name in ("fast", MODEL):
            whole = await chat.create(**hello(name))
            events = [event async for event in await chat.create(**hello(name, stream=True))]

            assert whole.model == name
            assert {event.model for event in events} == {name}
            assert whole.choices[0].message.content == 'a "model":"served/v2" in the text'
            assert events[0].choices[0].delta.content == 'a "model":"served/v2" in the text'

    assert {body["model"] for body in engine.bodies} == {"served/v2"}


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_adapter_goes_to_the_backends_of_a_pool_that_have_it(tmp_path, workers):
    """One that lacks it is not even asked, as long as another is known to have it; once it was
    loaded there too, both get requests for it. The model's own are everywhere all the time."""
    bare, full = Engine(MODEL), Engine(MODEL, "sql")
    engines = {"h100": bare, "h100/2": full}
    async with gateway(
        tmp_path, engines, model={"adapters": ["sql"]}, workers=workers, retries=0
    ) as served:
        chat = served.sdk.chat.completions
        for stream in (False, True) * 3:
            await chat.create(**hello("sql", stream=stream))
        assert [body["model"] for body in full.bodies] == ["sql"] * 6
        assert bare.bodies == []

        bare.names = (MODEL, "sql")
        await until(lambda: not served.app.fleet.lacking)
        async with asyncio.timeout(10):
            while not bare.bodies:
                await asyncio.gather(*(chat.create(**hello("sql")) for _ in range(8)))


async def test_an_adapter_that_no_backend_has_is_refused_by_an_engine(tmp_path):
    """In its own words; where the one that had it is gone, there is none for a while."""
    bare, full = Engine(MODEL), Engine(MODEL)
    engines = {"h100": bare, "h100/2": full}
    async with gateway(tmp_path, engines, model={"adapters": ["sql"]}) as served:
        chat = served.sdk.chat.completions
        with pytest.raises(openai.NotFoundError, match="`sql` does not exist"):
            await chat.create(**hello("sql"))

        full.names = (MODEL, "sql")
        await until(lambda: bool(served.app.fleet.lacking))
        assert (await chat.create(**hello("sql"))).model == "sql"
        full.sick = True
        await until(lambda: not all(b.healthy for b in served.app.fleet.backends))
        with pytest.raises(openai.InternalServerError) as refused:
            await chat.create(**hello("sql"))
        assert refused.value.status_code == 503


async def until(true):
    """Waits for something that a round of probes brings about."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)


async def test_an_adapter_goes_where_it_is(tmp_path):
    """Its requests are the model's; a pool whose engines lack it gets none of them."""
    bare, full = Engine(MODEL), Engine(MODEL, "sql-v3")
    async with gateway(
        tmp_path,
        {"small": bare, "h100": full},
        model={"adapters": ["sql"]},
        pools={"small": {"adapters": {}}, "h100": {"adapters": {"sql": "sql-v3"}}},
    ) as served:
        for _ in range(6):
            answer = await served.sdk.chat.completions.create(**hello("sql"))
            assert answer.model == "sql"

    assert not bare.bodies
    assert [body["model"] for body in full.bodies] == ["sql-v3"] * 6


async def test_all_names_are_listed_and_found(tmp_path):
    """With the model as the parent of its adapters; a slash may be written as it is or encoded, and
    an unknown name is no unknown path."""
    odd = "模型 50%+v1..5/ü?#"
    model = {"aliases": ["fast", odd], "adapters": ["org/sql"]}
    async with gateway(tmp_path, {"h100": Engine(MODEL, "org/sql")}, model=model) as served:
        assert (await served.sdk.models.retrieve(odd)).id == odd
        assert (await served.sdk.chat.completions.create(**hello(odd))).model == odd
        listed = {entry.id: entry async for entry in served.sdk.models.list()}
        found = await served.sdk.models.retrieve("org/sql")
        with pytest.raises(openai.NotFoundError) as missing:
            await served.sdk.models.retrieve("org/other")
        async with (
            ClientSession() as session,
            session.get(f"http://127.0.0.1:{served.app.port}/v1/models/{MODEL}") as reply,
        ):
            assert (await reply.json())["id"] == MODEL

    assert list(listed) == [MODEL, "fast", odd, "org/sql"]
    assert [entry.model_dump()["parent"] for entry in listed.values()] == [None, None, None, MODEL]
    assert found.id == "org/sql"
    assert missing.value.code == "model_not_found"


async def test_an_engine_gets_its_own_key_and_no_clients(tmp_path):
    """From a file, with requests and probes; and the headers of its pool, which no client sets."""
    (tmp_path / "key").write_text("engine-key\n")
    engine = Engine(MODEL, key="engine-key")
    pool = {"api_key_file": "key", "headers": {"X-Tenant": "a"}, "health_path": "/well"}
    async with gateway(tmp_path, {"h100": engine}, pools={"h100": pool}) as served:
        headers = {"x-tenant": "b", "x-api-key": "sk-2"}
        await served.sdk.chat.completions.create(**hello(), extra_headers=headers)

    assert engine.headers[0]["authorization"] == "Bearer engine-key"
    assert engine.headers[0]["x-tenant"] == "a"
    assert "sk-" not in str(engine.headers)
    assert "/well" in {path for path, _ in engine.probes}
    assert all(sent["authorization"] == "Bearer engine-key" for _, sent in engine.probes)
    assert all(sent["x-tenant"] == "a" for _, sent in engine.probes)


async def test_a_pool_may_ask_for_the_keys_of_clients(tmp_path):
    """Its engines know them; other pools' do not get them."""
    engine = Engine(MODEL, key="sk-client", asks_probes=False)  # the gateway itself has no key
    pool = {"forward_authorization": True}
    async with gateway(tmp_path, {"h100": engine}, pools={"h100": pool}) as served:
        await served.sdk.chat.completions.create(**hello())

    assert engine.headers[0]["authorization"] == "Bearer sk-client"


@pytest.fixture
def certificate(tmp_path: Path) -> None:
    """A certificate for this machine, which is its own authority, and its key."""
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.usefixtures("certificate")
async def test_a_private_authority_and_a_client_certificate(tmp_path):
    """The gateway trusts the authority of the pool, and shows who it is."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "cert.pem"))
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    pool = {"ca_file": "cert.pem", "client_cert_file": "cert.pem", "client_key_file": "key.pem"}
    async with gateway(tmp_path, {"h100": Engine(MODEL)}, pools={"h100": pool}, tls=tls) as served:
        answer = await served.sdk.chat.completions.create(**hello())

    assert answer.model == MODEL


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_request_goes_where_prompt_and_cap_fit(tmp_path, workers):
    """By what the engines say of themselves: the small one would refuse the request before it
    begins. What fits goes to both; `/v1/models` says what the largest holds."""
    small, large = Engine(MODEL, context=1024), Engine(MODEL, context=4096)
    async with gateway(tmp_path, {"a": small, "b": large}, workers=workers) as served:
        [listed] = [entry async for entry in served.sdk.models.list()]
        for _ in range(4):
            await served.sdk.chat.completions.create(**hello(max_tokens=3000))
        assert not small.bodies
        for _ in range(4):
            await served.sdk.chat.completions.create(**hello(max_tokens=30))

    assert small.bodies
    assert listed.model_dump()["max_model_len"] == 4096


async def test_a_refusal_for_length_goes_on_to_a_larger_pool(tmp_path):
    """Where the estimate was wrong: marked as a spill, at no cost to the small backend; where no
    pool is larger, the client gets the engine's words."""
    small, large = Engine(MODEL, context=4096), Engine(MODEL)
    model = {"bytes_per_token": 100.0}  # believes that prompts are 25 times shorter
    async with gateway(tmp_path, {"a": small, "b": large}, model=model) as served:
        chat = served.sdk.chat.completions.with_raw_response
        answers = await asyncio.gather(*(chat.create(**hello(words=6000)) for _ in range(6)))
        refused = len(small.bodies)
        with pytest.raises(openai.BadRequestError, match="maximum context length is 8192"):
            await served.sdk.chat.completions.create(**hello(words=12000))
        backend = served.app.fleet.pool("a")[0]

        assert backend.breaker.penalty == 0.0
        assert backend.in_flight == 0

    assert refused
    assert {answer.headers["x-cuvee-pool"] for answer in answers} == {"b"}
    decisions = [answer.headers["x-cuvee-decision"] for answer in answers]
    assert sum(decision != "planned" for decision in decisions) >= refused


async def test_what_an_engine_cannot_do_goes_elsewhere(tmp_path):
    """Embeddings, tools and pictures go to pools whose engines have them; where no pool has, the
    client is told."""
    text, tools = Engine(MODEL), Engine(MODEL)
    pools = {
        "small": {"without": ["pictures", "tools", "embeddings"]},
        "h100": {"without": ["pictures"]},
    }
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    picture: Any = [{"role": "user", "content": [part]}]
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
    async with gateway(tmp_path, {"small": text, "h100": tools}, pools=pools) as served:
        for _ in range(3):
            await served.sdk.chat.completions.create(**hello(tools=[tool]))
            await served.sdk.embeddings.create(model=MODEL, input="hi")
        with pytest.raises(openai.BadRequestError, match="not served with pictures"):
            await served.sdk.chat.completions.create(model=MODEL, messages=picture)

    assert not text.bodies
    assert len(tools.bodies) == 6


async def test_what_a_request_only_mentions_it_does_not_need(tmp_path):
    """An empty list of tools, a null, and a key that has the name of a picture."""
    text, eyeless = Engine(MODEL), {"without": ["pictures", "tools"]}
    part = {"type": "text", "text": "a", "image": None}
    bodies: list[dict[str, Any]] = [
        {"tools": []}, {"tools": None, "functions": [ ]}, {"metadata": {"image": "a", "tools": {}}},
        {"messages": [{"role": "user", "content": [part]}]},
    ]  # fmt: skip
    async with gateway(tmp_path, {"h100": text}, pools={"h100": eyeless}) as served:
        for fields in bodies:
            await served.sdk.chat.completions.create(**hello(), extra_body=fields)
        tool: Any = {"type": "function", "function": {"name": "f"}}
        with pytest.raises(openai.BadRequestError, match="not served with tools"):
            await served.sdk.chat.completions.create(**hello(tools=[tool]))

    assert len(text.bodies) == len(bodies)

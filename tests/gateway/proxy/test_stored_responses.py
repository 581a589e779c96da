"""Stored responses are found at the engine that has them, over real sockets."""

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
HEALTH = "/health"


class Engine:
    """Stores what it answers, as vLLM does. asked: paths of all requests but probes. failing: with
    this status. hold: set when it may go on with a stream."""

    def __init__(self, name):
        self.name = name
        self.asked, self.stored, self.lines = [], {}, []
        self.failing = 0
        self.hold = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request):
        if request.path in (HEALTH, "/v1/models", "/metrics"):
            return web.Response(status=200 if request.path == HEALTH else 404)
        self.asked.append(f"{request.method} {request.path_qs}")
        if self.failing:
            return web.json_response({"error": {"message": "no"}}, status=self.failing)
        if request.path == "/v1/responses":
            body = await request.json()
            made = f"resp_{self.name}{len(self.stored)}"
            state = "queued" if body.get("background") else "completed"
            self.stored[made] = {
                "id": made, "object": "response", "model": body["model"], "status": state,
                "output": [], "tools": [], "created_at": 1, "parallel_tool_calls": False,
                "tool_choice": "auto",
            }  # fmt: skip
            return web.json_response(self.stored[made])
        found = self.stored.get(request.path.split("/")[3])
        if found is None:
            return web.json_response({"error": {"message": "none"}}, status=404)
        return await self.told(request, found)

    async def told(self, request, found):
        if request.path.endswith("/cancel"):
            if found["status"] != "queued":
                return web.json_response({"error": {"message": "too late"}}, status=400)
            found["status"] = "cancelled"
        elif request.path.endswith("/input_items"):
            return web.json_response({"object": "list", "data": [{"id": "i"}]})
        elif request.method == "DELETE":
            del self.stored[found["id"]]
            return web.json_response({"id": found["id"], "deleted": True})
        elif request.query.get("stream"):
            return await self.stream(request, found)
        return web.json_response(found)

    async def stream(self, request, found):
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await response.write(event("response.created", found))
            await self.hold.wait()
            await response.write(event("response.completed", found))
        except ConnectionError:
            pass
        finally:
            self.left.set()
        return response


def event(kind, response):
    data = json.dumps({"type": kind, "response": response})
    return f"event: {kind}\ndata: {data}\n\n".encode()


@asynccontextmanager
async def serving(tmp_path, *engines, pool=None, **gateway):
    """The URL of a gateway before these engines."""
    async with AsyncExitStack() as stack:
        urls = []
        for engine in engines:
            scripted = web.Application()
            scripted.router.add_route("*", "/{path:.*}", engine.answer)
            runner = web.AppRunner(scripted, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        entry = {
            "model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0, "backends": urls,
        }  # fmt: skip
        raw = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"p": entry | (pool or {})},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
        }
        path = tmp_path / "cuvee.yaml"
        path.write_text(yaml.safe_dump(raw))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield f"http://127.0.0.1:{app.port}"


async def asked(url, method="GET", **options):
    async with ClientSession() as session, session.request(method, url, **options) as reply:
        return reply.status, json.loads(await reply.read() or b"{}"), reply.headers


def stored(name):
    """An engine with one response that no gateway knows."""
    engine = Engine(name)
    made = f"resp_{name}"
    engine.stored[made] = {"id": made, "model": MODEL, "status": "completed", "output": []}
    return engine


async def test_the_sdk_reads_and_cancels_what_runs_in_the_background(tmp_path):
    """Created, read, cancelled, listed and deleted, by the engine that made it and no other."""
    engines = Engine("a"), Engine("b")
    async with (
        serving(tmp_path, *engines) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client,
    ):
        made = await client.responses.create(model=MODEL, input="hi", background=True)
        read = await client.responses.retrieve(made.id)
        stopped = await client.responses.cancel(made.id)
        listed = await client.responses.input_items.list(made.id, limit=7)
        with pytest.raises(openai.BadRequestError, match="too late"):
            await client.responses.cancel(made.id)
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found"):
            await client.responses.retrieve(made.id)

    assert (read.status, stopped.status, len(listed.data)) == ("queued", "cancelled", 1)
    home, other = sorted(engines, key=lambda engine: len(engine.asked), reverse=True)
    path = f"/v1/responses/{made.id}"
    assert home.asked == [
        "POST /v1/responses", f"GET {path}", f"POST {path}/cancel",
        f"GET {path}/input_items?limit=7", f"POST {path}/cancel", f"DELETE {path}", f"GET {path}",
    ]  # fmt: skip
    assert other.asked == []


async def test_one_that_is_not_known_is_looked_for_everywhere_once(tmp_path):
    """As after a restart, or by another worker; then it is known. Paths may lack the version."""
    engines = Engine("a"), stored("b"), Engine("c")
    async with serving(tmp_path, *engines) as url:
        for path in ("/v1/responses/resp_b", "/responses/resp_b/"):
            status, body, headers = await asked(url + path)
            assert (status, body["id"]) == (200, "resp_b")
            assert headers["x-request-id"]
        assert (await asked(f"{url}/v1/responses/resp_b", "HEAD"))[0] == 200

    assert [len(engine.asked) for engine in engines] == [1, 3, 1]


async def test_one_that_nobody_has_is_not_found(tmp_path):
    """In OpenAI's words. If a backend does not say, it may be there; another that has it suffices.
    A refusal that is not about the id is passed on."""
    engines = Engine("a"), stored("b")
    async with serving(tmp_path, *engines) as url:
        status, body, _ = await asked(f"{url}/v1/responses/resp_x")
        assert (status, body["error"]["type"]) == (404, "invalid_request_error")
        assert body["error"]["message"] == "Response with id 'resp_x' not found."

        engines[0].failing = 500
        status, _, headers = await asked(f"{url}/v1/responses/resp_x")
        assert (status, headers["retry-after"]) == (503, "2")
        assert (await asked(f"{url}/v1/responses/resp_b"))[0] == 200

        engines[0].failing = 401
        assert (await asked(f"{url}/v1/responses/resp_x"))[0] == 401


async def test_only_what_is_an_id_is_sent_on(tmp_path):
    """A path is decoded before it is looked up, and must not bring another line of a head."""
    engine = Engine("a")
    async with serving(tmp_path, engine) as url:
        for path in ("a%20b", "a%0d%0ax:y", "a/b", "a" * 257, "a/cancel/x", "%C3%A9"):
            status, _, _ = await asked(f"{url}/v1/responses/{path}")
            assert status == 404, path
        for method, path, allowed in (
            ("PUT", "resp_1", "GET, DELETE"),
            ("GET", "resp_1/cancel", "POST"),
            ("POST", "resp_1/input_items", "GET"),
        ):
            status, _, headers = await asked(f"{url}/v1/responses/{path}", method)
            assert (status, headers["allow"]) == (405, allowed)
        status, _, headers = await asked(f"{url}/v1/responses/resp_1", "OPTIONS")
        assert (status, headers["allow"]) == (204, "HEAD, GET, DELETE, OPTIONS")

    assert engine.asked == []


async def test_a_stream_is_passed_on_and_told_by_the_models_name(tmp_path):
    """Event by event; one that breaks or falls silent ends in an error event."""
    engine = stored("a")
    engine.stored["resp_a"]["model"] = "engines-own"
    pool = {"served_name": "engines-own"}
    async with serving(tmp_path, engine, pool=pool, idle_timeout_s=0.2) as url:
        assert (await asked(f"{url}/v1/responses/resp_a"))[1]["model"] == MODEL
        engine.hold.set()
        async with (
            ClientSession() as session,
            session.get(f"{url}/v1/responses/resp_a?stream=true") as reply,
        ):
            whole = await reply.read()
        engine.hold.clear()
        async with (
            ClientSession() as session,
            session.get(f"{url}/v1/responses/resp_a?stream=true") as reply,
        ):
            silent = await reply.read()

    assert whole.count(b"event: response.") == 2
    assert b"engines-own" not in whole
    assert silent.count(b"event: response.") == 1
    assert silent.rpartition(b"event: ")[2].startswith(b"error\ndata: ")


async def test_a_client_that_leaves_ends_the_stream_at_the_engine(tmp_path):
    """Its connection is closed."""
    engine = stored("a")
    async with serving(tmp_path, engine) as url, asyncio.timeout(5):
        async with (
            ClientSession() as session,
            session.get(f"{url}/v1/responses/resp_a?stream=true") as reply,
        ):
            await reply.content.readline()
        await engine.left.wait()

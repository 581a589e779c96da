"""Keys and limits through the whole gateway, over real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from gateway.app import App
from gateway.config.load import load
from tests.redis_server import redis_server

MODEL, OTHER = "org/m", "org/other"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}
WHOLE = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": USAGE}
ANTHROPIC = {"type": "message", "content": [{"type": "text", "text": "hi"}], "usage": {
    "input_tokens": 7, "output_tokens": 2}, "stop_reason": "end_turn"}  # fmt: skip
KEY = "sk-cuvee-0123456789abcdef"


class Engine:
    """A backend that notes what comes. seen: headers of each request to a model. hold: what it
    waits for before it answers. busy: set by the first request. status: of its answers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.hold: asyncio.Event | None = None
        self.busy = asyncio.Event()
        self.status = 200

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=200 if request.path.endswith("/health") else 404)
        self.seen.append({name.lower(): value for name, value in request.headers.items()})
        self.busy.set()
        if self.hold is not None:
            await self.hold.wait()
        body = ANTHROPIC if request.path == MESSAGES else WHOLE
        return web.json_response(body, status=self.status)


class Served:
    """A gateway in front of one engine. keys: sections by name, in its keys file."""

    def __init__(self, app: App, engine: Engine, folder: Path, session: ClientSession) -> None:
        self.app, self.engine, self._folder, self._session = app, engine, folder, session
        self.url = f"http://127.0.0.1:{app.port}"

    async def ask(
        self, path: str = CHAT, key: str | None = KEY, body: Any = ASKED, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of an answer."""
        if key is not None:
            headers = {"authorization": f"Bearer {key}"} | headers
        method = "GET" if body is None else "POST"
        async with self._session.request(
            method, self.url + path, json=body, headers=headers
        ) as reply:
            told = {name.lower(): value for name, value in reply.headers.items()}
            return reply.status, await reply.json(), told

    def write(self, **keys: dict[str, Any]) -> None:
        """Write the keys file."""
        wrote(self._folder, **keys)


def hashed(key: str = KEY) -> str:
    return "sha256:" + sha256(key.encode()).hexdigest()


def wrote(folder: Path, **keys: dict[str, Any]) -> None:
    sections = {name: {"hash": hashed()} | fields for name, fields in keys.items()}
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": sections}))


@asynccontextmanager
async def served(
    folder: Path,
    keys: dict[str, dict[str, Any]],
    access: Mapping[str, Any] = MappingProxyType({}),
    **gateway: Any,
) -> AsyncIterator[Served]:
    """A gateway with these keys. access, gateway: settings of these sections."""
    wrote(folder, **keys)
    async with AsyncExitStack() as stack:
        engine = Engine()
        runner = web.AppRunner(_app(engine), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        pool = {"profile": "llama-3-8b/h100", "usd_per_hour": 3600.0, "backends": [url]}
        slo = {"ttft_s": 2.0, "tpot_s": 0.12}
        config = {
            "models": {
                MODEL: {"slo": slo, "classes": {"batch": slo | {"ttft_s": 20.0}}},
                OTHER: {"slo": slo, "aliases": ["nick"]},
            },
            "pools": {
                "p": pool | {"model": MODEL, "headers": {"authorization": "Bearer of-the-pool"}},
                "q": pool | {"model": OTHER, "backends": [f"{url}/q"]},
            },
            "access": {"keys_file": "keys.yaml", **access},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
        }
        path = folder / "cuvee.yaml"
        path.write_text(yaml.safe_dump(config))
        app = await stack.enter_async_context(App(load(path), path=path, host="127.0.0.1", port=0))
        session = await stack.enter_async_context(ClientSession())
        yield Served(app, engine, folder, session)


def _app(engine: Engine) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.answer)
    return app


async def test_without_a_key_nothing_reaches_an_engine(tmp_path: Path) -> None:
    """OpenAI's words and header; on Anthropic's path their shape. No engine sees any key."""
    async with served(tmp_path, {"team": {}}) as gateway:
        status, body, headers = await gateway.ask(key=None)
        assert (status, body["error"]["code"]) == (401, None)
        assert "You didn't provide an API key" in body["error"]["message"]
        assert headers["www-authenticate"] == "Bearer"
        status, body, _ = await gateway.ask(key="sk-wrong-wrong-wrong")
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert "wrong" not in json.dumps(body)
        status, body, _ = await gateway.ask(MESSAGES, key=None, **{"x-api-key": "sk-wrong"})
        assert (status, body["type"], body["error"]["type"]) == (
            401, "error", "authentication_error",
        )  # fmt: skip
        assert gateway.engine.seen == []

        assert (await gateway.ask())[0] == 200
        status, body, _ = await gateway.ask(
            MESSAGES, key=None, body=ASKED | {"max_tokens": 5}, **{"x-api-key": KEY}
        )
        assert (status, body["type"]) == (200, "message")

    assert len(gateway.engine.seen) == 2
    for headers in gateway.engine.seen:
        assert headers["authorization"] == "Bearer of-the-pool"
        assert KEY not in json.dumps(headers)


async def test_a_key_has_its_own_models_and_classes(tmp_path: Path) -> None:
    """403 for the others; `/v1/models` lists what the key opens and nothing else."""
    fields = {"models": [OTHER], "slo_classes": ["default"]}
    async with served(tmp_path, {"team": fields}) as gateway:
        status, body, _ = await gateway.ask()
        assert (status, body["error"]["code"]) == (403, "model_not_found")
        status, body, _ = await gateway.ask(MESSAGES, body=ASKED | {"max_tokens": 5})
        assert (status, body["error"]["type"]) == (403, "permission_error")
        asked = ASKED | {"model": OTHER}
        status, body, _ = await gateway.ask(body=asked, **{"x-cuvee-slo-class": "best-effort"})
        assert (status, body["error"]["code"]) == (403, "slo_class_not_allowed")
        assert (await gateway.ask(body=ASKED | {"model": "nick"}))[0] == 200

        assert (await gateway.ask("/v1/models", key=None, body=None))[0] == 401
        _, models, _ = await gateway.ask("/v1/models", body=None)
        assert [model["id"] for model in models["data"]] == [OTHER, "nick"]
        assert (await gateway.ask(f"/v1/models/{MODEL}", body=None))[0] == 404
        assert (await gateway.ask("/v1/models/nick", body=None))[0] == 200
        for path in ("/health", "/livez", "/readyz", "/ping", "/version"):  # as vLLM has it
            assert (await gateway.ask(path, key=None, body=None))[0] == 200
        assert (await gateway.ask("/v1/responses/resp_1", key=None, body=None))[0] == 401


async def test_requests_that_name_no_class_get_that_of_their_key(tmp_path: Path) -> None:
    """Where the model has it; else the model's own."""
    async with served(tmp_path, {"team": {"default_slo_class": "batch"}}) as gateway:
        _, _, of_key = await gateway.ask()
        _, _, named = await gateway.ask(**{"x-cuvee-slo-class": "batch"})
        _, _, default = await gateway.ask(**{"x-cuvee-slo-class": "default"})
        status, _, _ = await gateway.ask(body=ASKED | {"model": OTHER})

    assert of_key["x-cuvee-bucket"] == named["x-cuvee-bucket"] != default["x-cuvee-bucket"]
    assert status == 200


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_keys_follow_their_file(tmp_path: Path, workers: int) -> None:
    """A new one works after a reload, one that is gone does not; a broken file changes nothing."""
    other = KEY + "-other"
    async with served(tmp_path, {"team": {}}, workers=workers) as gateway:
        assert [(await gateway.ask(key=k))[0] for k in (KEY, other)] == [200, 401]
        (tmp_path / "keys.yaml").write_text("keys: {team: {hash: sha256:0}}\n")
        await gateway.app.reload("a test")
        assert [(await gateway.ask(key=k))[0] for k in (KEY, other)] == [200, 401]
        gateway.write(next={"hash": hashed(other)})
        await gateway.app.reload("a test")
        while (await gateway.ask(key=KEY))[0] != 401:  # the workers are told, and not waited for
            pass
        assert (await gateway.ask(key=other))[0] == 200


async def test_the_bill_and_the_journal_name_the_key(tmp_path: Path) -> None:
    """By its name; the key itself is in neither."""
    journal = tmp_path / "journal"
    async with served(tmp_path, {"team-a": {}}, journal={"path": "journal"}) as gateway:
        await gateway.ask()
    last = json.loads(journal.read_text().splitlines()[-1])

    assert list(last["happened"]["callers"]) == ["team-a"]
    assert last["happened"]["callers"]["team-a"]["requests"] == 1


async def test_limits_are_told_with_every_answer(tmp_path: Path) -> None:
    """OpenAI's headers, also on refusals; 429 with `retry-after`; other keys are not touched."""
    async with served(tmp_path, {"team": {"requests_per_minute": 2}}) as gateway:
        _, _, headers = await gateway.ask()
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"].endswith("s")
        status, _, headers = await gateway.ask(body=ASKED | {"model": "none"})
        assert (status, headers["x-ratelimit-remaining-requests"]) == (404, "1")
        _, _, headers = await gateway.ask("/v1/models", body=None)
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert (await gateway.ask())[0] == 200
        status, body, headers = await gateway.ask()
        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert body["error"]["type"] == "requests"
        assert int(headers["retry-after"]) >= 1
        assert headers["x-ratelimit-remaining-requests"] == "0"
        status, body, _ = await gateway.ask(MESSAGES, body=ASKED | {"max_tokens": 5})
        assert (status, body["error"]["type"]) == (429, "rate_limit_error")

    assert len(gateway.engine.seen) == 2


async def test_tokens_are_corrected_by_what_the_engine_reports(tmp_path: Path) -> None:
    """The estimate is held until the end, the usage counts then."""
    async with served(tmp_path, {"team": {"tokens_per_minute": 5000}}) as gateway:
        _, _, first = await gateway.ask()
        _, _, models = await gateway.ask("/v1/models", body=None)

    assert int(first["x-ratelimit-remaining-tokens"]) < 5000 - 9
    assert int(models["x-ratelimit-remaining-tokens"]) == 5000 - 9


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_slots_of_a_key_are_freed_on_every_path(tmp_path: Path, workers: int) -> None:
    """Answers, refusals, clients that leave and engines that fail: one after another passes."""
    async with served(tmp_path, {"team": {"concurrency": 1}}, workers=workers) as gateway:
        gateway.engine.hold = asyncio.Event()
        waiting = asyncio.create_task(gateway.ask())
        await gateway.engine.busy.wait()
        status, body, _ = await gateway.ask()
        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
        waiting.cancel()  # the client leaves
        await asyncio.gather(waiting, return_exceptions=True)
        gateway.engine.hold.set()
        while (await gateway.ask())[0] == 429:
            pass
        for body in (ASKED, ASKED | {"model": "none"}, "no object", ASKED | {"stream": True}):
            await gateway.ask(body=body)
        gateway.engine.status = 500
        assert (await gateway.ask())[0] in (500, 502)
        gateway.engine.status = 200
        assert (await gateway.ask())[0] in (200, 503)


async def test_a_key_that_has_spent_its_dollars_waits_for_the_next_day(tmp_path: Path) -> None:
    """By the price of the pool that it has used, a dollar a second here."""
    async with served(tmp_path, {"team": {"usd_per_day": 0.2}}) as gateway:
        while (answer := await gateway.ask())[0] == 200:
            pass
    status, body, headers = answer

    assert (status, body["error"]["code"]) == (429, "insufficient_quota")
    assert 1 <= int(headers["retry-after"]) <= 86_400


async def test_gateways_of_one_cluster_keep_a_limit_together(tmp_path: Path) -> None:
    """A flood at both passes as many as the key may have, within one at each other gateway."""
    async with redis_server(tmp_path) as server, AsyncExitStack() as stack:
        cluster = {"redis": server.url, "view_s": 0.05}
        gateways = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            keys = {"team": {"requests_per_minute": 60}}
            made = served(tmp_path / name, keys, cluster=cluster)
            gateways.append(await stack.enter_async_context(made))
        one, two = gateways
        while any([(await access(gateway))["gateways"] < 2 for gateway in gateways]):
            pass
        passed, since_s = 0, time.monotonic()
        async with asyncio.timeout(30):
            while passed < 57:
                answers = await asyncio.gather(*(g.ask() for g in (one, two) for _ in range(20)))
                passed += sum(status == 200 for status, _, _ in answers)
        for _ in range(3):
            answers = await asyncio.gather(*(g.ask() for g in (one, two) for _ in range(20)))
            passed += sum(status == 200 for status, _, _ in answers)
        seconds = ceil(time.monotonic() - since_s)  # in each of which one may slide out

    assert passed <= 61 + seconds


async def test_operators_see_what_keys_do(tmp_path: Path) -> None:
    """What each may do, and what it does; no key and no hash."""
    async with served(tmp_path, {"team": {"requests_per_minute": 60}, "idle": {
        "hash": hashed("other-other-other")}}) as gateway:  # fmt: skip
        await gateway.ask()
        told = await access(gateway)
    idle, team = told["keys"]

    assert (told["needed"], told["gateways"]) == (True, 1)
    assert (team["name"], team["requests_per_minute"], idle["requests_per_minute"]) == (
        "team", 60, None,
    )  # fmt: skip
    assert (team["used"]["requests"], idle["used"]["requests"]) == (1, 0)
    assert hashed().partition(":")[2] not in json.dumps(told)


async def access(gateway: Served) -> dict[str, Any]:
    """What the admin port tells of keys."""
    url = f"{gateway.app.admin}/cuvee/access"
    async with ClientSession() as session, session.get(url) as reply:
        told: dict[str, Any] = (await reply.json())["access"]
        return told


async def test_operators_paths_on_the_data_port_ask_for_their_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the admin port, which answers; a client's key does not open them."""
    monkeypatch.setenv("TOKEN", "admin-token-0123456789")
    read = {"admin_read": {"token_env": "TOKEN"}}
    async with served(tmp_path, {"team": {}}, access=read, operator_paths="both") as gateway:
        statuses = [
            (await gateway.ask("/cuvee/plan", key=key, body=None))[0]
            for key in (None, KEY, "admin-token-0123456789")
        ]

    assert statuses == [401, 401, 200]

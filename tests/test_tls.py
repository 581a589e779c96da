"""TLS on both ports of a whole gateway, over real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession, TCPConnector, web

from gateway.app import App
from gateway.config.load import load
from gateway.errors import ConfigError
from tests.certificates import Authority

MODEL, CHAT = "m", "/v1/chat/completions"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
WHOLE = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
TOKEN = "admin-token-0123456789"


class Engine:
    """A backend. go: until it is set streams have one event only."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=200 if request.path == "/health" else 404)
        if not (await request.json()).get("stream"):
            return web.json_response(WHOLE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(WORD)
        await self.go.wait()
        await response.write(FINISH)
        return response


@asynccontextmanager
async def served(
    folder: Path, engine: Engine, access: Any = None, **gateway: Any
) -> AsyncIterator[App]:
    """A gateway in front of one engine. gateway: settings of its section."""
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", engine.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        path = folder / "cuvee.yaml"
        pool = {"profile": "llama-3-8b/h100", "usd_per_hour": 1.0, "backends": [url]}
        config = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"p": pool | {"model": MODEL}},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
        } | ({} if access is None else {"access": access})
        path.write_text(yaml.safe_dump(config))
        yield await stack.enter_async_context(App(load(path), path=path, host="127.0.0.1", port=0))


def certified(folder: Path) -> tuple[Authority, dict[str, str]]:
    """An authority, and a section of a port whose certificate it has signed."""
    authority = Authority(folder)
    authority.sign("server", folder / "server.pem", folder / "server.key")
    return authority, {"certificate": "server.pem", "key": "server.key"}


def session(context: ssl.SSLContext) -> ClientSession:
    return ClientSession(connector=TCPConnector(ssl=context))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_the_data_port_speaks_tls(tmp_path: Path, workers: int) -> None:
    """HTTP/1.1 by ALPN, TLS 1.2 at least; plain HTTP gets nothing; whole answers and streams."""
    authority, section = certified(tmp_path)
    engine = Engine()
    engine.go.set()
    async with served(tmp_path, engine, tls=section, workers=workers) as app:
        base = f"https://127.0.0.1:{app.port}"
        async with session(authority.client()) as client:
            for _ in range(3):
                async with client.post(base + CHAT, json=ASKED) as reply:
                    assert await reply.json() == WHOLE
            async with client.post(base + CHAT, json=ASKED | {"stream": True}) as reply:
                assert await reply.read() == WORD + FINISH
        context = authority.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        _, writer = await asyncio.open_connection("127.0.0.1", app.port, ssl=context)
        secure = writer.get_extra_info("ssl_object")
        assert secure.selected_alpn_protocol() == "http/1.1"
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
        writer.close()
        old = authority.client()
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection("127.0.0.1", app.port, ssl=old)
        async with ClientSession() as plain:
            with pytest.raises(ClientError):
                await plain.get(f"http://127.0.0.1:{app.port}/livez")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.long)])
async def test_another_certificate_drops_no_connection(tmp_path: Path, workers: int) -> None:
    """A stream under way ends whole, an idle connection goes on; new ones see the new one."""
    authority, section = certified(tmp_path)
    engine = Engine()
    async with served(tmp_path, engine, tls=section, workers=workers) as app:
        base = f"https://127.0.0.1:{app.port}"
        async with session(authority.client()) as client, session(authority.client()) as idle:
            async with idle.get(base + "/livez") as reply:
                assert reply.status == 200
            async with client.post(base + CHAT, json=ASKED | {"stream": True}) as reply:
                first = await reply.content.readexactly(len(WORD))
                authority.sign("renewed", tmp_path / "server.pem", tmp_path / "server.key")
                await app.reload("a test")
                while await name_shown(authority, app.port) != "renewed":
                    pass
                engine.go.set()
                assert first + await reply.read() == WORD + FINISH
            before = set(idle.connector._conns) if idle.connector else set()
            async with idle.get(base + "/livez") as reply:
                assert reply.status == 200
            assert before == (set(idle.connector._conns) if idle.connector else set())


async def name_shown(authority: Authority, port: int) -> str:
    """The common name of the certificate that a new connection is shown."""
    context = authority.client()
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    subject = writer.get_extra_info("peercert")["subject"]
    writer.close()
    return str(dict(pair for rdn in subject for pair in rdn)["commonName"])


async def test_broken_certificates_leave_the_last_good_ones(tmp_path: Path) -> None:
    """As any other mistake in the configuration."""
    authority, section = certified(tmp_path)
    async with served(tmp_path, Engine(), tls=section) as app:
        (tmp_path / "server.pem").write_text("nonsense")
        await app.reload("a test")
        assert await name_shown(authority, app.port) == "server"


async def test_clients_need_a_certificate_where_an_authority_is_named(tmp_path: Path) -> None:
    """On the data port every one; one that another authority has signed is none."""
    authority, section = certified(tmp_path)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    for one, name in ((authority, "mine"), (other, "theirs")):
        one.sign("client", tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    mine = authority.client(tmp_path / "mine.pem", tmp_path / "mine.key")
    theirs = authority.client(tmp_path / "theirs.pem", tmp_path / "theirs.key")
    async with served(tmp_path, Engine(), tls=section | {"client_ca": "ca.pem"}) as app:
        base = f"https://127.0.0.1:{app.port}"
        async with session(mine) as client, client.post(base + CHAT, json=ASKED) as reply:
            assert reply.status == 200
        for context in (authority.client(), theirs):
            async with session(context) as client:
                with pytest.raises((ClientError, OSError)):
                    await client.post(base + CHAT, json=ASKED)


async def test_the_admin_port_reads_and_writes_apart(tmp_path: Path) -> None:
    """By certificate or token over TLS; probes need neither."""
    authority, section = certified(tmp_path)
    for name in ("reader", "writer", "nobody"):
        authority.sign(name, tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    (tmp_path / "token").write_text(TOKEN + "\n")
    access = {
        "admin_read": {"certificates": ["reader"]},
        "admin_write": {"token_file": "token", "certificates": ["writer"]},
    }
    tls = section | {"client_ca": "ca.pem"}

    async def statuses(app: App, name: str | None, **headers: str) -> tuple[int, int, int]:
        pair = () if name is None else (tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        async with session(authority.client(*pair)) as client:
            async with client.get(app.admin + "/livez", headers=headers) as alive:
                pass
            async with client.get(app.admin + "/cuvee/plan", headers=headers) as read:
                pass
            async with client.post(app.admin + "/cuvee/reload", headers=headers) as wrote:
                pass
            return alive.status, read.status, wrote.status

    async with served(tmp_path, Engine(), access, admin_tls=tls) as app:
        assert app.admin.startswith("https://")
        assert await statuses(app, None) == (200, 401, 401)
        assert await statuses(app, "nobody") == (200, 401, 401)
        assert await statuses(app, "reader") == (200, 200, 403)
        assert await statuses(app, "writer") == (200, 200, 200)
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert await statuses(app, None, **bearer) == (200, 200, 200)
        (tmp_path / "token").write_text("another-token-0123456789")
        await app.reload("a test")
        assert await statuses(app, None, **bearer) == (200, 401, 401)


@pytest.mark.parametrize(
    ("gateway", "words"),
    [
        ({"tls": {"certificate": "none", "key": "none"}}, "gateway.tls.certificate"),
        ({"tls": {"certificate": "ca.pem", "key": "server.key"}}, "gateway.tls.certificate"),
        ({"tls": {"certificate": "server.pem"}}, "key"),
        (
            {"admin_tls": {"certificate": "server.pem", "key": "server.key"},
             "operator_paths": "both"}, "operator_paths",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_told_at_once(
    tmp_path: Path, gateway: dict[str, Any], words: str
) -> None:
    """Before the gateway starts, with the key of the configuration."""
    certified(tmp_path)
    with pytest.raises(ConfigError, match=words):
        async with served(tmp_path, Engine(), **gateway):
            pass

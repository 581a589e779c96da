"""Nothing secret is in anything that a gateway says or writes."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from base64 import b64encode
from contextlib import AsyncExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientConnectionError, ClientSession, TCPConnector, web

from gateway.config.load import load
from gateway.errors import ConfigError
from tests.certificates import Authority
from tests.redis_server import free_port

ROOT = Path(__file__).resolve().parents[1]
MODEL, CHAT, MESSAGES = "m", "/v1/chat/completions", "/v1/messages"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
WHOLE = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
SECRETS = {
    "key in the environment": "sk-planted-1-environment",
    "key in a folder": "sk-planted-2-in-a-folder",
    "key that is wrong": "sk-planted-3-wrong-key-x",
    "key of a pool": "planted-4-key-of-a-pool",
    "header of a pool": "planted-5-header-of-a-pool",
    "token to read": "planted-6-token-to-read",
    "token to write": "planted-7-token-to-write",
    "token that is wrong": "planted-8-wrong-token",
    "password of Redis": "planted-9-password",
    "key of a webhook": "planted-10-webhook",
    "prompt": "planted-11-prompt",
    "salt of the trace": "planted-12-salt",
    "header of a webhook": "planted-13-webhook-header",
}
ADMIN_PATHS = (
    "/metrics", "/cuvee/plan", "/cuvee/hits", "/cuvee/discovery", "/cuvee/cluster",
    "/cuvee/history", "/cuvee/access", "/cuvee/loops", "/cuvee/scaling", "/readyz", "/livez",
    "/none",
)  # fmt: skip


def config(folder: Path, url: str, data: int, admin: int) -> Path:
    """A configuration with every kind of secret in it or beside it."""
    (folder / "keys").mkdir()
    (folder / "keys" / "team").write_text(SECRETS["key in a folder"])
    (folder / "pool-key").write_text(SECRETS["key of a pool"])
    (folder / "read").write_text(SECRETS["token to read"])
    (folder / "write").write_text(SECRETS["token to write"])
    (folder / "urls.json").write_text(json.dumps([url]))
    (folder / "webhook").write_text(SECRETS["key of a webhook"])
    authority = Authority(folder)
    authority.sign("server", folder / "server.pem", folder / "server.key")
    raw: dict[str, Any] = {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {
            "p": {
                "model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0,
                "discover": {"file": "urls.json"}, "api_key_file": "pool-key",
                "headers": {"x-secret": SECRETS["header of a pool"]},
                "scale": {
                    "webhook": {
                        "url": "http://127.0.0.1:1/", "key_file": "webhook",
                        "headers": {"x-token": SECRETS["header of a webhook"]},
                    },
                    "most": 2,
                },
            }
        },
        "planner": {"certify_cpu_s": 0, "interval_s": 0.5},
        "access": {
            "keys_env": "PLANTED", "keys_folder": "keys",
            "admin_read": {"token_file": "read"}, "admin_write": {"token_file": "write"},
        },
        "gateway": {
            "host": "127.0.0.1", "port": data, "admin_port": admin, "drain_s": 1.0,
            "drain_delay_s": 0, "request_log": 1.0,
            "admin_tls": {"certificate": "server.pem", "key": "server.key"},
            "trace": {"path": "trace.csv", "salt": SECRETS["salt of the trace"]},
            "journal": {"path": "journal"},
            "cluster": {
                "redis": f"redis://cuvee:{SECRETS['password of Redis']}@127.0.0.1:1/0",
                "timeout_s": 0.1,
            },
        },
    }  # fmt: skip
    path = folder / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


async def engine(request: web.Request) -> web.StreamResponse:
    """Answers the first request, and then has errors of all kinds."""
    if request.method == "GET":
        return web.Response(status=200 if request.path == "/health" else 404)
    body = await request.json()
    return web.json_response(WHOLE, status=body.get("seed", 200))


async def asked(session: ClientSession, base: str, admin: str, said: list[str]) -> None:
    """Requests of every kind; what is said to them."""
    keys = [SECRETS[name] for name in SECRETS if name.startswith("key ")][:3]
    headers: list[dict[str, str]] = [{"authorization": f"Bearer {key}"} for key in keys]
    headers += [{"x-api-key": key} for key in keys] + [{}]
    prompt = [{"role": "user", "content": SECRETS["prompt"]}]
    bodies: list[Any] = [ASKED | {"messages": prompt, "seed": seed} for seed in (200, 400, 500)]
    bodies += [ASKED | {"model": "none"}, "nonsense"]
    for path in (CHAT, MESSAGES, "/v1/none"):
        for own in headers:
            for body in bodies:
                async with session.post(base + path, json=body, headers=own) as reply:
                    said.append(f"{reply.headers} {await reply.text()}")
    for path in ("/v1/models", "/v1/responses/resp_1"):
        for own in headers:
            async with session.get(base + path, headers=own) as reply:
                said.append(f"{reply.headers} {await reply.text()}")
    tokens = [SECRETS[name] for name in SECRETS if name.startswith("token ")]
    for path in ADMIN_PATHS:
        for token in tokens:
            basic = {"authorization": "Basic " + b64encode(f"a:{token}".encode()).decode()}
            async with session.get(admin + path, headers=basic) as reply:
                said.append(f"{reply.headers} {await reply.text()}")
    for token in tokens:
        bearer = {"authorization": f"Bearer {token}"}
        async with session.post(admin + "/cuvee/reload", headers=bearer) as reply:
            said.append(f"{reply.headers} {await reply.text()}")


async def test_no_secret_is_said_or_written(tmp_path: Path) -> None:
    """Planted ones, in everything that clients, operators, logs and files get, also after a file
    with mistakes in it."""
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", engine)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        data, admin_port = free_port(), free_port()
        path = config(tmp_path, f"http://127.0.0.1:{runner.addresses[0][1]}", data, admin_port)
        base, admin = f"http://127.0.0.1:{data}", f"https://127.0.0.1:{admin_port}"
        gateway = await cuvee(stack, tmp_path, "serve", "--log-level", "debug")
        session = await stack.enter_async_context(ClientSession(connector=TCPConnector(ssl=False)))
        said: list[str] = []
        await until_ready(session, base, gateway)
        limits = core_limit(gateway.pid)
        await asked(session, base, admin, said)
        path.write_text(path.read_text().replace(":1/0", ":port/0"))
        await asked(session, base, admin, said)
        gateway.terminate()
        await gateway.wait()
        status = await (await cuvee(stack, tmp_path, "check")).wait()
    everything = {
        name: (tmp_path / name).read_text(errors="replace")
        for name in ("serve.log", "check.log", "journal", "trace.csv")
    } | {"answers": "\n".join(said)}

    assert '"team"' in everything["answers"]  # something was said at all
    assert "team" in everything["serve.log"]
    assert status == 2
    assert limits.split()[4:6] == ["0", "0"]
    assert found(everything, tmp_path) == []


async def cuvee(stack: AsyncExitStack, folder: Path, command: str, *options: str) -> Process:
    """The command, whose output goes to a file of its name; killed at the end."""
    environ = os.environ | {"PLANTED": SECRETS["key in the environment"]}
    with (folder / f"{command}.log").open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cuvee", command, "--config", str(folder / "cuvee.yaml"),
            *options, cwd=ROOT, stdout=sink, stderr=sink, env=environ, start_new_session=True,
        )  # fmt: skip

    async def end() -> None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    return process


async def until_ready(session: ClientSession, base: str, gateway: Process) -> None:
    """Wait until a gateway serves."""
    async with asyncio.timeout(30):
        while gateway.returncode is None:
            try:
                async with session.get(base + "/readyz") as reply:
                    if reply.status == 200:
                        return
            except ClientConnectionError:
                await asyncio.sleep(0.05)
    pytest.fail("the gateway has ended")


def core_limit(pid: int) -> str:
    """The line of /proc about core dumps."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size"))


def found(texts: dict[str, str], folder: Path) -> list[str]:
    """The secrets, also as a digest or as Base64, that stand somewhere."""
    tls = (folder / "server.key").read_text().splitlines()[1]
    leaks = []
    for name, secret in (SECRETS | {"key of TLS": tls}).items():
        forms = [secret, sha256(secret.encode()).hexdigest(), b64encode(secret.encode()).decode()]
        forms.append(b64encode(f"a:{secret}".encode()).decode())
        leaks += [f"{name} in {where}" for where, text in texts.items()
                  if any(form in text for form in forms)]  # fmt: skip
    return leaks


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gateway.cluster.redis", "redis://u:planted-secret@host:x/0"),
        ("pools.p.api_key_env", "planted-secret"),
        ("access.keys_env", "planted-secret"),
        ("access.admin_read.token_env", "sk-planted-secret"),
        ("pools.p.backends[0]", "http://u:planted-secret@a b/"),
        ("pools.p.scale.webhook.url", "ftp://u:planted-secret@host/"),
        ("pools.p.scale.webhook.key_env", "planted-secret"),
        ("pools.p.headers.x-token", "planted-secret\n"),
    ],
)
def test_a_mistake_does_not_show_the_secret_beside_it(tmp_path: Path, key: str, value: str) -> None:
    """A key where its variable's name should stand, a password in a URL that is none."""
    raw: dict[str, Any] = {
        "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
        "pools": {"p": {"model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0,
                        "backends": ["http://a:1"], "max_backends": 2}},
    }  # fmt: skip
    if "webhook" in key:
        raw["pools"]["p"]["scale"] = {"webhook": {"url": "http://a:2/"}}
    place: Any = raw
    *above, last = key.replace("[0]", ".0").split(".")
    for name in above:
        place = place[int(name)] if name == "0" else place.setdefault(name, {})
    place[0 if last == "0" else last] = value
    path = tmp_path / "cuvee.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError) as refused:
        load(path, environ={})

    assert key.partition("[")[0] in str(refused.value)
    assert "planted" not in str(refused.value), json.dumps(refused.value.problems)

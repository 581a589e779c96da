"""`cuvee replay`, against a scripted server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from cuvee.replay import replay

STREAM = b"""\
data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]}

data: [DONE]

"""


class Server:
    """An API in a thread of its own, for commands that run their own loop."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.key: str | None = None  # that /v1/models asks for
        self.bodies: list[dict[str, object]] = []
        self.url = ""
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _run(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._post)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return web.Response(status=self.status, body=STREAM)

    async def _models(self, request: web.Request) -> web.Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.Response(status=401)
        return web.json_response({"object": "list", "data": [{"id": "first"}, {"id": "second"}]})


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(getattr(request, "param", 200))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,20,1\n0.01,30,1\n9,30,1\n")
    return str(path)


def test_replay_writes_its_summary(server: Server, trace: str, tmp_path: Path):
    """It asks for the model, sends what is due in time, and exits with 0 when all is well."""
    target = tmp_path / "out.json"
    slo = ("--ttft", "9", "--tpot", "9")

    result = CliRunner().invoke(
        replay,
        ["--url", server.url, "--trace", trace, "--duration", "1", *slo, "--json", str(target)],
    )

    summary = json.loads(target.read_text())
    assert result.exit_code == 0, result.output
    assert [body["model"] for body in server.bodies] == ["first", "first"]
    assert (summary["requests"], summary["failed"], summary["attainment"]["met"]) == (2, 0, 2)
    assert "TTFT" in result.output


@pytest.mark.parametrize("server", [500], indirect=True)
def test_replay_fails_when_a_request_fails(server: Server, trace: str):
    """Any failed request is an exit code of 1 and a row in the table of errors."""
    result = CliRunner().invoke(
        replay, ["--url", server.url, "--trace", trace, "--rate-scale", "100", "--model", "m"]
    )

    assert result.exit_code == 1
    assert len(server.bodies) == 3
    assert "500" in result.output


def test_replay_refuses_what_it_cannot_use(trace: str, tmp_path: Path):
    """A broken trace or half an SLO is one clear line, before anything is sent."""
    broken = tmp_path / "broken.csv"
    broken.write_text("arrival_s,input_tokens,output_tokens\n0,x,3\n")
    start = ["--url", "http://127.0.0.1:9", "--model", "m", "--trace"]

    unread = CliRunner().invoke(replay, [*start, str(broken)])
    half = CliRunner().invoke(replay, [*start, trace, "--ttft", "1"])

    assert (unread.exit_code, half.exit_code) == (2, 2)
    assert "broken.csv:2" in unread.output
    assert "both or neither" in half.output


def test_replay_says_when_no_server_answers(trace: str):
    """Without a server there is no model to ask for, and no traceback either."""
    result = CliRunner().invoke(replay, ["--url", "http://127.0.0.1:9", "--trace", trace])

    assert result.exit_code == 1
    assert "http://127.0.0.1:9/v1/models" in result.output


def test_a_server_that_asks_for_a_key_gets_it(server: Server, trace: str):
    """From the environment; without one it is said how to do without."""
    server.key = "sk-models"
    start = ["--url", server.url, "--trace", trace, "--rate-scale", "100"]

    refused = CliRunner().invoke(replay, start)
    answered = CliRunner().invoke(replay, start, env={"CUVEE_API_KEY": "sk-models"})

    assert refused.exit_code == 1
    assert "/v1/models answered 401" in refused.output
    assert "--model" in refused.output
    assert answered.exit_code == 0, answered.output
    assert {body["model"] for body in server.bodies} == {"first"}


@pytest.mark.parametrize("url", ["localhost:18001", "ftp://x", "http://", "http://x:99999"])
def test_what_is_no_url_is_said_to_be_none(url: str, trace: str):
    result = CliRunner().invoke(replay, ["--url", url, "--trace", trace, "--model", "m"])

    assert result.exit_code == 2
    assert f"`{url}` is no URL" in result.output

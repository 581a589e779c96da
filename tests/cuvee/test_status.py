"""`cuvee status` and `cuvee top`, beside a gateway that runs."""

import json
import socket
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import msgspec
import pytest
import yaml
from click.testing import CliRunner

import cuvee


@pytest.fixture(scope="module")
def gateway(beside_all, tmp_path_factory):
    """A gateway with one engine, which has served one request."""
    pool = {
        "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 5.0,
        "backends": [beside_all.engine("m")],
    }  # fmt: skip
    raw = {
        "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}},
        "pools": {"h100": pool},
        "gateway": {"port": 0, "admin_port": 0, "host": "127.0.0.1", "drain_delay_s": 0},
    }
    path = tmp_path_factory.mktemp("status") / "own.yaml"
    path.write_text(yaml.safe_dump(raw))
    app = beside_all.gateway(path)
    body = msgspec.json.encode({"prompt": "hello", "max_tokens": 2})
    head = {"content-type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{app.port}/v1/completions", body, head)
    with urllib.request.urlopen(asked, timeout=20) as reply:
        reply.read()
    return app


def run(*words):
    return CliRunner().invoke(cuvee.main, [str(word) for word in words])


def test_one_screen(gateway):
    """Fleet, promise, dollars, queue, refusals and loops, in 25 lines at most."""
    result = run("status", "--url", gateway.admin, "--seconds", 0.1)

    assert result.exit_code == 0, result.output
    for text in (gateway.admin, "ready", "h100", "$5.00/h", "0 refused", "0 wait", "all loops"):
        assert text in result.stdout
    assert len(result.stdout.splitlines()) <= 25


def test_as_json(gateway):
    """The same for programs."""
    told = json.loads(run("status", "--url", gateway.admin, "--seconds", 0.1, "--json").stdout)

    assert told["status"] == "ready"
    assert told["pools"][0] | {"load": 0} == {
        "name": "h100", "up": 1, "backends": 1, "desired": 1, "in_flight": 0, "load": 0,
        "pace": None,
    }  # fmt: skip


def test_top_without_a_terminal_is_a_line_for_each_look(gateway):
    """So that it can be kept in a file."""
    result = run("top", "--url", gateway.admin, "--times", 2, "--interval", 0.5)

    first, second = result.stdout.splitlines()
    assert "up 1/1" in first
    assert "– req/s" in first
    assert "0.0 req/s" in second
    assert result.exit_code == 0


def test_the_history_of_a_gateway_that_runs(gateway):
    """It begins with its start."""
    told = json.loads(run("history", "--url", gateway.admin, "--json").stdout)

    assert told[0]["kind"] == "start"


def test_a_gateway_that_does_not_answer():
    """`status` ends with the reason; `top` says it and looks again, and fails if that was all."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    status, top = run("status", "--url", url), run("top", "--url", url, "--times", 1)

    assert (status.exit_code, top.exit_code) == (1, 1)
    assert url in status.stderr
    assert url in top.stdout


def test_another_server_is_no_gateway():
    """Its answers are not read as a gateway's."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        result = run("status", "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()

    assert result.exit_code == 1
    assert "is not that of a gateway" in result.stderr


@pytest.mark.parametrize("words", [("status",), ("top", "--times", 1), ("explain", "an-id")])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("gateway: {admin_port: many}", "gateway.admin_port"),
        ("gateway: {admin_port: '${NO_SUCH_PORT}'}", "NO_SUCH_PORT"),
        ("gateway: [", "own.yaml:"),
        ("- 1", "own.yaml"),
    ],
)
def test_a_file_that_does_not_tell_the_port_means_no_gateway(words, text, told, tmp_path):
    """Another one must not answer for it."""
    path = tmp_path / "own.yaml"
    if text is not None:
        path.write_text(text)

    result = run(*words, "--config", path)

    assert result.exit_code in (1, 2)
    assert "--config" in result.stderr
    assert told in result.stderr
    assert result.stdout == ""


def test_a_file_with_a_mistake_still_tells_the_port(gateway, tmp_path):
    """It may have got the mistake since the gateway started, which is told."""
    path = tmp_path / "own.yaml"
    port = gateway.admin.rpartition(":")[2]
    path.write_text(f"pools: {{a: {{bakends: []}}}}\ngateway: {{admin_port: {port}}}\n")

    result = run("status", "--config", path, "--seconds", 0.1)

    assert result.exit_code == 0, result.stderr
    assert gateway.admin in result.stdout
    assert result.stderr.startswith(f"warning: {path}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["nonsense", "ftp://x"])
def test_a_url_that_is_none(url):
    """A mistake of the command."""
    result = run("status", "--url", url)

    assert result.exit_code == 2
    assert "--url" in result.stderr

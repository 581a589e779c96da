"""`cuvee doctor` finds what is planted: one fault at a time, each by its own line."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import cuvee
from tests.certificates import Authority

Found = set[tuple[str, str, str]]  # group, name, outcome
OLD_PRICES = """
format: cuvee-prices/1
usd_per_gpu_hour:
  H100: {usd: 5.0, source: us, region: here, date: 2020-01-01}
"""


class World:
    """A configuration with two engines in one pool, and the folder that it is in."""

    def __init__(self, beside: Any, folder: Path) -> None:
        self.beside, self.folder = beside, folder
        self.kept: list[socket.socket] = []
        self.urls = [beside.engine("m") for _ in range(2)]
        self.pool: dict[str, Any] = {
            "model": "m", "profile": "llama-3-8b/H100", "usd_per_hour": 5.0,
            "backends": list(self.urls),
        }  # fmt: skip
        self.raw: dict[str, Any] = {
            "models": {"m": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}},
            "pools": {"h100": self.pool},
            "gateway": {
                "port": free_port(), "admin_port": free_port(), "host": "127.0.0.1",
                "drain_delay_s": 0,
            },
        }  # fmt: skip

    def examined(self) -> list[dict[str, str]]:
        path = self.folder / "cuvee.yaml"
        path.write_text(yaml.safe_dump(self.raw))
        words = ["doctor", "--config", str(path), "--json", "--timeout", "3"]
        result = CliRunner().invoke(cuvee.main, words)
        found: list[dict[str, str]] = json.loads(result.stdout)
        worst = {one["outcome"] for one in found}
        code = 2 if "error" in worst else 1 if "warning" in worst else 0
        assert result.exit_code == code
        return found

    def kinds(self) -> Found:
        return {(one["group"], one["name"], one["outcome"]) for one in self.examined()}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def world(beside, tmp_path):
    """What is well, but for how this machine is."""
    one = World(beside, tmp_path)
    yield one
    for kept in one.kept:
        kept.close()


def misspelt(world):
    world.pool["bakends"] = []


def prices_of_another_time(world):
    (world.folder / "prices.yaml").write_text(OLD_PRICES)
    world.raw["prices"] = "prices.yaml"
    del world.pool["usd_per_hour"]


def profiles_of_two_models(world):
    world.pool["backends"].pop()
    other = world.pool | {"profile": "llama-2-7b/H100", "backends": [world.urls[1]]}
    world.raw["pools"]["other"] = other


def a_promise_that_few_sizes_keep(world):
    world.raw["models"]["m"]["slo"] = {"ttft_s": 0.03, "tpot_s": 0.1}


def an_engine_by_two_names(world):
    world.pool["backends"][1] = world.urls[0].replace("127.0.0.1", "127.1")


def a_port_that_another_has(world):
    one = socket.create_server(("127.0.0.1", 0))
    world.kept.append(one)
    world.raw["gateway"]["port"] = one.getsockname()[1]


def an_engine_that_is_down(world):
    world.pool["backends"][1] = f"http://127.0.0.1:{free_port()}"


def an_engine_of_another_model(world):
    world.pool["backends"][1] = world.beside.engine("other")


def an_engine_with_a_shorter_context(world):
    world.pool["backends"][1] = world.beside.engine("m", context=4096)


def an_engine_on_a_smaller_gpu(world):
    world.pool["backends"][1] = world.beside.engine("m", "llama-3-8b/A10G")


def an_engine_of_another_kind(world):
    world.pool["engine"] = "sglang"


def an_engine_that_asks_for_a_key(world):
    world.pool["backends"][1] = world.beside.engine("m", api_key="sesame")


def an_adapter_that_is_missing(world):
    world.raw["models"]["m"]["adapters"] = ["sql"]


def a_redis_that_is_away(world):
    world.raw["gateway"]["cluster"] = {"redis": f"redis://127.0.0.1:{free_port()}/0"}


def a_source_that_cannot_be_read(world):
    (world.folder / "found.yaml").write_text("- nonsense\n")
    world.pool["discover"] = {"file": "found.yaml"}


def more_workers_than_cpus(world):
    world.raw["gateway"]["workers"] = 4096


def no_backend_at_all(world):
    world.pool["backends"] = []


FAULTS = [
    (misspelt, ("configuration", "file", "error")),
    (prices_of_another_time, ("configuration", "prices", "warning")),
    (profiles_of_two_models, ("configuration", "profile's model", "warning")),
    (a_promise_that_few_sizes_keep, ("configuration", "promises", "warning")),
    (an_engine_by_two_names, ("configuration", "duplicates", "warning")),
    (no_backend_at_all, ("configuration", "backends", "error")),
    (a_port_that_another_has, ("machine", "port", "error")),
    (more_workers_than_cpus, ("machine", "processors", "warning")),
    (an_engine_that_is_down, ("engines", "reachable", "error")),
    (an_engine_of_another_model, ("engines", "model", "error")),
    (an_engine_with_a_shorter_context, ("engines", "context", "warning")),
    (an_engine_on_a_smaller_gpu, ("engines", "KV memory", "warning")),
    (an_engine_of_another_kind, ("engines", "engine", "warning")),
    (an_engine_that_asks_for_a_key, ("engines", "reachable", "error")),
    (an_adapter_that_is_missing, ("engines", "adapters", "warning")),
    (a_redis_that_is_away, ("services", "Redis", "error")),
    (a_source_that_cannot_be_read, ("services", "sources", "error")),
]


@pytest.mark.parametrize(("plant", "line"), FAULTS, ids=[plant.__name__ for plant, _ in FAULTS])
def test_a_planted_fault_is_found(world, plant, line):
    """By its own line, which says what to do and where to read; `test_what_is_well` has no line
    of these."""
    plant(world)
    found = world.examined()

    [own, *_] = [one for one in found if (one["group"], one["name"], one["outcome"]) == line]
    assert own["hint"]
    assert own["page"].startswith("docs/")


def test_what_is_well_has_no_fault(world):
    """But for what this machine and this build are."""
    bad = [one for one in world.kinds() if one[2] in ("warning", "error")]

    assert {name for group, name, _ in bad if group != "machine"} == set()
    assert not {line for _, line in FAULTS} & set(bad)


def test_rights_that_kubernetes_does_not_give(world):
    """As the API itself says of this account."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = b'{"status": {"allowed": false}}'
            self.send_response(201)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.send_error(403)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        api = f"http://127.0.0.1:{server.server_port}"
        world.pool["discover"] = {"kubernetes": {"selector": "app=vllm", "api_server": api}}
        found = world.examined()
        server.shutdown()

    [line] = [one for one in found if one["name"] == "Kubernetes"]
    assert line["outcome"] == "error"
    assert "list pods in default, watch pods in default" in line["text"]


def test_an_engine_that_lists_no_model(world):
    """It has not loaded its model, or lost it: `check --connect` says so too."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"object": "list", "data": []}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        world.pool["backends"][1] = f"http://127.0.0.1:{server.server_port}"
        found = world.examined()
        server.shutdown()

    [line] = [one for one in found if (one["group"], one["name"]) == ("engines", "model")]
    assert line["outcome"] == "error"
    assert "does not serve `m`, but none" in line["text"]
    assert "load the model" in line["hint"]


def test_a_gateway_that_runs_is_looked_at_too(world, beside):
    """By the admin port of the file, whose ports are taken for a good reason; or by --url alone."""
    world.kinds()
    app = beside.gateway(world.folder / "cuvee.yaml")
    both = world.kinds()
    alone = CliRunner().invoke(cuvee.main, ["doctor", "--url", app.admin, "--json"])

    assert ("machine", "port", "fine") in both
    assert ("running", "ready", "fine") in both
    assert {one["group"] for one in json.loads(alone.stdout)} == {"running"}


def test_a_gateway_that_asks_for_a_token(world, beside):
    """Its ports are taken for a good reason all the same, and the token opens it."""
    (world.folder / "token").write_text("sesame-sesame-sesame-sesame")
    world.raw["access"] = {"admin_read": {"token_file": "token"}}
    world.kinds()
    beside.gateway(world.folder / "cuvee.yaml")
    found = world.examined()
    words = ["doctor", "--config", str(world.folder / "cuvee.yaml"), "--json"]
    given = CliRunner().invoke(cuvee.main, [*words, "--token", "sesame-sesame-sesame-sesame"])

    assert {one["outcome"] for one in found if one["name"] in ("port", "admin_port")} == {"fine"}
    [line] = [one for one in found if one["group"] == "running"]
    assert line["outcome"] == "warning"
    assert "a gateway answers, but asks for a token" in line["text"]
    assert "--token or CUVEE_ADMIN_TOKEN" in line["hint"]
    told = {(one["group"], one["name"], one["outcome"]) for one in json.loads(given.stdout)}
    assert ("running", "ready", "fine") in told


def test_a_gateway_whose_certificate_nobody_here_trusts(world, beside):
    """Its ports are taken for a good reason all the same."""
    authority = Authority(world.folder)
    authority.sign("gateway", world.folder / "own.pem", world.folder / "own.key")
    world.raw["gateway"]["admin_tls"] = {"certificate": "own.pem", "key": "own.key"}
    world.kinds()
    beside.gateway(world.folder / "cuvee.yaml")
    found = world.examined()

    assert {one["outcome"] for one in found if one["name"] in ("port", "admin_port")} == {"fine"}
    [line] = [one for one in found if one["group"] == "running"]
    assert line["outcome"] == "warning"
    assert "CERTIFICATE_VERIFY_FAILED" in line["text"]


def test_a_gateway_without_its_engines(world, beside):
    """What was found after the start, of one whose engines have gone."""
    world.pool["backends"] = [f"http://127.0.0.1:{free_port()}"]
    world.examined()
    app = beside.gateway(world.folder / "cuvee.yaml")
    result = CliRunner().invoke(cuvee.main, ["doctor", "--url", app.admin])

    assert result.exit_code == 2
    assert "FAIL  ready: /readyz says `no backend`" in result.stdout
    assert "FAIL  backends: 1 of 1 are down" in result.stdout
    assert "docs/runbooks.md#cuveebackenddown" in result.stdout


def test_an_admin_port_that_does_not_answer():
    """An error with the reason, and no traceback."""
    result = CliRunner().invoke(
        cuvee.main, ["doctor", "--url", f"http://127.0.0.1:{free_port()}", "--timeout", "1"]
    )

    assert result.exit_code == 2
    assert "FAIL  gateway: " in result.stdout


def test_without_a_file_and_without_a_url(tmp_path, monkeypatch):
    """It says how to get one."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cuvee.main, ["doctor"])

    assert result.exit_code == 2
    assert "cuvee init" in result.stderr

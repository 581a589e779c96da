"""`cuvee init`: what it asks, what it writes, and when it writes nothing."""

import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import yaml
from click.testing import CliRunner

import cuvee
from gateway.config.load import load


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`cuvee …` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cuvee.main, [str(word) for word in words])


def test_the_file_is_what_the_engines_are(run, beside, tmp_path):
    """One pool for each model and GPU, with names, adapters and engine as asked; it passes `check`
    in its strictest form, and fits the engines."""
    small = beside.engine("org/Llama-3-8B-Instruct", "llama-3-8b/A10G")
    large = beside.engine("org/Llama-3-8B-Instruct", loras=["sql"])
    twin = beside.engine("org/Llama-3-8B-Instruct", loras=["sql"])

    made = run("init", f"{small}=a10g", f"{large}/v1/", twin, "--gpu", "H100")
    checked = run("check", "--strict", "--connect")

    assert made.exit_code == 0, made.stderr
    assert checked.exit_code == 0, checked.stderr
    loaded = load(tmp_path / "cuvee.yaml")
    assert {name: pool.backends for name, pool in loaded.config.pools.items()} == {
        "a10g": (small,),
        "h100": (large, twin),
    }
    model = loaded.config.models["org/Llama-3-8B-Instruct"]
    assert (model.adapters, loaded.config.pools["h100"].engine) == (("sql",), "vllm")
    assert "assumed: org/Llama-3-8B-Instruct: a promise of TTFT 2 s" in made.stdout
    assert (tmp_path / "cuvee.yaml").read_text().startswith("# yaml-language-server: $schema=/")


@pytest.mark.parametrize("context", [4096, 32768])
def test_another_context_than_the_built_in_profile_has_a_profile_of_its_own(
    run, beside, tmp_path, context
):
    """Else the gateway would refuse what the engine can do, or `check` what was written."""
    url = beside.engine("Qwen3-8B", "qwen3-8b/H100", context=context)

    made = run("init", f"{url}=H100")
    checked = run("check", "--connect")

    assert made.exit_code == 0, made.stderr
    assert checked.exit_code == 0, checked.stdout
    assert load(tmp_path / "cuvee.yaml").pools[0].profile.max_model_len == context
    assert (tmp_path / "profiles" / "h100.yaml").is_file()


def test_a_file_that_is_there_stays(run, beside, tmp_path):
    """Unless it is said that it may go; and then nothing was asked before."""
    (tmp_path / "cuvee.yaml").write_text("mine")

    refused = run("init", "http://127.0.0.1:1=H100")
    kept = (tmp_path / "cuvee.yaml").read_text()
    url = beside.engine("Llama-3-8B")
    forced = run("init", f"{url}=H100", "--force")

    assert (refused.exit_code, kept, forced.exit_code) == (1, "mine", 0)
    assert "--force" in refused.stderr
    assert load(tmp_path / "cuvee.yaml").pools


def test_a_profile_that_is_there_stays(run, beside, tmp_path):
    """It may be measured, and belong to another configuration. Its own text is written again."""
    url = beside.engine("Qwen3-8B", "qwen3-8b/H100", context=32768)
    profile = tmp_path / "profiles" / "h100.yaml"
    profile.parent.mkdir()
    profile.write_text("mine")

    refused = run("init", f"{url}=H100")
    kept, alone = profile.read_text(), not (tmp_path / "cuvee.yaml").exists()
    forced = run("init", f"{url}=H100", "--force")
    again = run("init", f"{url}=H100", "--out", "other.yaml")

    assert (refused.exit_code, kept, alone) == (1, "mine", True)
    assert "profiles/h100.yaml; --force" in refused.stderr
    assert (forced.exit_code, again.exit_code) == (0, 0), again.stderr
    assert "written: cuvee.yaml, profiles/h100.yaml; next:" in forced.stdout
    assert load(tmp_path / "other.yaml").pools


def test_a_mistake_names_the_file_that_was_wanted(run, beside, tmp_path):
    """Not the place where it was tried."""
    url = beside.engine("Llama-3-8B")

    result = run("init", f"{url}=H100", "--out", "a4.json")

    assert result.exit_code == 1
    assert "Error: a4.json" in result.stderr
    assert "cuvee-init" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_looked_at(run):
    """One line with the reason, and no traceback."""
    result = run("init", "http://127.0.0.1:1=H100", "--out", "a" * 300 + ".yaml")

    assert result.exit_code == 1
    assert "Error: aaa" in result.stderr
    assert "File name too long" in result.stderr


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("http://127.0.0.1:1=H100", "no  http://127.0.0.1:1  "),
        ("127.0.0.1:8000=H100", "must start with http://"),
        ("http://127.0.0.1:1=H1000", "did you mean H100"),
    ],
)
def test_what_cannot_be_asked_leaves_nothing(run, word, text, tmp_path):
    """One line says why."""
    result = run("init", word, "--timeout", 2)

    assert result.exit_code in (1, 2)
    assert text in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_who_is_not_asked_must_say_the_gpu(run, beside, tmp_path):
    """Nobody is there to be asked: the line says what to give, and which GPU it may be."""
    url = beside.engine("Llama-3-8B")

    result = run("init", url)

    assert result.exit_code == 2
    assert f"{url}=GPU" in result.stderr
    assert "H100" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_ones_own_needs_its_origin(run, beside, tmp_path):
    """By a name, or by the path of a `config.json`, from any folder."""
    url = beside.engine("our-finetune")

    refused = run("init", f"{url}=H100")
    given = run("init", f"{url}=H100", "--weights", "Llama-3-8B")

    assert refused.exit_code == 2
    assert "--weights" in refused.stderr
    assert given.exit_code == 0
    loaded = load(tmp_path / "cuvee.yaml")
    assert list(loaded.config.models) == ["our-finetune"]
    assert loaded.pools[0].profile.model == "Llama-3-8B"


def test_a_name_cannot_steer_the_terminal(run, beside, tmp_path):
    """What an engine calls its model is printed without its control characters."""
    url = beside.engine("Llama-3-8B\x1b[31m\npools:")

    refused = run("init", f"{url}=H100")
    made = run("init", f"{url}=H100", "--weights", "Llama-3-8B")

    assert "the name must be printable" in made.stderr
    assert list(tmp_path.iterdir()) == []
    assert "serves `'Llama-3-8B\\x1b[31m\\npools:'`" in refused.stderr
    for result in (refused, made):
        assert "\x1b" not in result.output
        assert "\npools:" not in result.output


def test_a_gpu_that_it_can_hardly_have_is_told(run, beside):
    """By the tokens of KV that fit."""
    url = beside.engine("Llama-3-8B")

    result = run("init", f"{url}=A10G")

    assert "a10g: A10G, though 449,088 tokens of KV fit into the engine" in result.stdout


def test_a_gpu_without_a_price_gets_one_to_be_changed(run, beside, tmp_path):
    """And its line in what was assumed."""
    url = beside.engine("Llama-3-8B")

    result = run("init", f"{url}=MI300X")

    assert result.exit_code == 0, result.stderr
    assert "ASSUMED" in (tmp_path / "cuvee.yaml").read_text()
    assert "mi300x: $1.00/h, because no price list has MI300X" in result.stdout


def test_the_key_stays_in_the_environment(run, beside, tmp_path, monkeypatch):
    """The file names the variable."""
    url = beside.engine("Llama-3-8B", api_key="sesame")
    monkeypatch.setenv("CUVEE_API_KEY", "sesame")

    without = run("init", f"{url}=H100", "--api-key", "wrong")
    made = run("init", f"{url}=H100")

    assert (without.exit_code, made.exit_code) == (1, 0)
    assert "asks for a key" in without.stderr
    text = (tmp_path / "cuvee.yaml").read_text()
    assert "sesame" not in text
    assert yaml.safe_load(text)["pools"]["h100"]["api_key_env"] == "CUVEE_API_KEY"
    assert "export" not in made.stdout


def test_a_key_of_the_command_must_get_into_the_environment(run, beside, monkeypatch):
    """Else the next step fails. The key itself is not printed."""
    monkeypatch.delenv("CUVEE_API_KEY", raising=False)
    url = beside.engine("Llama-3-8B", api_key="sesame")

    made = run("init", f"{url}=H100", "--api-key", "sesame")

    steps = made.stdout.partition("next:\n")[2].splitlines()
    assert [step.split()[0] for step in steps] == ["export", "cuvee", "cuvee"]
    assert steps[0].startswith("  export CUVEE_API_KEY=…")
    assert "sesame" not in made.output


def test_a_promise_may_be_given(run, beside, tmp_path):
    """With the default for the half that is not."""
    url = beside.engine("Llama-3-8B")

    assert run("init", f"{url}=H100", "--ttft", 1).exit_code == 0
    [one] = load(tmp_path / "cuvee.yaml").buckets.classes
    assert (one.slo.ttft_s, one.slo.tpot_s) == (1.0, 0.1)


class KubeDouble(BaseHTTPRequestHandler):
    """Two objects of a Kubernetes API: a list of one pod, and its node."""

    objects: ClassVar[dict[str, object]] = {}

    def do_GET(self):
        found = self.objects.get(self.path.partition("?")[0])
        body = json.dumps(found or {"kind": "Status", "message": "not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def kube(beside):
    """The URL of such an API, whose pod is an emulated engine; nodes: whether they can be read."""
    port = beside.engine("Llama-3-8B").rpartition(":")[2]
    pod = {
        "metadata": {"name": "vllm-0", "labels": {"app": "vllm", "model.aibrix.ai/port": port}},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {
            "phase": "Running", "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }  # fmt: skip
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    objects = {
        "/api/v1/namespaces/models/pods": {"metadata": {}, "items": [pod]},
        "/api/v1/nodes/node-1": {"metadata": {"name": "node-1", "labels": labels}},
    }
    handler = type("OwnKubeDouble", (KubeDouble,), {"objects": objects})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", objects
        server.shutdown()


def test_engines_in_kubernetes_are_found_by_a_label(run, kube, tmp_path):
    """The file follows the label; the node's label has told the GPU, so that it is read too."""
    url, _ = kube
    found = ["init", "--selector", "app=vllm", "--namespace", "models", "--api-server", url]

    made = run(*found)
    checked = run("check", "--connect")

    assert made.exit_code == 0, made.stderr
    assert "h100" in checked.stdout
    [pool] = load(tmp_path / "cuvee.yaml").config.pools.values()
    assert pool.discover is not None
    section = pool.discover.kubernetes
    assert section is not None
    assert (section.selector, section.namespace, section.nodes) == ("app=vllm", "models", True)
    assert pool.backends == ()


def test_without_rights_on_nodes_the_gpu_must_be_said(run, kube, tmp_path):
    """And the gateway will not ask for what it may not have."""
    url, objects = kube
    del objects["/api/v1/nodes/node-1"]
    found = ["init", "--selector", "app=vllm", "--namespace", "models", "--api-server", url]

    refused, made = run(*found), run(*found, "--gpu", "H100")

    assert (refused.exit_code, made.exit_code) == (2, 0)
    [pool] = load(tmp_path / "cuvee.yaml").config.pools.values()
    assert pool.discover is not None
    assert pool.discover.kubernetes is not None
    assert not pool.discover.kubernetes.nodes


def test_a_label_that_no_pod_has(run, kube, tmp_path):
    """Exit code 1, and nothing is written."""
    url, objects = kube
    objects["/api/v1/namespaces/models/pods"]["items"].clear()

    result = run("init", "--selector", "a=b", "--namespace", "models", "--api-server", url)

    assert result.exit_code == 1
    assert "0 pods, none of them serves" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_person_is_asked(beside, tmp_path):
    """On a terminal: once for engines of one kind, with what it seems to be as the default, and
    again after a name that is none."""
    urls = [beside.engine("Llama-3-8B") for _ in range(2)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cuvee", "init", *urls],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    answers = [b"H1000\n", b"\n"]
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if seen.count(b"GPU, as H100 or 2xH100") > 2 - len(answers):
            os.write(ours, answers.pop(0))

    assert process.wait(20) == 0, seen
    assert b"did you mean H100" in seen
    [pool] = load(tmp_path / "cuvee.yaml").config.pools.values()
    assert pool.backends == tuple(urls)

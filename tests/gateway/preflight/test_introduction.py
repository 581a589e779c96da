"""What engines say of themselves, by the answers of each kind."""

import msgspec
import pytest

from gateway.preflight.introduction import Introduced, introduced
from gateway.preflight.verdict import HttpAnswer
from planner.engine.limits import EngineLimits

URL = "http://engine:8000"
PATHS = ("/v1/models", "/metrics", "/version", "/get_server_info", "/info")


def said(**answers: object) -> Introduced:
    """What is understood of answers, by the last word of their paths; the others are 404."""
    found = dict.fromkeys(PATHS, HttpAnswer(404))
    for name, value in answers.items():
        path = next(path for path in PATHS if path.endswith(f"/{name}"))
        body = value if isinstance(value, bytes) else msgspec.json.encode(value)
        found[path] = HttpAnswer(200, body)
    return introduced(URL, found)


def models(*entries: dict[str, object]) -> dict[str, object]:
    return {"object": "list", "data": list(entries)}


def test_vllm_with_an_adapter():
    """The base is the model whatever comes first; what has a parent is an adapter."""
    page = b'# HELP x\nvllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
    found = said(
        models=models(
            {"id": "sql", "root": "/loras/sql", "parent": "chat"},
            {"id": "chat", "root": "org/Qwen3-8B", "parent": None, "max_model_len": 4096},
        ),
        metrics=page,
        version={"version": "0.11.0"},
    )

    assert found == Introduced(
        url=URL, engine="vllm", version="0.11.0", model="chat", weights="org/Qwen3-8B",
        adapters=("sql",), limits=EngineLimits(context=4096, kv_tokens=1600),
    )  # fmt: skip


def test_sglang_without_metrics():
    """It needs a flag for them; who owns its models says what it is."""
    info = {
        "version": "0.5.1", "model_path": "org/Llama-3-8B", "context_length": 8192,
        "max_total_num_tokens": 5000, "max_running_requests": 64,
    }  # fmt: skip
    found = said(models=models({"id": "m", "owned_by": "sglang"}), get_server_info=info)

    assert (found.engine, found.version, found.weights) == ("sglang", "0.5.1", "org/Llama-3-8B")
    assert found.limits == EngineLimits(context=8192, kv_tokens=5000, sequences=64)


def test_tgi():
    """Its object has all."""
    info = {"version": "3.3.6", "model_id": "org/x", "max_total_tokens": 4096}
    found = said(models=models({"id": "org/x"}), metrics=b"tgi_batch_current_size 0\n", info=info)

    assert (found.engine, found.version) == ("tgi", "3.3.6")
    assert found.limits.context == 4096


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"<html>", "answered no list of models"),
        (models(), "answered an empty list of models"),
        (models({"id": "m", "owned_by": "cuvee"}), "is a Cuvée gateway"),
    ],
)
def test_what_is_no_engine(body: object, fault: str):
    """A line says what it is instead."""
    assert fault in str(said(models=body).fault)


def test_who_does_not_answer():
    """The reason is that of the path with the models."""
    answers = dict.fromkeys(PATHS, HttpAnswer(0, fault="cannot be reached"))
    asked = dict.fromkeys(PATHS, HttpAnswer(401))

    assert introduced(URL, answers).fault == "cannot be reached"
    assert "--api-key" in str(introduced(URL, asked).fault)

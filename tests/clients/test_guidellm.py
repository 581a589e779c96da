"""GuideLLM: a short load by each API that it has and Cuvée serves."""

import json

import pytest

REQUESTS = 12
OUTPUT = 8


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
# Of 0.8.1, `/v1/completions` sends no request at all, to an engine itself neither.
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/responses"], ids=["chats", "responses"]
)
def test_a_load(command, gateway, tokenizer, tally, tmp_path, path, stream):
    """None failed, and the tokens are those that it wanted, by the gateway's count."""
    backend = {
        "kind": "openai_http", "target": gateway.url, "model": gateway.model, "api_key": "sk-a",
        "request_format": path, "stream": stream,
    }  # fmt: skip
    data = {"kind": "synthetic_text", "prompt_tokens": 50, "output_tokens": OUTPUT}
    command(
        "guidellm", "run", "--backend", json.dumps(backend),
        "--profile", json.dumps({"kind": "concurrent", "streams": [4]}),
        "--constraint", json.dumps({"kind": "max_requests", "count": REQUESTS}),
        "--tokenizer", json.dumps({"kind": "hf_auto", "model": str(tokenizer)}),
        "--data", json.dumps(data),
        "--output", json.dumps({"kind": "json", "path": str(tmp_path / "report.json")}),
        "--disable-console", GUIDELLM__MAX_WORKER_PROCESSES="1",
    )  # fmt: skip
    [benchmark] = json.loads((tmp_path / "report.json").read_text())["benchmarks"]

    ended = benchmark["metrics"]["request_totals"]
    assert (ended["successful"], ended["errored"]) == (REQUESTS, 0)
    tally.reach(completed=REQUESTS, output=REQUESTS * OUTPUT)

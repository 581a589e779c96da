"""`vllm bench serve`: a short load by each API that it has and Cuvée serves."""

import json
import sys

import pytest

REQUESTS = 12
OUTPUT = 8
ASIDE = 1  # call of `/tokenize` before the load


@pytest.mark.parametrize(
    ("backend", "path"),
    [("openai-chat", "/v1/chat/completions"), ("openai", "/v1/completions")],
    ids=["chats", "completions"],
)
def test_a_load(command, gateway, tokenizer, tally, tmp_path, backend, path):
    """Nothing failed, and its own count of tokens is the gateway's."""
    command(
        sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", backend,
        "--base-url", gateway.url, "--endpoint", path, "--model", gateway.model, "--tokenizer",
        tokenizer, "--dataset-name", "random", "--random-input-len", 50, "--random-output-len",
        OUTPUT, "--random-range-ratio", 0, "--num-prompts", REQUESTS, "--max-concurrency", 4,
        "--ignore-eos", "--save-result", "--result-filename", tmp_path / "result.json",
        "--disable-tqdm", VLLM_NO_USAGE_STATS="1",
    )  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())

    assert (result["completed"], result["failed"]) == (REQUESTS, 0)
    assert result["total_output_tokens"] == REQUESTS * OUTPUT
    tally.reach(
        completed=REQUESTS + ASIDE,
        others=0,
        input=result["total_input_tokens"],
        output=REQUESTS * OUTPUT,
    )


def test_embeddings(command, gateway, tokenizer, tally, tmp_path):
    command(
        sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend",
        "openai-embeddings", "--base-url", gateway.url, "--endpoint", "/v1/embeddings", "--model",
        gateway.model, "--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len",
        50, "--num-prompts", REQUESTS, "--save-result", "--result-filename",
        tmp_path / "result.json", "--disable-tqdm", VLLM_NO_USAGE_STATS="1",
    )  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text())

    assert result["completed"] == REQUESTS
    tally.reach(completed=REQUESTS + ASIDE, others=0, input=result["total_input_tokens"])

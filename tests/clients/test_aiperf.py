"""NVIDIA's AIPerf: a short load by each API that it has and Cuvée serves."""

import json
import shutil

import pytest

REQUESTS = 12
OUTPUT = 8


@pytest.fixture
def hub(tokenizer, tmp_path):
    """A cache of the Hugging Face hub that has the tokenizer: offline, AIPerf takes no folder."""
    revision = "0" * 40
    kept = tmp_path / "hub" / "models--tests--words"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(revision)
    shutil.copytree(tokenizer, kept / "snapshots" / revision)
    return tmp_path / "hub"


@pytest.fixture
def profile(command, gateway, hub, tmp_path):
    """Runs `aiperf profile`, says its report."""

    def run(kind, *options):
        command(
            "aiperf", "profile", "--model", gateway.model, "--url", gateway.url, "--endpoint-type",
            kind, "--api-key", "sk-a", "--tokenizer", "tests/words", "--request-count", REQUESTS,
            "--concurrency", 4, "--synthetic-input-tokens-mean", 50,
            "--synthetic-input-tokens-stddev", 0, "--use-server-token-count", "--random-seed", 1,
            "--ui", "simple", "--artifact-dir", tmp_path / "out", *options,
            HF_HUB_CACHE=str(hub),
        )  # fmt: skip
        [path] = (tmp_path / "out").rglob("profile_export_aiperf.json")
        return json.loads(path.read_text())

    return run


@pytest.mark.parametrize(
    ("kind", "streaming"),
    [("chat", True), ("chat", False), ("completions", True), ("responses", True)],
    ids=["chats streamed", "chats whole", "completions streamed", "responses streamed"],
)
def test_a_load(profile, tally, kind, streaming):
    """Nothing failed, and its own count of tokens is the gateway's."""
    report = profile(
        kind,
        *(["--streaming"] if streaming else []),
        "--output-tokens-mean", str(OUTPUT), "--output-tokens-stddev", "0",
        "--extra-inputs", "ignore_eos:true",
    )  # fmt: skip

    assert report["request_count"]["avg"] == REQUESTS
    assert report.get("error_request_count") is None
    assert report["output_sequence_length"]["avg"] == OUTPUT
    tally.reach(completed=REQUESTS, others=0, output=REQUESTS * OUTPUT)

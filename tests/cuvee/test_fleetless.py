"""`cuvee plan` for a model and a promise, without a configuration, as a user runs it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cuvee.plan import plan
from planner import shipped

SMALL = ("--seeds", 2, "--requests", 300, "--rate", 3)
PROMISE = ("--ttft", 2, "--tpot", 0.06)
CHAT = ("--model", "qwen3-8b", *PROMISE, "--workload", "chat")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """A folder without a cuvee.yaml."""
    monkeypatch.chdir(tmp_path)


def run(*arguments) -> Result:
    return CliRunner().invoke(plan, [str(a) for a in arguments])


@pytest.mark.long
def test_an_empty_folder_is_enough():
    """The fleet, its certificate, its price per token, and every GPU type that could serve."""
    result = run(*CHAT, *SMALL)

    assert result.exit_code == 0
    for word in (
        "Qwen3-8B", "fleet: $", "certified", "best certified single type", "per million tokens",
        "output tokens", "at full use", "H100", "not considered",
    ):  # fmt: skip
        assert word in result.stdout


@pytest.mark.long
def test_the_same_as_json():
    """All figures, with what could not be used and why."""
    body = json.loads(run(*CHAT, *SMALL, "--json").stdout)

    assert body["served"] is True
    assert body["model"] == "Qwen3-8B"
    assert body["certificate"]["holds"] is True
    assert body["requests_per_s"] == pytest.approx(3.0)
    assert body["usd_per_hour"] <= body["single_types"][body["best_single_type"]]["usd_per_hour"]
    assert 0 <= body["saving"] < 1
    assert body["cost"]["usd_per_million"] < body["cost"]["usd_per_million_output"]
    assert "does not fit" in body["left_out"]["T4"]
    assert sum(body["fleet"].values()) > 0


def test_a_trace_a_config_json_and_a_price_list_of_one_s_own(tmp_path):
    """Nothing of it has to ship: only the GPUs of the list are rented."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096,
                "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
                "intermediate_size": 14336, "tie_word_embeddings": False,
                "max_position_embeddings": 8192,
            }
        )
    )  # fmt: skip
    (tmp_path / "own.yaml").write_text(
        "format: cuvee-prices/1\nusd_per_gpu_hour:\n"
        "  H100: {usd: 2.5, source: offer, region: here, date: 2026-01-01}\n"
    )
    rows = "".join(f"{n / 2},{200 + n},{50 + n}\n" for n in range(100))
    (tmp_path / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    result = run(
        "--model", "mine/config.json", *PROMISE, "--trace", "trace.csv", "--prices", "own.yaml",
        *SMALL, "--json",
    )  # fmt: skip
    body = json.loads(result.stdout)

    assert body["model"] == "mine"
    assert body["fleet"] == {"H100": 1}
    assert body["usd_per_hour"] == 2.5


@pytest.mark.long
def test_what_cannot_be_served_stands_first(tmp_path):
    """Prompts beyond the context of the model: no fleet keeps the promise for them."""
    rows = "".join(f"{n / 2},{200 if n % 2 else 30_000},50\n" for n in range(100))
    Path("long.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    arguments = ("--model", "llama-3-8b", *PROMISE, "--trace", "long.csv", *SMALL)
    body = json.loads(run(*arguments, "--json").stdout)

    assert run(*arguments).stdout.startswith("NOT SERVED")
    assert next(iter(body)) == "served"
    assert body["served"] is False
    assert body["saving"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((*PROMISE, "--workload", "chat"), 2, "--model is needed"),
        (("--model", "qwen3-8b", "--workload", "chat", "--ttft", 2), 2, "--tpot are needed"),
        (("--model", "qwen3-8b", *PROMISE), 2, "--trace or --workload"),
        ((*CHAT, "--trace", "x.csv"), 2, "one of them"),
        ((*CHAT, "--diff"), 3, "need a configuration"),
        (("--model", "qwen9-8b", *PROMISE, "--workload", "chat"), 1, "did you mean"),
        (("--model", "qwen3-8b", *PROMISE, "--workload", "chatter"), 1, "did you mean chat?"),
        ((*CHAT, "--prices", "aws"), 1, "did you mean aws-2026-07?"),
        ((*CHAT, "--attainment", 99), 1, "attainment must be in"),
        (("--model", "qwen3-8b", "--ttft", 2, "--tpot", 60, "--workload", "chat"), 1, "60 ms"),
        (("--model", "no/config.json", *PROMISE, "--workload", "chat"), 1, "cannot be read"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(arguments, code, text):
    """No traceback, and the name that may have been meant."""
    result = run(*arguments)

    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.output


def test_a_configuration_is_not_passed_over():
    """Where there is a cuvee.yaml, options that stand in place of one are refused."""
    Path("cuvee.yaml").write_text((shipped.folder() / "demo.yaml").read_text())
    result = run(*CHAT)

    assert result.exit_code == 2
    assert "there is cuvee.yaml" in result.stderr

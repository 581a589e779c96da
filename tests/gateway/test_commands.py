"""`cuvee check` and `cuvee plan`, as a user runs them."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from gateway.commands import check, plan, serve

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"


@pytest.fixture
def config(tmp_path):
    raw = {
        "prices": str(CONFIGS / "prices.yaml"),
        "models": {"llama-3-8b": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}},
        "pools": {
            gpu: {
                "model": "llama-3-8b",
                "profile": str(CONFIGS / "profiles" / f"llama-3-8b-{gpu}.yaml"),
                "backends": [f"http://127.0.0.1:{port}"],
                "max_backends": 8,
            }
            for gpu, port in (("a10g", 9000), ("h100", 9001))
        },
    }
    file = tmp_path / "cuvee.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


@pytest.fixture
def trace(tmp_path):
    file = tmp_path / "trace.csv"
    sizes = [(150 + 37 * n % 900, 20 + 13 * n % 250) for n in range(300)]
    rows = [f"{n * 0.2:.1f},{i},{o},k{n % 3}" for n, (i, o) in enumerate(sizes)]
    file.write_text("\n".join(["arrival_s,input_tokens,output_tokens,key", *rows]) + "\n")
    return file


def run(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_check_accepts_a_good_file(config):
    """Exit code 0, and in one line what the gateway would serve."""
    result = run(check, "--config", config)

    assert result.exit_code == 0
    assert "1 models, 2 pools, 2 backends" in result.output


def test_check_refuses_with_2_and_a_line_each(config):
    """One line per problem on stderr, nothing on stdout."""
    raw = yaml.safe_load(config.read_text())
    raw["pools"]["a10g"]["usd_per_hour"] = -1
    raw["pools"]["h100"]["profile"] = "missing.yaml"
    config.write_text(yaml.safe_dump(raw))

    result = run(check, "--config", config)

    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("pools.a10g.usd_per_hour: ")
    assert lines[1].startswith("pools.h100.profile: ")


@pytest.mark.parametrize("command", [plan, serve], ids=["plan", "serve"])
def test_other_commands_refuse_a_bad_file_alike(command, tmp_path, trace):
    """Nothing starts with a configuration that `check` refuses."""
    more = ["--trace", trace] if command is plan else []

    result = run(command, "--config", tmp_path / "no.yaml", *more)

    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_plan_as_json(config, trace):
    """Everything that the plan is, and each single GPU type for the same demand."""
    result = run(plan, "--config", config, "--trace", trace, "--rate", 6, "--json")
    found = json.loads(result.stdout)

    assert result.exit_code == 0
    assert found.keys() >= {
        "plan_id", "usd_per_hour", "lower_bound_usd_per_hour", "gap", "solve_s", "backends",
        "buckets", "weights", "load", "single_types",
    }  # fmt: skip
    assert set(found["backends"]) == {"a10g", "h100"}
    assert set(found["single_types"]) == {"A10G", "H100"}
    assert found["lower_bound_usd_per_hour"] <= found["usd_per_hour"]
    able = [s["usd_per_hour"] for s in found["single_types"].values() if s["usd_per_hour"]]
    assert found["usd_per_hour"] <= min(able) + 1e-6
    assert found["requests_per_s"] == pytest.approx(6.0)


def test_plan_for_people(config, trace):
    """Cost, backends and shares in tables."""
    result = run(plan, "--config", config, "--trace", trace)

    assert result.exit_code == 0
    for word in ("a10g", "h100", "backends", "/h", "on one GPU type", "lower bound"):
        assert word in result.stdout


@pytest.mark.parametrize("rate", [0, -1, "nan", "inf"])
def test_plan_refuses_an_impossible_rate(config, trace, rate):
    """One line, no traceback."""
    result = run(plan, "--config", config, "--trace", trace, "--rate", rate)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_plan_names_the_line_of_a_bad_trace(config, tmp_path):
    """The first bad row is told by its number."""
    bad = tmp_path / "bad.csv"
    bad.write_text("arrival_s,input_tokens,output_tokens\n0,5,5\n1,x,5\n")

    result = run(plan, "--config", config, "--trace", bad)

    assert result.exit_code == 1
    assert "bad.csv:3:" in result.stderr


@pytest.mark.parametrize("command", [check, plan, serve])
def test_help_suffices(command):
    """Every option is explained."""
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--config" in result.output

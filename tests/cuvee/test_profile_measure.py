"""`cuvee profile measure`, as a user runs it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.profile import profile
from gateway.config.load import load
from planner.engine.profiles import read_profile

CONFIG = """
models:
  llama-3-8b: {slo: {ttft_s: 2.0, tpot_s: 0.04}}
prices: aws-2026-07
pools:
  own: {model: llama-3-8b, profile: own.yaml, backends: ["http://127.0.0.1:1"]}
"""


def run(*arguments: object):
    return CliRunner().invoke(profile, ["measure", *map(str, arguments)])


@pytest.mark.long
def test_an_emulated_engine_is_measured_and_judged(tmp_path: Path):
    """A line per load with the time left; the error of the fit; n* beside the engine's own; and a
    profile that a configuration can name."""
    out = tmp_path / "own.yaml"

    result = run("--emulated", "llama-3-8b/H100", "--tpot", "0.04", "--out", out)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "1 users" in lines[0]
    assert "min left" in lines[0]
    assert any("the last size moved n* of no size" in line for line in lines)
    assert any(line.startswith("fitted to") and "median error" in line for line in lines)
    assert "the engine itself" in result.output
    found = read_profile(out)
    assert (found.origin, found.gpu, found.model) == ("measured", "H100", "Llama-3-8B")
    assert list(tmp_path.iterdir()) == [out]
    (tmp_path / "cuvee.yaml").write_text(CONFIG)
    (pool,) = load(tmp_path / "cuvee.yaml").pools
    assert pool.profile.calibration == found.calibration


@pytest.mark.long
def test_a_spent_budget_leaves_a_profile_and_a_way_on(tmp_path: Path):
    """Too few loads for a profile at first, then one; each run says from where it goes on."""
    out = tmp_path / "own.yaml"
    arguments = ("--emulated", "llama-3-8b/H100", "--tpot", "0.04", "--out", out)

    first = run(*arguments, "--budget", "0.5")
    assert first.exit_code == 1
    assert "too little for a profile: it takes at least 12 loads: there are " in first.output
    assert first.output.endswith(". The same command goes on\n")
    second = run(*arguments, "--budget", "7")
    assert second.exit_code == 0
    assert "goes on after" in second.output
    assert "the budget of 7 min is spent" in second.output
    assert out.exists()
    fresh = run(*arguments, "--fresh", "--budget", "0.5")
    assert "goes on after" not in fresh.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --url or --emulated"),
        (("--url", "http://127.0.0.1:1"), "--gpu says on which GPU"),
        (("--url", "http://127.0.0.1:1", "--gpu", "H100"), "127.0.0.1:1/v1/models"),
        (("--emulated", "llama-3-8b/H99"), "H99"),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...], words: str, tmp_path: Path):
    """In one line, before anything is sent."""
    result = run(*arguments, "--out", tmp_path / "own.yaml")

    assert result.exit_code != 0
    assert words in result.output

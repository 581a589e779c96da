"""`cuvee overhead`: its options, its tables and what it writes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee import overhead
from gateway import runtime
from loadtest.overhead.scenarios import OverheadOptions

SHORT = (
    *("--peer", "none", "--rounds", "1", "--window", "0.2", "--warmup", "0.1"),
    *("--connections", "2", "--rate", "0", "--load", "0", "--streams", "0"),
)


def test_the_command_is_usable_from_its_help():
    """Every peer and every default is named."""
    result = CliRunner().invoke(overhead.overhead, ["--help"])

    assert result.exit_code == 0
    for part in ("haproxy", "nginx", "vllm-router", "sglang-router", "litellm", "production-stack"):
        assert part in result.output


@pytest.mark.long
def test_a_run_prints_its_tables_and_writes_every_run(tmp_path: Path):
    """A single scenario without peers: what is chosen is all that is measured."""
    path = tmp_path / "overhead.json"

    result = CliRunner().invoke(overhead.overhead, [*SHORT, "--json", str(path)])

    assert result.exit_code == 0, result.output
    written = json.loads(path.read_text())
    assert {m["setup"] for m in written["measures"]} == {"direct", "cuvee"}
    assert [r["scenario"] for r in written["rows"]] == ["1 KiB × 2"] * 2
    assert written["idle_mib"]["cuvee"] > 10
    assert "1 KiB × 2" in result.output
    assert f"cuvee: {runtime.runtime()}" in result.output


@pytest.mark.parametrize("pair", ["haproxy", "nobody=/bin/sh", "haproxy=/no/such/file"])
def test_a_path_that_leads_nowhere_is_refused(pair: str):
    """Before anything is started."""
    result = CliRunner().invoke(overhead.overhead, ["--peer-path", pair])

    assert result.exit_code == 2
    assert "NAME=PATH" in result.output


@pytest.mark.skipif(not runtime.compiled(), reason="the data path is interpreted")
def test_a_profile_is_of_what_is_interpreted(tmp_path: Path):
    """The profiler sees Python's frames."""
    result = CliRunner().invoke(overhead.overhead, ["--profile", str(tmp_path)])

    assert result.exit_code == 2
    assert "make interpreted" in result.output


def test_a_profile_is_of_one_worker(tmp_path: Path):
    """The profiler runs in the process that is started, not in those that it starts."""
    options = ["--workers", "2", "--profile", str(tmp_path)]

    result = CliRunner().invoke(overhead.overhead, options)

    assert result.exit_code == 2
    assert "--workers 1" in result.output


def test_the_conditions_are_stated():
    """Figures without machine, versions, cores and options are worth nothing."""
    stated = json.loads(json.dumps(overhead.conditions(OverheadOptions(workers=1))))

    assert stated["options"]["connections"] == [1, 64]
    assert {"proxy", "backend", "load"} == stated["cores"].keys()
    assert stated["python"].startswith("3.")
    assert stated["data_path"] in ("compiled", "interpreted")
    assert stated["libraries"]["uvloop"]

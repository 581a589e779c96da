"""`cuvee certify`: its options, its table and its JSON."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cuvee.certify import certify, sources
from planner.errors import InvalidValue

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODEL = "llama-3-8b"


def test_the_command_prints_a_table_and_json(tmp_path: Path):
    """`cuvee certify`: fleets with attainment and interval; the same as JSON."""
    raw = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    raw["pools"] = {n: p for n, p in raw["pools"].items() if n != "a10g"}
    raw["planner"] = {}
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(raw))
    arguments = [
        "--config", str(path), "--trace", str(CONFIGS / "workloads" / "azure-2023-history.csv"),
        "--rate", "3", "--requests", "150", "--seeds", "2", "--arrivals", "poisson",
    ]  # fmt: skip

    shown = CliRunner().invoke(certify, arguments)
    printed = CliRunner().invoke(certify, [*arguments, "--json"])

    body = json.loads(printed.stdout)
    assert shown.exit_code == 0
    assert "refined" in shown.output
    assert set(body["single_types"]) == {"A100-80G", "H100"}
    assert body["refined"]["usd_per_hour"] <= body["plan"]["usd_per_hour"]


def test_traces_are_named_by_model_and_class(shared, tmp_path):
    """A plain file is the first model's; an unknown name is refused with the known ones."""
    file = CONFIGS / "workloads" / "azure-2023-history.csv"
    odd = tmp_path / "a=b.csv"
    odd.write_bytes(file.read_bytes())

    named = sources((str(odd), f"{MODEL}:batch={file}", f"other={file}"), shared)

    assert [(s.model, s.slo_class) for s in named] == [
        (MODEL, "default"), (MODEL, "batch"), ("other", "default")
    ]  # fmt: skip
    with pytest.raises(InvalidValue, match=f"unknown `gold`; known are .*{MODEL}:batch"):
        sources((f"gold={file}",), shared)
    with pytest.raises(InvalidValue, match=f"`{MODEL} batch` is given twice"):
        sources((f"{MODEL}:batch={file}",) * 2, shared)

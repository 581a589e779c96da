"""`cuvee foresight`: its table and its JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.foresight import foresight

CONFIG = Path(__file__).resolve().parents[2] / "configs/demo.yaml"
HISTORY = Path(__file__).resolve().parents[2] / "configs/workloads/azure-2023-history.csv"


def test_the_command_prints_all_predictors():
    """A table with ours first and the random draw as the unit."""
    result = CliRunner().invoke(foresight, ["--trace", str(HISTORY)])

    assert result.exit_code == 0
    assert "Cuvée" in result.output
    assert "1.00" in result.output


def test_the_command_compares_attainment_as_json():
    """With a configuration: both attainments, the plan, and the points between them."""
    arguments = ["--trace", str(HISTORY), "--config", str(CONFIG), "--no-keys", "--json"]

    result = CliRunner().invoke(foresight, arguments)

    body = json.loads(result.stdout)
    assert result.exit_code == 0
    assert len(body["predictors"]) == 4
    assert body["attainment"]["points_lost"] == pytest.approx(
        100 * (body["attainment"]["true_lengths"] - body["attainment"]["learned_lengths"])
    )

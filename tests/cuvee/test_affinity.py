"""`cuvee affinity`: a table and JSON of hits and attainment, one clear line for what cannot be."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.affinity import affinity

DEMO = str(Path(__file__).resolve().parents[2] / "configs" / "demo.yaml")
MADE = ("--config", DEMO, "--made", "hot-prompt", "--rate", "4", "--seconds", "10")


def run(*arguments: str):
    return CliRunner().invoke(affinity, arguments)


def test_the_command_prints_a_table_and_json():
    """One row for each way."""
    ways = "--fleet", "a100=2", "--way", "cuvee", "--way", "hashing"

    table = run(*MADE, *ways)
    assert table.exit_code == 0, table.output
    assert "hit tokens" in table.output
    result = run(*MADE, *ways, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["ways"]
    assert [row["way"] for row in rows] == ["cuvee", "hashing"]
    assert all(0 <= row["hit_share"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", DEMO, "--fleet", "a100=1"), "either --trace or --made"),
        (("--config", DEMO, "--made", "hot-prompt", "--fleet", "a100=1"), "needs a --rate"),
        ((*MADE, "--fleet", "a100"), "not POOL=COUNT"),
        ((*MADE, "--fleet", "b200=1"), "the pools are"),
        ((*MADE, "--fleet", "a100=1", "--ttft", "0.000001"), "no pool can keep the promise"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments: tuple[str, ...], message: str):
    """One line that says what is wrong."""
    result = run(*arguments)

    assert result.exit_code != 0
    assert message in " ".join(result.output.split())

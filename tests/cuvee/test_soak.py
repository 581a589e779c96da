"""The command line of `soak`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee import main
from cuvee.soak import again, disagreeing
from loadtest.soak.account import Disagreement


@pytest.mark.long
def test_a_run_is_a_summary_for_people_and_json_for_programs(tmp_path: Path):
    """Two workers, one of which is killed, and the exit code says that all ledgers agree."""
    path = tmp_path / "soak.json"
    shown = CliRunner().invoke(
        main,
        ["soak", "--requests", "600", "--seconds", "10", "--workers", "2", "--deaths", "1",
         "--seed", "7", "--json", str(path)],
    )  # fmt: skip

    assert shown.exit_code == 0, shown.output
    assert "lost 0; done twice 0; mixed up 0; ok but not served 0" in shown.output
    values = json.loads(path.read_text())
    assert (values["options"]["seed"], values["deaths"], values["exit_status"]) == (7, 1, 0)
    assert sum(values["endings"].values()) == values["sent"] == 600


def test_a_death_needs_another_worker():
    """One mistake, one line, before anything is started."""
    shown = CliRunner().invoke(main, ["soak", "--deaths", "1"])

    assert shown.exit_code == 2
    assert "--workers 2" in shown.output


def test_disagreements_are_listed_by_kind():
    """The first ten of a kind, with the request, and how many are left."""
    odd = [Disagreement("lost", "no answer", n) for n in range(12)] + [Disagreement("gauge", "1")]

    told = disagreeing(odd).splitlines()

    assert told[0] == "lost (request 0): no answer"
    assert told[-2:] == ["gauge: 1", "and 2 more"]
    assert len(told) == 12


def test_it_says_how_to_run_it_again():
    """The same options, and the gateway's log is kept this time."""
    assert again(["cuvee", "soak", "--seed", "3"]) == "cuvee soak --seed 3 --log gateway.log"
    assert again(["cuvee", "soak", "--log", "x"]) == "cuvee soak --log x"

"""The command line of `overload`."""

import json

from click.testing import CliRunner

from cuvee import main


def test_a_case_is_a_table_for_people():
    """One row for each phase and each part of its requests."""
    shown = CliRunner().invoke(main, ["overload", "--case", "2 ×"])

    assert shown.exit_code == 0, shown.output
    assert "polite" in shown.output
    assert "then 0.7 ×" in shown.output


def test_a_case_is_json_for_programs():
    """The same figures, each phase with its load and length."""
    shown = CliRunner().invoke(main, ["overload", "--case", "1.0 ×", "--json"])

    (case,) = json.loads(shown.stdout)
    (phase,) = case["phases"]
    assert (case["case"], phase["load"], phase["seconds"]) == ("1.0 ×", 1.0, 300.0)
    assert {"all", "greedy", "polite"} == {group["group"] for group in phase["groups"]}

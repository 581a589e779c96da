"""The subcommand `torture` from outside."""

import json

import pytest
from click.testing import CliRunner

from cuvee.torture import torture


@pytest.mark.long
def test_hours_become_worlds_and_a_table():
    """A short world is played in a process of its own, and counted."""
    ran = CliRunner().invoke(torture, ["--hours", "0.02", "--seed", "5", "--json"])

    (world,) = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert world["seed"] == 5
    assert world["broken"] is None
    assert world["counts"]["requests"] > 0

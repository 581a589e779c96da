"""`cuvee scaling`: a table, or JSON, of who was short and at which cost."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from rich.console import Console

from cuvee.scaling import ramps_table, scaling, scores_table, sleep_table
from loadtest.compare.ramp import RampResult
from loadtest.compare.scaling import ScalingScore
from loadtest.compare.sleeping import SleepScore


def run(*arguments: str) -> str:
    result = CliRunner().invoke(scaling, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.long
def test_a_day_as_json_has_a_row_for_each_policy_and_quantile():
    """The clairvoyant first, to which the others are compared; then one row a quantile."""
    body = json.loads(run("--first-days", "1", "--backends", "3", "--quantile", "0.9", "--json"))

    assert [row["policy"] for row in body] == [
        "clairvoyant", "cuvee 0.9", "naive", "hpa", "static p99.9",
    ]  # fmt: skip
    assert all(0 <= row["short"] <= 1 and row["usd"] > 0 for row in body)


def printed(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def scored(policy: str, short: float, usd: float) -> ScalingScore:
    return ScalingScore(
        policy=policy, short=short, changes=12.4, starts=7.0, doubled=0.0, hours=(usd / 2,), usd=usd
    )


def test_hours_and_dollars_are_shown_over_those_of_who_knows_all():
    """The first row is the measure of the others."""
    text = printed(
        scores_table([scored("clairvoyant", 0, 200.0), scored("ours", 0.012, 230.0)], "")
    )

    assert "1.20%" in text
    assert text.count("1.150") == 2


def test_the_ramp_is_shown_in_seconds_and_gpus():
    """Refused requests, the times to the first token, and both counts of GPUs."""
    row = RampResult(
        policy="ours", requests=100, errors=0.01, ttft_s=(0.1, 0.2, 0.345),
        tpot_s=(0.01, 0.02, 0.03), met=0.99, gpus=5.2, served_gpus=4.5, most=(4, 1),
    )  # fmt: skip

    text = printed(ramps_table([row]))

    for value in ("1.00%", "0.20", "0.34", "20", "4.50", "5.20"):
        assert value in text


def test_what_sleepers_save_is_shown_over_none():
    """Dollars over those of the first row, hours over those of who knows all."""
    none = SleepScore(
        most=0, price=0.25, short=0.012, starts=60.4, wakings=0, awake_h=220, asleep_h=0, usd=400
    )
    some = replace(none, most=4, wakings=39.2, awake_h=180, asleep_h=50, usd=360)

    text = printed(sleep_table([none, some], 200.0, ""))

    for value in ("1.20%", "60", "39", "1.100", "0.900", "0.250", "360"):
        assert value in text


@pytest.mark.parametrize("more", [("--pool", "a10g", "--pool", "h100"), ("--ramp",)])
def test_sleepers_are_of_one_pool_on_many_days(more):
    result = CliRunner().invoke(scaling, ["--asleep", "2", *more])

    assert result.exit_code == 2
    assert "--asleep takes one" in result.output


def test_a_pool_that_does_not_ship_is_refused():
    result = CliRunner().invoke(scaling, ["--pool", "l4"])

    assert result.exit_code == 2

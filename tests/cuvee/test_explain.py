"""`cuvee explain`, as a user runs it, without a gateway."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.explain import explain

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
BODY = {
    "model": "llama-3-8b",
    "stream": True,
    "messages": [{"role": "user", "content": "a planted secret " * 60}],
}


@pytest.fixture
def body(tmp_path):
    file = tmp_path / "request.json"
    file.write_text(json.dumps(BODY))
    return file


def run(*arguments, text=None):
    return CliRunner().invoke(explain, [str(a) for a in arguments], input=text)


def test_a_file_is_explained_by_the_plan_of_a_configuration(body):
    """On a fleet that does not run: what is believed, whose turn it is, and all candidates."""
    result = run(body, "--config", DEMO, "--json")

    told = json.loads(result.stdout)
    assert told["believed"]["input_tokens"] > 150
    assert sum(turn["share"] for turn in told["turns"]) == pytest.approx(1)
    assert all(turn["backend"] for turn in told["turns"])
    assert [row["pool"] for row in told["pools"] if row["share"]] == [
        turn["turn"] for turn in told["turns"]
    ]
    assert any(one["in_flight"] for row in told["pools"] for one in row["backends"])
    assert "secret" not in result.stdout


@pytest.mark.long
def test_a_certified_plan_can_be_asked_for(body):
    """It is another one than the plan that a gateway starts with, or the same; it has pools."""
    told = json.loads(run(body, "--config", DEMO, "--certify", "--json").stdout)

    assert sum(row["backends_planned"] for row in told["pools"]) > 0
    assert all(turn["backend"] for turn in told["turns"])


def test_people_read_words_and_an_idle_fleet_is_idle(body):
    result = run(body, "--config", DEMO, "--load", 0)

    assert result.exit_code == 0
    for word in (
        "Believed",
        "Bucket",
        "Promise",
        "Decision",
        "chosen",
        "the fleet is that of the plan",
    ):
        assert word in result.stdout
    told = json.loads(
        run("-", "--config", DEMO, "--load", 0, "--json", text=body.read_text()).stdout
    )
    assert not any(one["in_flight"] for row in told["pools"] for one in row["backends"])


def test_a_note_says_that_no_gateway_was_asked(body):
    """Not that none runs: without --url the command does not know."""
    result = run(body, "--config", DEMO, "--load", 0)

    assert "no running gateway was asked (--url)" in result.stdout
    assert "no gateway runs" not in result.stdout
    assert "does not run" not in result.stdout


def test_mistakes_are_told_in_a_line(tmp_path, body):
    """A file that is none, a body that is none, a model that is not served, a gateway that is not
    there."""
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(BODY | {"model": "gpt-9"}))
    for arguments, words in (
        (("missing.json",), "no such file"),
        ((bad,), "is not a JSON object"),
        ((other, "--config", DEMO), "`gpt-9` does not exist"),
        ((body, "--url", "http://127.0.0.1:9"), "127.0.0.1:9"),
        (("some-id", "--url", "127.0.0.1:9"), "no URL of a host"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1, arguments
        assert words in result.output
        assert "Traceback" not in result.output


def test_an_endpoint_that_there_is_not_is_a_mistake_in_the_command(body):
    result = run(body, "--config", DEMO, "--endpoint", "nosuch")

    assert result.exit_code == 2
    assert "there is no endpoint nosuch" in result.stderr

"""`cuvee trace import`: a file in, a trace and a few lines about it out."""

from pathlib import Path

from click.testing import CliRunner

from cuvee.trace import trace
from planner.traffic.trace import read_trace

BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def run(*arguments: str):
    return CliRunner().invoke(trace, ["import", *arguments])


def test_a_data_set_becomes_a_trace(tmp_path: Path):
    """What was recognised, how much it is, and what was left out."""
    given, out = tmp_path / "burst.csv", tmp_path / "trace.csv"
    rows = [f"{second},ChatGPT,100,20,120,log" for second in range(101)]
    given.write_text(BURST + "\n".join(rows) + "\n7,GPT-4,7,0,7,log\n")

    result = run(str(given), "--out", str(out))

    assert result.exit_code == 0, result.output
    assert "burstgpt: 101 requests, 1.01/s for 100 s, 100 tokens in and 20 out" in result.output
    assert "index of dispersion 0.0 at 10 s" in result.output
    assert "left out: 1 × failed" in result.output
    assert len(read_trace(out)) == 101


def test_what_is_not_the_files_own_is_told(tmp_path: Path):
    """Drawn arrivals, and sizes that come of texts."""
    given, out = tmp_path / "sg.json", tmp_path / "trace.csv"
    given.write_text(
        '[{"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "ah"}]}]'
    )

    refused = run(str(given), "--out", str(out))
    result = run(str(given), "--out", str(out), "--rate", "3")

    assert refused.exit_code == 1
    assert "sg.json:1: no times: --rate says" in refused.output
    assert "arrivals are drawn" in result.output
    assert "1 sizes are estimated" in result.output
    assert len(read_trace(out)) == 1


def test_senders_are_digests(tmp_path: Path):
    """No key of the file stands in the trace."""
    given, out = tmp_path / "rows.jsonl", tmp_path / "trace.csv"
    row = '{"timestamp": %d, "input_tokens": 5, "output_tokens": 6, "user": "sk-secret"}\n'
    given.write_text(row % 1 + row % 2)

    result = run(str(given), "--out", str(out), "--from", "servegen")

    assert "1 senders, as digests" in result.output
    assert "secret" not in out.read_text()
    assert len(set(read_trace(out).key)) == 1

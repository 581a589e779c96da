"""`cuvee plan` and `cuvee portfolio`, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cuvee.check import check
from cuvee.plan import plan
from cuvee.portfolio import portfolio
from cuvee.serve import serve

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def config(tmp_path):
    raw = {
        "prices": "aws-2026-07",
        "models": {"llama-3-8b": {"slo": {"ttft_s": 2.0, "tpot_s": 0.1}}},
        "pools": {
            gpu: {
                "model": "llama-3-8b",
                "profile": f"llama-3-8b/{gpu}",
                "backends": [f"http://127.0.0.1:{port}"],
                "max_backends": 8,
            }
            for gpu, port in (("a10g", 9000), ("h100", 9001))
        },
    }
    file = tmp_path / "cuvee.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


@pytest.fixture
def trace(tmp_path):
    file = tmp_path / "trace.csv"
    sizes = [(150 + 37 * n % 900, 20 + 13 * n % 250) for n in range(300)]
    rows = [f"{n * 0.2:.1f},{i},{o},k{n % 3}" for n, (i, o) in enumerate(sizes)]
    file.write_text("\n".join(["arrival_s,input_tokens,output_tokens,key", *rows]) + "\n")
    return file


def run(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


@pytest.mark.parametrize("command", [plan, serve], ids=["plan", "serve"])
def test_other_commands_refuse_a_bad_file_alike(command, tmp_path, trace):
    """Nothing starts with a configuration that `check` refuses."""
    more = ["--trace", trace] if command is plan else []

    result = run(command, "--config", tmp_path / "no.yaml", *more)

    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_plan_as_json(config, trace):
    """Everything that the plan is, and each single GPU type for the same demand."""
    result = run(plan, "--config", config, "--trace", trace, "--rate", 6, "--json")
    body = json.loads(result.stdout)

    assert result.exit_code == 0
    assert body.keys() >= {
        "plan_id", "usd_per_hour", "lower_bound_usd_per_hour", "gap", "solve_s", "backends",
        "buckets", "weights", "load", "single_types",
    }  # fmt: skip
    assert set(body["backends"]) == {"a10g", "h100"}
    assert set(body["single_types"]) == {"A10G", "H100"}
    assert body["lower_bound_usd_per_hour"] <= body["usd_per_hour"]
    able = [s["usd_per_hour"] for s in body["single_types"].values() if s["usd_per_hour"]]
    assert body["usd_per_hour"] <= min(able) + 1e-6
    assert body["requests_per_s"] == pytest.approx(6.0)


def test_plan_for_people(config, trace):
    """Cost, backends and shares in tables."""
    result = run(plan, "--config", config, "--trace", trace)

    assert result.exit_code == 0
    for word in ("a10g", "h100", "backends", "/h", "on one GPU type", "lower bound"):
        assert word in result.stdout


def test_plan_explains_itself_as_json(config, trace):
    """Bound and parts, buckets and keys sum to the bill, with every change beside it."""
    result = run(plan, "--config", config, "--trace", trace, "--json",
                 "--what-if", "tpot_s=0.06", "--what-if", "with=L4")  # fmt: skip
    body = json.loads(result.stdout)
    why, usd = body["explanation"], body["usd_per_hour"]

    parts = why["lower_bound_usd_per_hour"] + sum(why["gap_usd_per_hour"].values())
    assert parts == pytest.approx(usd)
    assert sum(why["usd_per_hour_by_bucket"]) + why["idle_usd_per_hour"] == pytest.approx(usd)
    assert set(why["usd_per_hour_by_key"]) == {"k0", "k1", "k2"}
    keys = sum(why["usd_per_hour_by_key"].values())
    assert keys + why["idle_usd_per_hour"] == pytest.approx(usd)
    assert [other["change"] for other in body["what_if"]] == ["tpot_s=0.06", "with=L4"]
    assert "new L4" in body["what_if"][1]["backends"]


def test_plan_is_one_screen_unless_asked():
    """At most 40 lines; --explain adds every bucket, the next request's price, the bill by key."""
    shipped = CONFIGS / "workloads" / "azure-2023-history.csv"
    arguments = ("--config", CONFIGS / "demo.yaml", "--trace", shipped)
    short = run(plan, *arguments)
    whole = run(plan, *arguments, "--explain", "--what-if", "rate=50")

    assert whole.exit_code == 0
    assert len(short.stdout.splitlines()) <= 40
    assert "more with --explain" in short.stdout
    for word in ("bill by key", "conv", "code", "next", "what if", "rate=50"):
        assert word in whole.stdout
        assert word not in short.stdout
    buckets = [line for line in whole.stdout.splitlines() if " out " in line]
    assert len(buckets) > len([line for line in short.stdout.splitlines() if " out " in line])


def test_plan_draws_itself(config, trace, tmp_path):
    """--plot writes a picture beside the tables."""
    result = run(plan, "--config", config, "--trace", trace, "--plot", tmp_path / "plan.png")

    assert result.exit_code == 0
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "more", [("--what-if", "colour=red"), ("--what-if", "with=TPU"), ("--plot", "no/where.png")]
)
def test_plan_refuses_what_it_cannot_do(config, trace, tmp_path, monkeypatch, more):
    """One line, no traceback."""
    monkeypatch.chdir(tmp_path)

    result = run(plan, "--config", config, "--trace", trace, *more)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


@pytest.fixture
def history(tmp_path):
    file = tmp_path / "history.csv"
    rows = [f"{3600 * hour},{10 if hour % 24 > 8 else 2}" for hour in range(48)]
    file.write_text("\n".join(["t_s,requests_per_s", *rows]) + "\n")
    return file


def test_portfolio_says_what_to_commit_to(config, trace, history):
    """As a table for people, as JSON for scripts, the same figures."""
    arguments = ("--config", config, "--trace", trace, "--history", history, "--spot", "H100=2.5")

    people = run(portfolio, *arguments)
    body = json.loads(run(portfolio, *arguments, "--json").stdout)

    assert people.exit_code == 0
    for word in ("commit", "48 hours", "all on demand", "saving", f"${body['usd']:,.0f}"):
        assert word in people.stdout
    assert set(body["gpus"]) == {"A10G", "H100"}
    contracts = body["committed_usd"] + body["on_demand_usd"] + body["spot_usd"]
    assert contracts == pytest.approx(body["usd"])
    assert body["usd"] <= body["all_on_demand_usd"]
    assert body["hours"] == 48


def test_portfolio_may_buy_more_than_runs(config, trace, history):
    """Bounds that the file states hold; the number of backends that happen to run does not."""
    raw = yaml.safe_load(config.read_text())
    arguments = ("--config", config, "--trace", trace, "--history", history, "--scale", 80)
    bounded = json.loads(run(portfolio, *arguments, "--json").stdout)
    for section in raw["pools"].values():
        del section["max_backends"]
    config.write_text(yaml.safe_dump(raw))
    free = json.loads(run(portfolio, *arguments, "--json").stdout)

    assert bounded["unserved_share"] > 0
    assert free["unserved_share"] == 0
    assert free["peak_requests_per_s"] == 800


@pytest.mark.parametrize(
    ("more", "code"),
    [(("--discount", 2), 1), (("--spot", "H100"), 2), (("--spot", "TPU=1"), 1), (("--scale", 0), 1),
     (("--scale", "nan"), 1), (("--history", "absent.csv"), 1)],
)  # fmt: skip
def test_portfolio_refuses_nonsense(config, trace, history, more, code):
    """One line, no traceback."""
    result = run(portfolio, "--config", config, "--trace", trace, "--history", history, *more)

    assert result.exit_code == code
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("rate", [0, -1, "nan", "inf"])
def test_plan_refuses_an_impossible_rate(config, trace, rate):
    """One line, no traceback."""
    result = run(plan, "--config", config, "--trace", trace, "--rate", rate)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")


def test_plan_names_the_line_of_a_bad_trace(config, tmp_path):
    """The first bad row is named by its number."""
    bad = tmp_path / "bad.csv"
    bad.write_text("arrival_s,input_tokens,output_tokens\n0,5,5\n1,x,5\n")

    result = run(plan, "--config", config, "--trace", bad)

    assert result.exit_code == 1
    assert "bad.csv:3:" in result.stderr


@pytest.mark.parametrize("command", [check, plan, portfolio, serve])
def test_help_suffices(command):
    """Every option is explained."""
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--config" in result.output


def test_serving_imports_no_solver():
    """What `cuvee serve` imports stays resident: neither a solver nor tables nor other commands."""
    code = "import sys, cuvee, cuvee.serve; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    idle = {"pulp", "highspy", "aiohttp", "rich", "matplotlib", "loadtest", "prometheus_client"}
    idle |= {"planner.program.solve", "gateway.rehearsal.play", "cuvee.plan"}
    assert idle.isdisjoint(printed.stdout.split())


@pytest.mark.long
@pytest.mark.parametrize("as_json", [False, True])
def test_plan_says_what_it_would_change(config, trace, as_json):
    """Two GPUs are configured; the exit code tells a script whether they stay."""
    more = ["--json"] if as_json else []
    few = run(plan, "--config", config, "--trace", trace, "--rate", 0.5, "--diff", *more)
    many = run(plan, "--config", config, "--trace", trace, "--rate", 90, "--diff", *more)
    beyond = run(plan, "--config", config, "--trace", trace, "--rate", 2000, "--diff", *more)

    assert [few.exit_code, many.exit_code, beyond.exit_code] == [1, 1, 2]
    if as_json:
        diffs = [json.loads(result.stdout)["diff"] for result in (few, many, beyond)]
        assert diffs[0]["stop"]
        assert not diffs[0]["start"]
        assert diffs[1]["start"]
        assert [diff["exit_code"] for diff in diffs] == [1, 1, 2]
        assert all(diff["backends"] == {"a10g": 1, "h100": 1} for diff in diffs)
    else:
        assert "stop 1" in few.stdout
        assert "start" in many.stdout
        assert beyond.stdout.startswith("NOT SERVED")
        assert "cannot serve all" in beyond.stdout


@pytest.mark.long
def test_a_fleet_that_fits_stays(config, trace):
    """The plan is put into the file: nothing would change, and the exit code is 0."""
    planned = json.loads(run(plan, "--config", config, "--trace", trace, "--json").stdout)
    raw = yaml.safe_load(config.read_text())
    for number, (name, count) in enumerate(planned["backends"].items()):
        urls = [f"http://127.0.0.1:{9000 + 10 * number + n}" for n in range(count)]
        raw["pools"][name]["backends"] = urls
    config.write_text(yaml.safe_dump(raw))
    result = run(plan, "--config", config, "--trace", trace, "--diff")

    assert result.exit_code == 0
    assert "the present fleet holds" in result.stdout
    assert "start" not in result.stdout


def test_an_error_is_no_verdict(config, trace, tmp_path):
    """1 and 2 say something else under --diff."""
    no_trace = run(plan, "--config", config, "--trace", tmp_path / "no.csv", "--diff")
    no_file = run(plan, "--config", tmp_path / "no.yaml", "--trace", trace, "--diff")
    untold, misspelt = run(plan, "--config", config, "--diff"), run(plan, "--diff", "--nosuch")
    plain = run(plan, "--nosuch")

    assert [no_trace.exit_code, no_file.exit_code] == [3, 3]
    assert [untold.exit_code, misspelt.exit_code, plain.exit_code] == [3, 3, 2]


def test_nothing_is_compared_with_a_plan_that_serves_less(config, trace):
    """What is not served stands first; neither a type nor a change has a ratio to such a plan."""
    result = run(plan, "--config", config, "--trace", trace, "--rate", 2000,
                 "--what-if", "rate=1")  # fmt: skip

    assert result.exit_code == 0
    assert result.stdout.startswith("NOT SERVED")
    assert "×" not in result.stdout


def test_a_saved_plan_is_compared_with_the_one_of_now(config, trace, tmp_path):
    """Terraform's exit codes: 0 where nothing changes, 2 for a change, 1 for an error."""
    saved = tmp_path / "saved.json"
    saved.write_text(run(plan, "--config", config, "--trace", trace, "--json").stdout)

    same = run(plan, "--config", config, "--trace", trace, "--diff", "--against", saved)
    more = ("--config", config, "--trace", trace, "--rate", 60, "--diff", "--against", saved)
    other, told = run(plan, *more), run(plan, *more, "--json")
    untold = run(plan, "--config", config, "--diff", "--against", saved)
    no_file = run(plan, "--config", tmp_path / "no.yaml", *more[2:])
    saved.write_text("{}")
    wrong = run(plan, *more)

    assert (same.exit_code, other.exit_code, wrong.exit_code) == (0, 2, 1), same.output
    assert (untold.exit_code, no_file.exit_code) == (1, 1), untold.output
    assert "no change" in same.output
    assert "keep the promise, as played" in other.output
    assert json.loads(told.stdout)["changes"]
    assert told.exit_code == 2


def test_who_is_awake_on_shared_gpus_is_shown(config, trace):
    """With the price of all of them, which is in the plan's once."""
    raw = yaml.safe_load(config.read_text())
    raw["pools"]["a10g"]["shared_gpus"] = "rack"
    raw["limits"] = {"shared_gpus": {"rack": {"gpus": 8, "usd_per_hour": 7.5}}}
    config.write_text(yaml.safe_dump(raw))

    result = run(plan, "--config", config, "--trace", trace)

    assert result.exit_code == 0, result.output
    assert "shared GPUs rack: awake are " in result.output
    assert "of a10g, on " in result.output
    assert "of 8 GPUs, $7.50/h in any case" in result.output
    assert ": $7.50/h" in result.output

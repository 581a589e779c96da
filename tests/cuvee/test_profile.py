"""`cuvee profile`, as a user runs it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cuvee.profile import profile
from planner.engine import profiles
from planner.slo import Slo


def run(*arguments):
    return CliRunner().invoke(profile, [str(a) for a in arguments])


def imported(tmp_path, content, tool, *options):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(content))
    out = tmp_path / "profile.yaml"
    result = run("import", file, "--from", tool, "--out", out, *options)
    return result, out


def test_the_report_shows_every_source_and_gpu_in_80_columns():
    """A row per source and GPU, totals, and the GPUs without measurements."""
    result = run("report")

    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    for word in ("argonne", "helix", "splitwise", "vidur", "4xH100", "layer-prompt", "A10G"):
        assert word in result.output
    assert "…" not in result.output


def test_the_report_as_json_holds_the_same_rows():
    """For scripts: the rows by source and by GPU, here for one GPU."""
    body = json.loads(run("report", "--gpu", "L4", "--json").output)

    assert {row["gpu"] for row in body["sources"]} == {"L4"}
    assert [row["n"] for row in body["gpus"]] == [93]


def test_the_report_takes_a_gpu_in_any_case():
    """As every other place does where a GPU is named."""
    assert run("report", "--gpu", "a100-80g").output == run("report", "--gpu", "A100-80G").output
    assert "helix" in run("report", "--gpu", "l4").output


def test_runs_of_whole_engines_are_played(tmp_path):
    """A file of runs instead: errors by model and GPU, every row if asked for, and what was left
    out."""
    columns = (
        "backend,model_path,system,precision,isl,osl,tp_size,pp_size,concurrency,ttft_ms,tpot_ms"
    )
    row = "vllm,openai/gpt-oss-120b,h100_sxm,fp4,1024,256,4,1,8,60,6"
    file = tmp_path / "runs.csv"
    file.write_text(f"{columns}\n{row}\n{row.replace('h100', 'gb200')}\n")

    shown = run("report", "--against", file, "--rows")
    body = json.loads(run("report", "--against", file, "--json").output)

    assert shown.exit_code == 0
    assert "1 rows not played: no row of the GPU gb200_sxm" in shown.output
    assert [row["metric"] for row in body["rows"]] == ["ttft", "itl"]
    assert {row["gpu"] for row in body["by_model"]} == {"H100"}
    assert body["left_out"] == [{"reason": "no row of the GPU gb200_sxm", "rows": 1}]
    assert "there are H100" in run("report", "--against", file, "--gpu", "L4").output


def test_a_gpu_of_which_there_are_only_runs_has_its_report():
    """Nothing of it was measured alone, but whole engines on it were."""
    result = run("report", "--gpu", "h200")

    assert result.exit_code == 0
    assert "gpt-oss-120b" in result.output
    assert "argonne" not in result.output


def test_a_gpu_without_measurements_is_an_error():
    """It says which GPUs there are."""
    result = run("report", "--gpu", "B300")

    assert result.exit_code == 1
    assert "no measurements of B300; there are A100-40G, A100-80G, H100, L4" in result.output


def test_benchmark_results_become_a_profile_for_any_slo(tmp_path):
    """Several loads become one profile; its capacity answers to the SLO asked for."""
    files = []
    for number, (rate, tpot_ms) in enumerate(((0.5, 8.0), (4.0, 9.5), (12.0, 13.0))):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(
            json.dumps(
                {
                    "completed": 100, "total_input_tokens": 51200, "total_output_tokens": 12800,
                    "request_throughput": rate, "mean_tpot_ms": tpot_ms, "mean_ttft_ms": 40.0,
                }
            )
        )  # fmt: skip
    out = tmp_path / "h100.yaml"

    result = run("import", *files, "--from", "vllm-bench", "--gpu", "H100",
                 "--model", "Llama-3-8B", "--out", out)  # fmt: skip
    read = profiles.read_profile(out)
    sizes = np.array([512.0]), np.array([128.0])
    strict, loose = (
        read.capacity(*sizes, Slo(ttft_s=2, tpot_s=tpot_s)).rate[0] for tpot_s in (0.013, 0.05)
    )

    assert result.exit_code == 0, result.output
    assert "fitted to 4 values" in result.output
    assert read.origin == "imported"
    assert read.baked_slo is None
    assert strict == pytest.approx(12.0, rel=0.15)
    assert loose > 2 * strict


def test_a_gpu_and_a_model_from_files_are_written_into_the_profile(tmp_path):
    """The profile stands by itself, wherever it lies; both files may be lost."""
    (tmp_path / "gpus.yaml").write_text(
        "format: cuvee-gpus/1\ngpus:\n  Own: {memory_gib: 40, bandwidth_gb_s: 900,"
        " tflops: {fp16: 300}, usd_per_hour: 2}\n"
    )
    (tmp_path / "Tiny.json").write_text(
        '{"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32,'
        ' "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000}'
    )
    content = {
        "completed": 1, "total_input_tokens": 512, "total_output_tokens": 128,
        "request_throughput": 1.0, "mean_ttft_ms": 9.0, "mean_tpot_ms": 9.0,
    }  # fmt: skip

    result, out = imported(tmp_path, content, "vllm-bench", "--gpu", tmp_path / "gpus.yaml",
                           "--model", tmp_path / "Tiny.json")  # fmt: skip
    for name in ("gpus.yaml", "Tiny.json"):
        (tmp_path / name).unlink()
    found = profiles.read_profile(out)

    assert result.exit_code == 0, result.output
    assert (found.gpu, found.model, found.usd_per_gpu_hour) == ("Own", "Tiny", 2.0)
    assert found.calibration is not None


def test_rates_with_a_baked_slo_say_so(tmp_path):
    """A Mélange config becomes a profile that warns; its capacity is its table."""
    config = {
        "gpu_info": {"A100": {"cost": 3.67, "tputs": [[20, 2], [5, 1]]}},
        "workload_distribution": [[0.25, 0.25], [0.25, 0.25]],
        "total_request_rate": 1.0,
    }

    result, out = imported(
        tmp_path, config, "melange", "--gpu", "A100-80G", "--model", "Llama-2-7B", "--entry",
        "A100", "--input-edges", "100,1000", "--output-edges", "50,500", "--slo", "TPOT 120 ms",
    )  # fmt: skip
    read = profiles.read_profile(out)

    assert result.exit_code == 0, result.output
    assert "fixed rates under the SLO `TPOT 120 ms`" in result.output
    assert read.baked_slo == "TPOT 120 ms"
    assert read.max_model_len == 1500
    rate = read.capacity(np.array([80.0]), np.array([400.0]), Slo(ttft_s=9, tpot_s=9)).rate
    assert rate[0] == 2.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu", "B300", "--model", "Llama-3-8B"), "gpu: unknown `B300`"),
        (("--gpu", "L4", "--model", "Llama-9"), "model: unknown `Llama-9`"),
        (("--gpu", "L4", "--model", "Llama-2-70B"), "does not fit"),
        (("--gpu", "L4", "--model", "Llama-3-8B"), "mean_tpot_ms"),
    ],
)
def test_what_cannot_be_imported_is_stated_in_one_line(tmp_path, options, words):
    """Unknown names, a model that does not fit, a result without the key: no file is written."""
    content = {
        "completed": 1, "total_input_tokens": 9, "total_output_tokens": 9,
        "request_throughput": 1.0, "mean_ttft_ms": 9.0, "mean_tpot_ms": 9.0,
    }  # fmt: skip
    if words == "mean_tpot_ms":
        del content["mean_tpot_ms"]

    result, out = imported(tmp_path, content, "vllm-bench", *options)

    assert result.exit_code == 1
    assert words in result.output
    assert not out.exists()


def test_two_files_cannot_make_one_table_of_rates(tmp_path):
    """A usage error, as are edges that are no counts."""
    result = run("import", "a.json", "b.json", "--from", "aibrix", "--gpu", "L4",
                 "--model", "Llama-3-8B", "--out", tmp_path / "x.yaml")  # fmt: skip
    edges, _ = imported(tmp_path, {}, "melange", "--gpu", "L4", "--model", "Llama-3-8B",
                        "--input-edges", "1,x")  # fmt: skip

    assert result.exit_code == edges.exit_code == 2
    assert "one file makes one profile" in result.output
    assert "counts with commas" in edges.output

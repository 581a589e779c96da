"""Results of other tools, as their files look."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.engine import importers
from planner.errors import InvalidFile

VLLM = {
    "date": "20261101-120000", "backend": "vllm", "model_id": "m", "num_prompts": 200,
    "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 16, "duration": 50.0,
    "completed": 200, "total_input_tokens": 102400, "total_output_tokens": 25600,
    "request_throughput": 4.0, "output_throughput": 512.0, "total_token_throughput": 2560.0,
    "mean_ttft_ms": 60.0, "median_ttft_ms": 55.0, "p99_ttft_ms": 120.0,
    "mean_tpot_ms": 20.0, "median_tpot_ms": 19.5, "p99_tpot_ms": 25.0, "mean_itl_ms": 20.1,
}  # fmt: skip
AIPERF = {
    "request_throughput": {"unit": "requests/sec", "avg": 4.0},
    "time_to_first_token": {"unit": "ms", "avg": 60.0, "p50": 55.0},
    "inter_token_latency": {"unit": "ms", "avg": 20.0},
    "input_sequence_length": {"unit": "tokens", "avg": 512.0},
    "output_sequence_length": {"unit": "tokens", "avg": 128.0},
    "was_cancelled": False,
    "input_config": {"loadgen": {"concurrency": 16}},
}
AIPERF_CSV = """Metric,avg,min,max,p50
Time to First Token (ms),60.00,40.0,90.0,55.0
Inter Token Latency (ms),20.00,19.0,22.0,20.0
Output Sequence Length (tokens),128.00,128,128,128
Input Sequence Length (tokens),"1,512.00",512,512,512

Metric,Value
Request Throughput (requests/sec),4.00
Request Count,200.00

Endpoint,GPU_Index,GPU_Name
"""
MELANGE = {
    "gpu_info": {
        "A10G": {"cost": 1.01, "tputs": [[5, 1], [10, 5]]},
        "A100-80GB": {"cost": 3.67, "tputs": [[20, 2], [50, 20]]},
    },
    "workload_distribution": [[0.25, 0.125], [0.375, 0.25]],
    "total_request_rate": 16.0,
    "slice_factor": 2,
}
AIBRIX = {
    "gpu": "a100", "cost": 1.0, "tputs": [[8.0, 4.0], [4.0, 2.0], [1.0, 0.0]],
    "indexes": [[4, 8, 16], [128, 256]], "created": 1.0, "e2e": [[1.0]],
    "slos": {"percentile": 99, "e2e": 5.0},
}  # fmt: skip


def benchmark(rate: float, tpot_ms: float = 20.0) -> dict[str, object]:
    values = {
        "requests_per_second": rate, "prompt_token_count": 512.0, "output_token_count": 128.0,
        "time_to_first_token_ms": 60.0, "inter_token_latency_ms": tpot_ms, "request_latency": 2.6,
    }  # fmt: skip
    outcomes = {
        name: {"successful": {"mean": value, "median": value}, "errored": {"mean": 0.0}}
        for name, value in values.items()
    }
    return {"config": {"strategy": {"type_": "constant"}}, "metrics": outcomes}


def file(folder: Path, content: object, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_vllm_bench_results_become_one_point_each(tmp_path: Path):
    """Mean sizes, seconds, and the rate; in flight by Little's law."""
    other = VLLM | {"request_throughput": 8.0, "mean_tpot_ms": 30.0}
    paths = [file(tmp_path, VLLM, "a.json"), file(tmp_path, other, "b.json")]

    one, two = importers.vllm_bench(paths)

    assert (one.input_tokens, one.output_tokens, one.rate) == (512, 128, 4.0)
    assert (one.tpot_s, one.ttft_s) == (0.02, 0.06)
    assert one.in_flight == pytest.approx(4.0 * 128 * 0.02)
    assert two.rate == 8.0


def test_a_guidellm_report_becomes_a_point_per_benchmark(tmp_path: Path):
    """Every load of a sweep, from its successful requests."""
    path = file(tmp_path, {"metadata": {}, "benchmarks": [benchmark(1.0), benchmark(4.0, 25.0)]})

    points = importers.guidellm([path])

    assert [(p.rate, p.tpot_s, p.ttft_s) for p in points] == [(1.0, 0.02, 0.06), (4.0, 0.025, 0.06)]
    assert (points[0].input_tokens, points[0].output_tokens) == (512, 128)


def test_aiperf_summaries_mean_the_same_as_json_and_as_csv(tmp_path: Path):
    """Both forms of the summary give the same point; thousands separators are understood."""
    (one,) = importers.aiperf([file(tmp_path, AIPERF)])
    (two,) = importers.aiperf([file(tmp_path, AIPERF_CSV, "profile_export_aiperf.csv")])

    assert (one.rate, one.tpot_s, one.ttft_s, one.output_tokens) == (4.0, 0.02, 0.06, 128)
    assert (two.rate, two.tpot_s, two.ttft_s, two.output_tokens) == (4.0, 0.02, 0.06, 128)
    assert (one.input_tokens, two.input_tokens) == (512, 1512)


def test_a_melange_config_is_read_unchanged(tmp_path: Path):
    """Costs, tables, rate and slice factor; the rates of one GPU by its name and bucket edges."""
    path = file(tmp_path, MELANGE)

    config = importers.melange(path)
    rates = importers.melange_rates(path, "A100-80GB", (100, 1000), (50, 500))

    assert config.gpu_info["A10G"].cost == 1.01
    assert (config.total_request_rate, config.slice_factor) == (16.0, 2)
    assert rates.rate == ((20, 2), (50, 20))
    assert importers.melange_rates(path, "a100-80gb", (100, 1000), (50, 500)) == rates


def test_an_aibrix_profile_has_outputs_in_rows(tmp_path: Path):
    """Its table is turned round: ours has a row per input size. Zero stays: the SLO cannot hold."""
    rates, slo = importers.aibrix(file(tmp_path, AIBRIX))

    assert (rates.input_to, rates.output_to) == ((128, 256), (4, 8, 16))
    assert rates.rate == ((8.0, 4.0, 1.0), (4.0, 2.0, 0.0))
    assert slo == "percentile 99, e2e 5.0"


@pytest.mark.parametrize(
    ("read", "content", "words"),
    [
        (importers.vllm_bench, VLLM | {"mean_tpot_ms": None},
         "mean_tpot_ms: must be a number, is empty"),
        (importers.vllm_bench, {"completed": 1}, "total_input_tokens"),
        (importers.vllm_bench, VLLM | {"completed": 0}, "completed"),
        (importers.vllm_bench, VLLM | {"request_throughput": 0.0}, r"points\[0\].rate"),
        (importers.vllm_bench, VLLM | {"mean_ttft_ms": float("nan")}, r"points\[0\].ttft_s"),
        (importers.vllm_bench, "{", "result.json"),
        (importers.guidellm, {"benchmarks": []}, "at least one"),
        (importers.guidellm, {"benchmarks": [{"metrics": {}}]}, r"benchmarks\[0\]"),
        (importers.guidellm, {"benchmarks": [benchmark(1)] * 2}, r"points\[1\]: the same"),
        (importers.aiperf, AIPERF | {"time_to_first_token": {"unit": "h", "avg": 1}}, "unit `h`"),
        (importers.aiperf, {"request_throughput": AIPERF["request_throughput"]}, "sequence_length"),
    ],
)  # fmt: skip
def test_a_result_that_cannot_be_used_names_file_and_key(
    tmp_path: Path, read: Callable[[list[Path]], object], content: object, words: str
):
    """Missing keys, nothing measured, NaN, zero rates and repeated loads are each refused."""
    with pytest.raises(InvalidFile, match=words) as caught:
        read([file(tmp_path, content)])

    assert str(tmp_path / "result.json") in str(caught.value)


def test_a_csv_summary_with_a_hole_names_the_row(tmp_path: Path):
    """A metric that is missing or no number."""
    hole = AIPERF_CSV.replace("Inter Token Latency", "Other")
    wrong = AIPERF_CSV.replace(",60.00,", ",-,")

    with pytest.raises(InvalidFile, match="Inter Token Latency"):
        importers.aiperf([file(tmp_path, hole, "a.csv")])
    with pytest.raises(InvalidFile, match=r"b.csv:2: time_to_first_token"):
        importers.aiperf([file(tmp_path, wrong, "b.csv")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"workload_distribution": [[0.5, 0.5], [0.5]]}, "workload_distribution: a hole"),
        ({"gpu_info": {"L4": {"cost": 1, "tputs": [[1, 2]]}}}, "gpu_info.L4.tputs: a hole"),
        ({"gpu_info": {"L4": {"cost": 1, "tputs": [[1, 2], [1, -2]]}}}, r"tputs\[1\]\[1\]"),
        ({"gpu_info": {"L4": {"cost": -1, "tputs": [[1, 2], [1, 2]]}}}, "gpu_info.L4.cost"),
        ({"gpu_info": {"L4": {"tputs": [[1, 2], [1, 2]]}}}, "cost"),
        ({"gpu_info": {}}, "gpu_info"),
        ({"total_request_rate": 0}, "total_request_rate"),
        ({"total_request_rate": float("nan")}, "total_request_rate"),
    ],
)
def test_a_broken_melange_config_names_the_key(
    tmp_path: Path, change: dict[str, object], words: str
):
    """Holes, negative rates, a GPU without a price: one line with the key."""
    with pytest.raises(InvalidFile, match=words):
        importers.melange(file(tmp_path, MELANGE | change))


def test_a_gpu_without_data_is_named_with_those_that_have_some(tmp_path: Path):
    """The message lists the names to choose from; edges that do not fit the table are refused."""
    path = file(tmp_path, MELANGE)

    with pytest.raises(InvalidFile, match="no data for `H100`; there are A10G, A100-80GB"):
        importers.melange_rates(path, "H100")
    with pytest.raises(InvalidFile, match="2 rows for 10 input_to"):
        importers.melange_rates(path, "A10G")
    with pytest.raises(InvalidFile, match="tputs: a hole"):
        importers.aibrix(file(tmp_path, AIBRIX | {"indexes": [[4, 8], [128, 256]]}))
    with pytest.raises(InvalidFile, match="cannot be read"):
        importers.aibrix(tmp_path / "absent.json")

"""The shipped measurements and the analytic model's error on them."""

from pathlib import Path

import numpy as np
import pytest

from planner.engine import validation
from planner.errors import InvalidFile

FOLDER = Path(__file__).resolve().parents[3] / "configs/profiles/measured"
TIMINGS = [
    timing for path in sorted(FOLDER.glob("*.csv")) for timing in validation.read_timings(path)
]
HEADER = ",".join(validation.COLUMNS)
ROW = "H100,1,Llama-2-7B,vllm-v0,makespan,128,128,16,1135.2"


@pytest.mark.parametrize(
    ("gpu", "source", "metric", "n", "median", "p90", "bias"),
    [
        ("L4", "helix", "layer-decode", 24, 0.097, 0.34, 0.90),
        ("L4", "helix", "layer-prompt", 69, 0.080, 0.16, 1.05),
        ("A100-40G", "helix", "layer-decode", 22, 0.085, 0.27, 0.92),
        ("A100-40G", "helix", "layer-prompt", 102, 0.210, 0.33, 1.21),
        ("A100-80G", "splitwise", "tpot", 56, 0.081, 0.16, 0.92),
        ("A100-80G", "splitwise", "ttft", 51, 0.213, 0.37, 0.79),
        ("H100", "splitwise", "tpot", 56, 0.053, 0.20, 0.98),
        ("H100", "splitwise", "ttft", 51, 0.137, 0.32, 0.86),
    ],
)
def test_the_error_is_the_published_one(
    gpu: str, source: str, metric: str, n: int, median: float, p90: float, bias: float
):
    """Over all numbers of GPUs, the model is as far from each source as docs/profiles.md says."""
    chosen = [
        timing for timing in TIMINGS
        if (timing.gpu, timing.source, timing.metric) == (gpu, source, metric)
        and validation.usable(timing)
    ]  # fmt: skip

    ratio = np.array([validation.predicted_s(timing) / timing.measured_s for timing in chosen])

    assert len(ratio) == n
    assert np.median(np.abs(ratio - 1)) == pytest.approx(median, abs=0.001)
    assert np.quantile(np.abs(ratio - 1), 0.9) == pytest.approx(p90, abs=0.006)
    assert np.median(ratio) == pytest.approx(bias, abs=0.006)


def test_whole_batches_are_predicted_within_a_tenth():
    """Makespans of vLLM and TensorRT-LLM: a median error of at most 10.5 % in every setting."""
    rows = [row for row in validation.errors(TIMINGS) if row.metric == "makespan"]

    assert len(rows) == 7
    assert all(row.median < 0.105 and row.p90 < 0.18 for row in rows)


def test_every_gpu_with_measurements_has_one_total():
    """The totals count each usable value once."""
    totals = validation.by_gpu(TIMINGS)

    assert [row.gpu for row in totals] == ["A100-40G", "A100-80G", "H100", "L4"]
    assert sum(row.n for row in totals) == sum(row.n for row in validation.errors(TIMINGS))
    assert sum(row.n for row in totals) == sum(map(validation.usable, TIMINGS))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW.replace("H100", "B300"), ":2: gpu: unknown `B300`"),
        (ROW.replace("makespan", "speed"), ":2: metric: unknown"),
        (ROW.replace("1135.2", "nan"), ":2: ms: must be"),
        (ROW.replace("1135.2", "-1"), ":2: ms: must be"),
        (ROW.replace("1135.2", ""), ":2: ms: no number"),
        (ROW.replace(",16,", ",0,"), ":2: batch: must be at least 1"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, row: str, words: str):
    """One line says which file, line and column is wrong."""
    path = tmp_path / "wrong.csv"
    path.write_text(f"{HEADER}\n{row}\n")

    with pytest.raises(InvalidFile) as caught:
        validation.read_timings(path)

    assert f"{path}{words}" in str(caught.value)


def test_names_may_be_written_in_any_case(tmp_path: Path):
    """They are counted under the name of the row."""
    path = tmp_path / "own.csv"
    path.write_text(f"{HEADER}\n{ROW.lower()}\n")

    assert [(t.gpu, t.model) for t in validation.read_timings(path)] == [("H100", "Llama-2-7B")]


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    """Other columns, or no file at all."""
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,input_tokens\n")

    with pytest.raises(InvalidFile, match="columns must be"):
        validation.read_timings(path)
    with pytest.raises(InvalidFile, match="cannot be read"):
        validation.read_timings(tmp_path / "absent.csv")

"""Measured runs are read, told apart and played on the engine model."""

from dataclasses import replace

import pytest

from planner.engine import accuracy, playback
from planner.engine.batching import Engine, FirstToken
from planner.engine.runs import CACHED_SHARE, CLOSED, SERVING, Run, read_runs
from planner.errors import InvalidFile

ONE = {
    "experiment": "e", "hardware": "H100", "model": "meta-llama/Llama-3.1-8B-Instruct",
    "precision": "FP16", "tp": "1", "stage": "0", "in_tokens": "547", "out_tokens": "248",
    "stage_rates": "8;20", "stage_s": "600;600", "ttft_mean_ms": "25.2", "itl_mean_ms": "7.9",
    "e2e_mean_ms": "1892.7",
}  # fmt: skip
LOOP = {
    "backend": "vllm", "model_path": "openai/gpt-oss-120b", "system": "h200_sxm",
    "precision": "fp4", "isl": "1024", "osl": "256", "tp_size": "2", "pp_size": "1",
    "concurrency": "8", "ttft_ms": "90", "tpot_ms": "6",
}  # fmt: skip


def write(path, columns, *rows):
    lines = [",".join(columns), *(",".join(row[c] for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def only(path, columns, row):
    runs, left = read_runs(write(path / "runs.csv", columns, row))
    return (runs[0] if runs else None), [one.reason for one in left]


def test_a_serving_run_is_read(tmp_path):
    """Names become those of our rows, milliseconds seconds, and prefix hits are assumed."""
    run, _ = only(tmp_path, SERVING, ONE | {"stage": "1"})

    assert (run.gpu, run.model, run.engine, run.stages) == (
        "H100", "Llama-3.1-8B", "vllm-v1", ((20.0, 600.0),)
    )  # fmt: skip
    assert run.measured_s == {"ttft": 0.0252, "itl": 0.0079, "e2e": 1.8927}
    assert run.cached_share == CACHED_SHARE


def test_a_closed_loop_is_read(tmp_path):
    """So many users on so many GPUs."""
    run, _ = only(tmp_path, CLOSED, LOOP)

    assert (run.gpu, run.gpus, run.model, run.users) == ("H200", 2, "gpt-oss-120b", 8)
    assert (run.cached_share, run.measured_s) == (0.0, {"ttft": 0.09, "itl": 0.006})


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        (SERVING, ONE | {"stage_rates": "?;20"}, "a stage without a rate"),
        (SERVING, ONE | {"stage": "-1", "stage_s": ""}, "a whole run without"),
        (SERVING, ONE | {"hardware": "TPU-v9"}, "no row of the GPU TPU-v9"),
        (SERVING, ONE | {"model": "acme/Roadrunner-9B"}, "no row of the model acme/Roadrunner-9B"),
        (CLOSED, LOOP | {"tp_size": "16"}, "more than 8 GPUs"),
        (CLOSED, LOOP | {"ttft_ms": "60000"}, "queue for the seats"),
    ],
)
def test_what_cannot_be_played_says_why(tmp_path, columns, row, reason):
    """It is counted, and stops nothing."""
    run, (why,) = only(tmp_path, columns, row)

    assert run is None
    assert reason in why


def test_a_file_of_another_kind_is_refused(tmp_path):
    """With the first thing that it lacks; a number that is none with its line."""
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidFile, match="no column experiment"):
        read_runs(tmp_path / "other.csv")
    for column, value in (("tp", "x"), ("stage_rates", "8;y"), ("stage", ""), ("tp", "")):
        with pytest.raises(InvalidFile, match=rf":2: {column}: no number"):
            only(tmp_path, SERVING, ONE | {column: value})
    for column, value in (("e2e_mean_ms", "0"), ("in_tokens", "1e99"), ("stage_rates", "1e6;1")):
        with pytest.raises(InvalidFile, match=rf":2: {column}: must be above 0 and at most"):
            only(tmp_path, SERVING, ONE | {column: value})
    with pytest.raises(InvalidFile, match=":2: concurrency: must be above 0"):
        only(tmp_path, CLOSED, LOOP | {"concurrency": "nan"})
    (tmp_path / "short.csv").write_text(",".join(SERVING) + "\ne,H100\n")
    with pytest.raises(InvalidFile, match=":2: stage: no number: ``"):
        read_runs(tmp_path / "short.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\x00")
    with pytest.raises(InvalidFile, match="no CSV"):
        read_runs(tmp_path / "binary.csv")
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_runs(tmp_path / "none.csv")


def test_an_engine_is_met_within_the_goals(tmp_path):
    """One measured run of vLLM V1 (Llama-3.1-8B, H100, 8 req/s): TTFT within 20 %, others 10 %."""
    run, _ = only(tmp_path, SERVING, ONE)

    errors, left = accuracy.judge([run])

    assert left == []
    by_metric = {e.metric: abs(e.error) for e in errors}
    assert by_metric["ttft"] < 0.2
    assert max(by_metric["itl"], by_metric["e2e"]) < 0.1
    assert not any(e.saturated for e in errors)


def test_a_whole_run_is_the_mean_of_its_stages(tmp_path):
    """Weighted by their requests."""
    slow, fast, whole = (
        playback.play(only(tmp_path, SERVING, ONE | {"stage": stage})[0]).predicted_s["itl"]
        for stage in ("0", "1", "-1")
    )

    assert whole == pytest.approx((8 * slow + 20 * fast) / 28)


def test_an_overloaded_engine_is_called_saturated(tmp_path):
    """Its queue grows without end."""
    run, _ = only(tmp_path, SERVING, ONE | {"stage_rates": "400", "stage_s": "600"})

    assert playback.play(run).saturated


LONG_PROMPTS = Run(
    label="x",
    gpu="H100",
    gpus=1,
    model="Llama-3.1-8B",
    engine="vllm-v1",
    fp8=False,
    input_tokens=4000,
    output_tokens=50,
    max_num_batched_tokens=2048,
    users=4,
    measured_s={},
)


def test_a_prefix_hit_is_not_computed_again():
    """TTFT falls with the share; at least one token is computed all the same."""
    first_s = []
    for cached in (0, 2000, 4000):
        engine = Engine(playback.profile_of(LONG_PROMPTS))
        engine.submit(1, input_tokens=4000, output_tokens=2, now_s=0.0, cached_tokens=cached)
        first_s += [e.at_s for e in engine.advance(9.0) if isinstance(e, FirstToken)]

    assert first_s[0] > 1.5 * first_s[1] > 1.5 * first_s[2] > 0.0


def test_a_model_that_does_not_fit_is_left_out_with_the_reason():
    """405 billion parameters and one GPU."""
    errors, ((_, reason),) = accuracy.judge([replace(LONG_PROMPTS, model="Llama-3.1-405B")])

    assert errors == []
    assert "does not fit" in reason

"""Scalar iteration times against the roofline's arrays and against plain sums."""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import catalogue
from planner.engine.fit import prior
from planner.engine.hardware import ENGINES
from planner.engine.iteration import (
    DecodeRun,
    FittedIterationTime,
    analytic_time,
    iteration_time,
)
from planner.engine.profiles import read_profile
from planner.engine.roofline import roofline

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "profiles"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["A10G", "A100-80G", "H100"]),
    st.sampled_from(["Llama-3-8B", "Qwen3-30B-A3B", "gpt-oss-120b"]),
    st.integers(1, 4),
    st.integers(1, 4096),
    st.integers(0, 256),
    st.integers(0, 10**6),
    st.integers(0, 10**8),
)
def test_the_scalar_pace_is_the_rooflines(gpu, model, gpus, prompt, sequences, context, squares):
    """The scalar arithmetic is `Roofline.step_s`, mixed and decoding, dense and of experts."""
    rows = catalogue.gpus()[gpu], catalogue.models()[model]
    backend = roofline(*rows, ENGINES["vllm-v0"], gpus=gpus)
    pace = analytic_time(backend)
    tokens = prompt + sequences

    mixed_s = pace.mixed_s(tokens, sequences, context, squares)
    decode_s = pace.kernels_s(tokens, sequences) + pace.context_s * context + pace.host_s(sequences)

    step_s = backend.step_s(tokens, sequences, context, squares, prefill=True)
    plain_s = backend.step_s(tokens, sequences, context, prefill=False)
    assert mixed_s == pytest.approx(float(step_s), rel=1e-12)
    assert decode_s == pytest.approx(float(plain_s), rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0.001, 0.1),
    st.floats(0.0, 0.001),
    st.floats(0.0, 0.11),
    st.integers(1, 60),
    st.floats(0.0, 8.0),
)
def test_a_run_is_the_sum_of_its_iterations(first_s, rise_s, floor_s, length, now_s):
    """Closed form and counting agree, below the floor, above it and across it."""
    run = DecodeRun(5.0, first_s, rise_s, floor_s, length)

    lasting = [max(first_s + rise_s * j, floor_s) for j in range(length)]
    ends = [5.0, *accumulate(lasting, initial=5.0)][1:]

    assert [run.end_s(count) for count in range(length + 1)] == pytest.approx(ends, rel=1e-12)
    ended = run.ended(5.0 + now_s)
    assert run.end_s(ended) <= 5.0 + now_s
    assert ended == length or run.end_s(ended + 1) > 5.0 + now_s


def test_a_measured_profile_is_emulated_at_its_own_pace():
    """With a fitted model the engine's iterations are those that the planner counts with."""
    profile = read_profile(CONFIGS / "llama-3-8b" / "H100.yaml")
    assert profile.roofline is not None
    slow = replace(prior(profile.roofline), iteration_s=0.5)
    pace = iteration_time(replace(profile, origin="measured", calibration=slow))

    assert isinstance(pace, FittedIterationTime)
    assert pace.kernels_s(8, 8) + pace.context_s * 8 * 300 == pytest.approx(
        float(slow.decode_s(8.0, 300.0))
    )
    assert pace.mixed_s(100, 0, 0, 100**2) + pace.request_s == pytest.approx(
        float(slow.prefill_s(100.0))
    )

"""Alternatives of one profile: every combination once, and why an engine would not start so."""

from pathlib import Path

import msgspec
import pytest

from planner.engine import profiles
from planner.engine.alternatives import Choices, alternatives, setup
from planner.engine.points import Point
from planner.engine.profiles import ProfileFile

BASE = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")


def found(base: ProfileFile = BASE, **choices):
    """Profiles by label; `None` where there is none."""
    chosen = Choices(**choices)
    return {one.label: one.profile for one in alternatives(base, chosen, Path())}


def test_every_combination_is_an_alternative():
    """GPUs, their number, dtype and the engine's limits, all by all."""
    every = found(
        gpu=("L4", "H100"), tensor_parallel_size=(1, 2), dtype=("fp16", "fp8"), max_num_seqs=(8, 64)
    )

    assert len(every) == 16
    one = every["2xL4-fp8-seqs64"]
    assert setup(one) == ("L4", 2, 1, 64, 8192)
    base = profiles.build(BASE).roofline
    assert one.roofline is not None
    assert base is not None
    assert one.roofline.engine == base.engine


@pytest.mark.parametrize(
    ("choices", "label", "words"),
    [
        ({"gpu": ("A10G",), "dtype": ("fp8",)}, "A10G-fp8", "no fp8 units"),
        ({"tensor_parallel_size": (3,)}, "3xH100", "do not divide by 3 GPUs"),
        ({"max_model_len": (9000,)}, "H100-len9000", "beyond the context"),
        ({"gpu": ("B300",)}, "B300", "unknown `B300`"),
    ],
)
def test_what_no_engine_would_start_with_has_a_reason(choices, label, words):
    """In one line, with the label that it would have had."""
    (one,) = alternatives(BASE, Choices(**choices), Path())

    assert (one.label, one.profile) == (label, None)
    assert words in (one.reason or "")
    assert "\n" not in (one.reason or "")


def test_a_model_that_is_too_large_has_a_reason():
    """It needs more GPUs than one."""
    base = msgspec.structs.replace(BASE, model="Llama-3-70B")

    every = found(base, tensor_parallel_size=(1, 2, 4))

    assert [label for label, profile in every.items() if profile is None] == ["H100"]


def test_one_setup_is_listed_once():
    """Two dtypes of one width, a value given twice, and what is taken already."""
    choices = Choices(dtype=("fp16", "bf16"), max_num_seqs=(64, 64, 1024))

    labels = [
        one.label for one in alternatives(BASE, choices, Path(), [setup(profiles.build(BASE))])
    ]

    assert labels == ["H100-fp16-seqs64"]


def test_measurements_hold_where_they_were_made():
    """For other limits of the same engine; not for another GPU, number of GPUs or dtype."""
    points = tuple(
        Point(input_tokens=i, output_tokens=100, batch=b, ttft_s=b * i / 2e4, tpot_s=0.01 + b / 1e3)
        for i in (100, 1000)
        for b in (1, 8, 64)
    )
    base = msgspec.structs.replace(BASE, origin="measured", points=points)

    every = found(base, gpu=("H100", "L4"), dtype=("fp16", "fp8"), max_num_seqs=(32,))

    measured = [label for label, profile in every.items() if profile.origin == "measured"]
    assert measured == ["H100-fp16-seqs32"]
    assert every["H100-fp16-seqs32"].calibration is not None
    assert every["L4-fp16-seqs32"].calibration is None

"""The simulated engine under a closed loop, beside the formula that the planner has of it."""

import msgspec
import numpy as np
import pytest

from loadtest.measure.load import Load
from loadtest.measure.virtual import VirtualBackend, played_n_star
from planner.engine.profiles import FORMAT, Profile, ProfileFile, build
from planner.slo import Slo


def engine(**fields: object) -> Profile:
    stated = {"format": FORMAT, "origin": "analytic", "gpu": "H100", "model": "Llama-3-8B"}
    return build(msgspec.convert(stated | fields, ProfileFile))


@pytest.mark.parametrize(
    ("tpot_s", "near", "fields"),
    [
        (0.03, 0.03, {}),
        (0.06, 0.05, {"gpu": "A10G", "max_num_batched_tokens": 512}),
        (0.04, 0.03, {"engine": "vllm-v0"}),
        (0.03, 0.03, {"engine": "sglang"}),
        (0.04, 0.05, {"engine": "tgi"}),
        (0.03, 0.15, {"engine": "tensorrt-llm"}),
    ],
    ids=["V1", "V1, chunks", "V0", "SGLang", "TGI", "TensorRT-LLM"],
)
def test_the_formula_s_n_star_is_the_played_one(
    tpot_s: float, near: float, fields: dict[str, object]
):
    """Requests in the batch and requests/s at which the engine's TPOT reaches the target."""
    one = engine(**fields)
    for size in ((200, 100), (1000, 200)):
        truth = played_n_star(one, size, tpot_s)
        assert truth is not None
        inputs, outputs = np.array([size], dtype=float).T
        found = one.capacity(inputs, outputs, Slo(ttft_s=5.0, tpot_s=tpot_s))
        assert found.n_star[0] == pytest.approx(truth[0], rel=near)
        assert found.rate[0] == pytest.approx(truth[1], rel=near)


def test_a_play_counts_the_requests_in_the_batch():
    """All users but those that pause, which they do a tenth of the time."""
    found = VirtualBackend(engine()).played(Load(input_tokens=200, output_tokens=200, users=40))

    assert found.running == pytest.approx(40 / 1.1, rel=0.05)


def test_the_same_load_is_the_same_play_and_another_seed_is_not():
    """So that a measurement that goes on chooses as one that was not broken off."""
    backend = VirtualBackend(engine())
    load = Load(input_tokens=200, output_tokens=50, users=8)

    assert backend.played(load) == backend.played(load)
    assert backend.played(load) != backend.played(load, seed=1)

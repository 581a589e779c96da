"""Profiles: what a backend sustains within an SLO, and the files they are read from."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import profiles
from planner.errors import InvalidFile, InvalidValue
from planner.profiles import ProfileFile
from planner.slo import Slo

FILES = sorted((Path(__file__).resolve().parents[2] / "configs/profiles").glob("*.yaml"))
GPUS = ("L4", "A10G", "A100-80G", "H100")
ANY_S = 1e6


def profile(gpu: str, **options: object) -> profiles.Profile:
    spec = {"model": "Llama-2-7B"} | options
    return profiles.build(
        ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, **spec)  # type: ignore[arg-type]
    )


def rate(gpu: str, inputs: int, outputs: int, tpot_s: float) -> float:
    slo = Slo(ttft_s=ANY_S, tpot_s=tpot_s)
    return float(profile(gpu).capacity(np.array([inputs]), np.array([outputs]), slo).rate[0])


@pytest.mark.parametrize(
    ("inputs", "outputs", "tpot_s", "rates"),
    [
        (250, 250, ANY_S, ((1.413, 34), (2.391, 34), (11.123, 256), (18.121, 256))),
        (250, 250, 0.12, ((1.413, 34), (2.391, 34), (11.123, 256), (18.121, 256))),
        (250, 250, 0.04, ((0, 1), (1.304, 13), (9.721, 97), (17.229, 172))),
        (25, 25, 0.12, ((26.342, 79), (47.504, 142), (128.176, 256), (152.571, 256))),
        (2000, 25, 0.12, ((0.735, 2), (1.165, 3), (6.178, 18), (14.904, 44))),
        (2000, 2000, 0.04, ((0, 1), (0.027, 2), (0.280, 22), (0.558, 39))),
    ],
)
def test_rates_equal_the_check_values(
    inputs: int, outputs: int, tpot_s: float, rates: tuple[tuple[float, int], ...]
):
    """Rates agree up to the part of a request by which the reference's whole batches fall short."""
    found = [rate(gpu, inputs, outputs, tpot_s) for gpu in GPUS]

    for value, (expected, batch), gpu in zip(found, rates, GPUS, strict=True):
        short = 1 / batch if batch < 4 else 0.015  # the reference rounds a batch of 2.9 down to 2
        assert expected * 0.98 <= value <= expected * (1 + short), gpu


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(GPUS), st.integers(1, 4000), st.integers(2, 2000), st.floats(0.01, 0.5),
    st.floats(0.05, 5),
)  # fmt: skip
def test_the_sustained_batch_holds_the_targets(
    gpu: str, inputs: int, outputs: int, tpot_s: float, ttft_s: float
):
    """At n* the TPOT target holds, memory suffices, and Little's law ties n* to the rate."""
    one, sizes = profile(gpu), (np.array([inputs], float), np.array([outputs], float))

    capacity = one.capacity(*sizes, Slo(ttft_s=ttft_s, tpot_s=tpot_s))
    share_s = one.roofline.prefill_share_s(sizes[0]) / sizes[1]
    decode_s = one.roofline.decode_s(capacity.n_star, sizes[0] + sizes[1] / 2)
    tpot = decode_s + capacity.n_star * share_s

    if capacity.rate[0] > 0:
        assert tpot[0] <= tpot_s * (1 + 1e-9)
        assert 1 <= capacity.n_star[0] <= one.max_num_seqs
        assert capacity.n_star[0] * (inputs + outputs / 2) <= one.roofline.kv_capacity
        assert capacity.rate[0] * outputs * tpot[0] == pytest.approx(capacity.n_star[0])
    else:
        assert capacity.n_star[0] == 0


def test_a_prompt_too_long_for_the_ttft_is_infeasible():
    """TTFT limits the prompt, whatever the TPOT."""
    slo = Slo(ttft_s=0.5, tpot_s=1.0)

    capacity = profile("A10G").capacity(np.array([200, 3000]), np.array([50, 50]), slo)

    assert capacity.rate[0] > 0
    assert capacity.rate[1] == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_profile_loads(path: Path):
    """Each file names what it is named after, where it comes from, and can serve something."""
    found = profiles.read(path)

    assert path.stem == f"{found.roofline.model.name}-{found.gpu}".lower()
    assert "source:" in path.read_text()
    slo = Slo(ttft_s=5.0, tpot_s=0.2)
    assert found.capacity(np.array([200]), np.array([100]), slo).rate[0] > 0


def test_all_eight_profiles_are_shipped():
    """Two models on four GPU types."""
    assert len(FILES) == 8


@pytest.mark.parametrize(
    ("line", "words"),
    [("gpu: B300", "gpu: unknown `B300`"), ("modle: x", "modle"),
     ("max_num_seqs: many", "max_num_seqs"),
     ("max_model_len: 0", "max_model_len"), ("dtype: int3", "dtype")],
)  # fmt: skip
def test_a_wrong_profile_file_names_file_and_key(tmp_path: Path, line: str, words: str):
    """One line says which file and which key is wrong."""
    key = line.split(":")[0]
    good = FILES[0].read_text().splitlines()
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join([*(row for row in good if not row.startswith(key + ":")), line]))

    with pytest.raises(InvalidFile) as caught:
        profiles.read(path)

    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_profile_file_is_named(tmp_path: Path):
    """A file that is not there is an InvalidFile like any other."""
    with pytest.raises(InvalidFile, match="absent"):
        profiles.read(tmp_path / "absent.yaml")


def test_a_model_that_does_not_fit_is_refused():
    """70B in fp16 does not fit into one H100."""
    with pytest.raises(InvalidValue, match="does not fit"):
        profile("H100", model="Llama-2-70B")

"""Profiles: what a backend sustains within an SLO, and the files they are read from."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import shipped
from planner.engine import fit, profiles
from planner.engine.batching import Engine, LastToken
from planner.engine.points import Point
from planner.engine.prefill import Mix, added
from planner.engine.profiles import ProfileFile
from planner.errors import InvalidFile, InvalidValue, PlannerError
from planner.slo import Slo

FILES = sorted((shipped.folder() / "profiles").glob("*/*.yaml"))
GPUS = ("L4", "A10G", "A100-80G", "H100")
ANY_S = 1e6


def profile(gpu: str, **options: Any) -> profiles.Profile:
    spec = {"model": "Llama-2-7B"} | options
    return profiles.build(ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, **spec))


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
    batch = capacity.n_star
    assert one.roofline is not None
    mix = Mix(batch=batch, inputs=sizes[0], outputs=sizes[1])
    added_s = added(one.roofline, one.prompts, mix).seconds
    decode_s = one.roofline.decode_s(batch, sizes[0] + sizes[1] / 2)
    stay_s = outputs * decode_s + batch * added_s

    if capacity.rate[0] > 0:
        assert np.asarray(one.tpot_s(batch, *sizes))[0] <= tpot_s * (1 + 1e-9)
        assert 1 <= capacity.n_star[0] <= one.max_num_seqs
        assert capacity.n_star[0] * (inputs + outputs / 2) <= one.roofline.kv_capacity
        assert capacity.rate[0] * stay_s[0] == pytest.approx(capacity.n_star[0])
    else:
        assert capacity.n_star[0] == 0


@pytest.mark.parametrize("kind", ["analytic", "fitted"])
def test_prefix_hits_are_not_computed_but_take_room(kind: str):
    """With more hits long prompts are served faster and fit a shorter TTFT; KV bounds as before."""
    one = profile("A100-80G")
    if kind == "fitted":
        assert one.roofline is not None
        one = replace(one, calibration=fit.prior(one.roofline))
    inputs, outputs = np.array([3000.0, 1.0, 300.0, 4000.0]), np.array([50.0, 50.0, 300.0, 2.0])
    slo = Slo(ttft_s=2.0, tpot_s=0.08)
    found = [one.capacity(inputs, outputs, slo, share * inputs) for share in (0, 0.3, 0.6, 1, 9)]
    plain = one.capacity(inputs, outputs, slo)
    tight = Slo(ttft_s=float(np.asarray(one.times.prefill_s(3000.0))), tpot_s=0.08)

    assert (found[0].rate.tolist(), found[0].n_star.tolist()) == (
        plain.rate.tolist(), plain.n_star.tolist(),
    )  # fmt: skip
    for fewer, more in itertools.pairwise(found):
        assert (more.rate >= fewer.rate).all()
        assert (more.n_star * (inputs + outputs / 2) <= one.kv_capacity).all()
    assert found[2].rate[0] > 1.5 * found[0].rate[0]
    assert found[4].rate.tolist() == found[3].rate.tolist()
    assert one.capacity(inputs[:1], outputs[:1], tight).rate[0] == 0
    assert one.capacity(inputs[:1], outputs[:1], tight, 0.6 * inputs[:1]).rate[0] > 0


def test_a_prompt_too_long_for_the_ttft_is_infeasible():
    """TTFT limits the prompt, whatever the TPOT."""
    slo = Slo(ttft_s=0.5, tpot_s=1.0)

    capacity = profile("A10G").capacity(np.array([200, 3000]), np.array([50, 50]), slo)

    assert capacity.rate[0] > 0
    assert capacity.rate[1] == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_profile_loads(path: Path):
    """Each file names what it is named after, where it comes from, and can serve something."""
    found = profiles.read_profile(path)

    assert f"{path.parent.name}/{path.stem}" == f"{found.model.lower()}/{found.gpu_label}"
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
        profiles.read_profile(path)

    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_profile_file_is_named(tmp_path: Path):
    """A file that is not there is an InvalidFile like any other."""
    with pytest.raises(InvalidFile, match="absent"):
        profiles.read_profile(tmp_path / "absent.yaml")


def test_a_model_that_does_not_fit_is_refused():
    """70B in fp16 does not fit into one H100."""
    with pytest.raises(InvalidValue, match="does not fit"):
        profile("H100", model="Llama-2-70B")


MEASURED = """format: cuvee-profile/1
origin: measured
gpu: H100
model: Llama-3-8B
engine: vllm-v1
points:
- {input_tokens: 512, output_tokens: 128, rate: 0.5, tpot_s: 0.016, ttft_s: 0.03}
- {input_tokens: 512, output_tokens: 128, rate: 8.0, tpot_s: 0.022}
- {input_tokens: 512, output_tokens: 128, batch: 64, tpot_s: 0.030}
"""
FIXED = """format: cuvee-profile/1
origin: imported
gpu: A10G
model: Llama-2-7B
max_model_len: 2000
baked_slo: TPOT 120 ms
rates: {input_to: [100, 1000], output_to: [50, 500], rate: [[9.0, 1.0], [2.0, 0.0]]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "profile.yaml"
    path.write_text(text)
    return path


def test_a_measured_profile_meets_its_points(tmp_path: Path):
    """At the TPOT that was measured it sustains the rate that was measured, and the SLO is free."""
    found = profiles.read_profile(written(tmp_path, MEASURED))
    sizes = np.array([512.0]), np.array([128.0])

    at_point = found.capacity(*sizes, Slo(ttft_s=2.0, tpot_s=0.022)).rate[0]
    looser = found.capacity(*sizes, Slo(ttft_s=2.0, tpot_s=0.044)).rate[0]

    assert found.origin == "measured"
    assert found.calibration is not None
    assert found.calibration.n == 4
    assert at_point == pytest.approx(8.0, rel=0.1)
    assert looser > 2 * at_point


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.3, 3), st.integers(1, 4000), st.integers(2, 2000), st.floats(0.01, 0.5),
    st.floats(0.05, 5),
)  # fmt: skip
def test_a_measured_profile_holds_the_targets(
    slower: float, inputs: int, outputs: int, tpot_s: float, ttft_s: float
):
    """At n* TPOT and memory hold by the fitted model, and Little's law ties n* to the rate."""
    points = [
        Point(input_tokens=512, output_tokens=128, batch=b, tpot_s=slower * (0.006 + 2e-4 * b))
        for b in (1, 16, 64)
    ]
    one = profiles.build(
        ProfileFile(format="cuvee-profile/1", origin="measured", gpu="H100", model="Llama-3-8B",
                    points=tuple(points), kv_tokens=100_000)
    )  # fmt: skip

    found = one.capacity(np.array([inputs]), np.array([outputs]), Slo(ttft_s=ttft_s, tpot_s=tpot_s))
    batch = found.n_star[0]

    if found.rate[0] > 0:
        assert 1 <= batch <= one.max_num_seqs
        assert batch * (inputs + outputs / 2) <= 100_000
        assert one.tpot_s(batch, inputs, outputs) <= tpot_s * (1 + 1e-9)
        prompt = added(one.times, one.prompts, Mix(batch=batch, inputs=inputs, outputs=outputs))
        token_s = one.times.decode_s(batch, inputs + outputs / 2)
        token_s += batch / outputs * prompt.seconds
        assert found.rate[0] * outputs * token_s == pytest.approx(batch)
    else:
        assert batch == 0


def test_fixed_rates_ignore_the_slo_and_say_which_they_have(tmp_path: Path):
    """The table's rate for every SLO, nothing where it holds none, and n* of that rate."""
    found = profiles.read_profile(written(tmp_path, FIXED))
    sizes = np.array([100, 100, 101, 500, 1000, 1001]), np.array([50, 51, 50, 500, 1000, 10])

    strict = found.capacity(*sizes, Slo(ttft_s=0.01, tpot_s=0.001))
    loose = found.capacity(*sizes, Slo(ttft_s=10, tpot_s=1))

    assert found.baked_slo == "TPOT 120 ms"
    assert strict.rate.tolist() == loose.rate.tolist() == [9.0, 1.0, 2.0, 0.0, 0.0, 0.0]
    assert (loose.n_star[:3] >= 1).all()
    assert (loose.n_star[3:] == 0).all()
    batch = loose.n_star[0]
    prompt = added(found.times, found.prompts, Mix(batch=batch, inputs=100.0, outputs=50.0))
    own_s = float(prompt.seconds * prompt.together)
    in_flight = 9.0 * (50 * found.tpot_s(batch, 100, 50) + own_s)
    assert loose.n_star[0] == pytest.approx(in_flight, rel=1e-3)


def test_the_engine_s_own_kv_size_replaces_the_estimate(tmp_path: Path):
    """What the engine reported decides how many sequences fit."""
    small = profiles.read_profile(written(tmp_path, MEASURED + "kv_tokens: 2000\n"))

    found = small.capacity(np.array([900.0]), np.array([100.0]), Slo(ttft_s=9, tpot_s=1))

    assert small.kv_capacity == 2000
    assert found.n_star[0] == 2


ENOUGH = """format: cuvee-profile/1
origin: measured
gpu: TPU-9
model: Secret-1T
tensor_parallel_size: 4
kv_tokens: 100000
points:
""" + "".join(
    f"- {{input_tokens: {i}, output_tokens: {o}, batch: {b}, tpot_s: {0.006 + b * (2e-4 + c)},"
    f" ttft_s: {0.006 + b * (0.004 + 3e-5 * i + 1e-9 * i * i)}}}\n"
    for i, o, c in ((128, 256, 3e-6), (1024, 128, 1.1e-5), (4000, 256, 4.1e-5))
    for b in (1, 8)
)


def test_a_profile_of_enough_points_needs_no_rows(tmp_path: Path):
    """GPU and model are names then; times, capacity and a simulated engine come from the points."""
    found = profiles.read_profile(written(tmp_path, ENOUGH))
    capacity = found.capacity(np.array([500.0]), np.array([200.0]), Slo(ttft_s=2, tpot_s=0.05))

    assert (found.gpu_label, found.model, found.roofline) == ("4xTPU-9", "Secret-1T", None)
    assert found.times is found.calibration
    assert found.calibration.error < 0.01
    assert capacity.rate[0] > 0
    assert found.kv_capacity == 100_000
    engine = Engine(found)
    engine.submit("a", input_tokens=500, output_tokens=2, now_s=0.0)
    first, last = engine.advance(10.0)
    assert first.at_s == pytest.approx(0.006 + 0.004 + 3e-5 * 500, rel=0.05)
    assert last.at_s - first.at_s == pytest.approx(0.006 + 2e-4 + 1e-8 * 500, rel=0.05)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("kv_tokens: 100000\n", "", "gpu: unknown `TPU-9`; .* it takes kv_tokens"),
        ("gpu: TPU-9", "gpu: H100", "model: unknown `Secret-1T`; .* it takes kv_tokens"),
        ("- {input_tokens: 128, output_tokens: 256, batch: 1", "- {input_tokens: 128, "
         "output_tokens: 256, rate: 9", r"gpu: unknown `TPU-9`; .* at least 12 values"),
    ],
)  # fmt: skip
def test_a_row_that_is_missed_is_named_with_what_would_do_without(
    tmp_path: Path, old: str, new: str, words: str
):
    """The unknown name, and what the file lacks to do without its figures."""
    text = ENOUGH.replace("kv_tokens: 100000\n", "") if "H100" in new else ENOUGH

    with pytest.raises(InvalidFile, match=words):
        profiles.read_profile(written(tmp_path, text.replace(old, new)))


INLINE = """format: cuvee-profile/1
origin: analytic
gpu: {name: B300, memory_gib: 268, bandwidth_gb_s: 8000, tflops: {fp16: 2250, fp8: 4500},
      usd_per_hour: 9.5}
model: {name: Own-1B, parameters: 1100000000, layers: 22, hidden: 2048, query_heads: 32,
        kv_heads: 4, head_size: 64, vocabulary: 32000}
"""


def test_numbers_in_the_profile_or_in_files_beside_it_are_the_same(tmp_path: Path):
    """A GPU and a model of one's own: inline, or by paths relative to the profile."""
    inline = profiles.read_profile(written(tmp_path, INLINE))
    spec = msgspec.yaml.decode(INLINE, type=ProfileFile)
    for name, row in (("gpus", spec.gpu), ("models", spec.model)):
        entry = msgspec.to_builtins(row)
        body = {"format": f"cuvee-{name}/1", name: {entry.pop("name"): entry}}
        (tmp_path / f"{name}.yaml").write_bytes(msgspec.yaml.encode(body))
    by_file = profiles.read_profile(
        written(
            tmp_path,
            "format: cuvee-profile/1\norigin: analytic\ngpu: gpus.yaml\nmodel: models.yaml\n",
        )
    )

    assert by_file == inline
    assert (inline.gpu, inline.model, inline.usd_per_gpu_hour) == ("B300", "Own-1B", 9.5)


def test_a_model_may_be_a_config_of_hugging_face(tmp_path: Path):
    """As it is downloaded, in a folder named after the model."""
    (tmp_path / "Own").mkdir()
    (tmp_path / "Own" / "config.json").write_text(
        '{"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32,'
        ' "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000}'
    )
    text = "format: cuvee-profile/1\norigin: analytic\ngpu: L4\nmodel: Own/config.json\n"

    found = profiles.read_profile(written(tmp_path, text))

    assert found.model == "Own"
    assert found.roofline is not None
    assert found.roofline.model.parameters == pytest.approx(1.1e9, rel=0.01)


@pytest.mark.parametrize(
    ("value", "label", "limits"),
    [
        ("llama-3-8b/H100", "H100", (256, 2048, 8192)),  # the shipped files
        ("LLAMA-3-8B/a10g", "A10G", (256, 512, 8192)),
        ("Llama-2-13B/2xl4", "2xL4", (256, 2048, 4096)),  # of rows; the model's own context
        ("llama-3.3-70b/4xH200", "4xH200", (1024, 2048, 8192)),
    ],
)
def test_a_built_in_name_is_a_file_or_two_rows(
    tmp_path: Path, value: str, label: str, limits: tuple[int, int, int]
):
    """MODEL/GPU in any case: the shipped profile, else the analytic one of the two rows."""
    found = profiles.find_profile(value, tmp_path)

    assert (found.model.lower(), found.gpu_label) == (value.lower().split("/")[0], label)
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.max_model_len) == limits


def test_a_file_of_that_name_comes_first(tmp_path: Path):
    """What lies beside the configuration is a path, whatever it is called."""
    (tmp_path / "llama-3-8b").mkdir()
    (tmp_path / "llama-3-8b" / "H100").write_text(INLINE)

    assert profiles.find_profile("llama-3-8b/H100", tmp_path).model == "Own-1B"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lama-3-8b/H100", "model: unknown `lama-3-8b`; did you mean Llama-3-8B"),
        ("llama-3-8b/H1000", r"gpu: unknown `H1000`; did you mean H100"),
        ("llama-3-8b/tpu", "gpu: unknown `tpu`; known are A100-40G, "),
        ("llama-3-8b", "no built-in name"),
        ("llama-3-8b/0xH100", "tensor_parallel_size: must be in GPUs, 1 to 1,024: 0"),
        ("llama-3-8b/10000xH100", "must be in GPUs, 1 to 1,024: 10000"),
        ("llama-3-8b/3xH100", "32 attention heads of Llama-3-8B do not divide by 3 GPUs"),
        ("meta-llama/Meta-Llama-3-8B/H100", "did you mean Llama-3-8B"),
        ("llama-3-70b/H100", "does not fit"),
        ("no/H100.yaml", "cannot be read"),
    ],
)
def test_a_wrong_name_lists_what_is_near(tmp_path: Path, value: str, words: str):
    """One line that says which part of it is unknown."""
    with pytest.raises(PlannerError, match=words):
        profiles.find_profile(value, tmp_path)


@pytest.mark.parametrize("text", [MEASURED, FIXED], ids=["points", "rates"])
def test_a_profile_written_is_the_profile_read(tmp_path: Path, text: str):
    """Writing loses nothing."""
    path, copy = written(tmp_path, text), tmp_path / "copy.yaml"
    spec = msgspec.yaml.decode(path.read_bytes(), type=ProfileFile)

    profiles.write(spec, copy)

    assert msgspec.yaml.decode(copy.read_bytes(), type=ProfileFile) == spec
    assert profiles.read_profile(copy).calibration == profiles.read_profile(path).calibration


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (MEASURED, "rate: 8.0", "rate: 0", r"points\[1\].rate: must be above 0"),
        (MEASURED, "rate: 8.0", "rate: -8", r"points\[1\].rate"),
        (MEASURED, "tpot_s: 0.022", "tpot_s: .nan", r"points\[1\].tpot_s"),
        (MEASURED, ", tpot_s: 0.030", "", r"points\[2\]: a hole"),
        (MEASURED, "batch: 64, ", "", r"points\[2\]: a hole"),
        (MEASURED, "rate: 8.0", "rate: 0.5", r"points\[1\]: the same size and load as points\[0\]"),
        (MEASURED, "rate: 8.0", "rat: 8.0", r"points\[1\]"),
        (MEASURED, "origin: measured", "origin: analytic", "origin: an analytic profile"),
        (MEASURED, "gpu: H100", "gpu: B300", "gpu: unknown `B300`"),
        (FIXED, "[2.0, 0.0]", "[2.0]", r"rate\[1\]: a hole"),
        (FIXED, "[2.0, 0.0]", "[2.0, null]", r"rate\[1\]\[1\]|rate\[...\]\[...\]"),
        (FIXED, "[100, 1000]", "[1000, 100]", "input_to: must be ascending"),
        (FIXED, "baked_slo: TPOT 120 ms", "", "baked_slo: belongs to rates"),
        (FIXED, "rates:", "source: x #", "needs points or rates"),
    ],
)  # fmt: skip
def test_a_measured_profile_that_cannot_be_used_names_the_point(
    tmp_path: Path, text: str, old: str, new: str, words: str
):
    """Holes, NaN, zero and negative rates, double points, a GPU without data: file and key."""
    path = written(tmp_path, text.replace(old, new))

    with pytest.raises(InvalidFile, match=words) as caught:
        profiles.read_profile(path)

    assert str(path) in str(caught.value)


def closed_loop_rate(one: profiles.Profile, users: int, inputs: int, outputs: int) -> float:
    """Requests/s of users who ask again at once, sizes between half and one and a half of these;
    without the first third, while the engine fills."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(
        [inputs // 2, outputs // 2], [inputs * 3 // 2, outputs * 3 // 2], (2000, 2)
    )
    engine, total = Engine(one), 25 * users
    ends_s: list[float] = []

    def submit(key: int, now_s: float) -> None:
        size = sizes[key].tolist()
        engine.submit(key, input_tokens=size[0], output_tokens=size[1], now_s=now_s)

    for key in range(users):
        submit(key, 0.0)
    while len(ends_s) < total:
        now_s = engine.next_event_s
        assert now_s is not None
        for event in engine.advance(now_s):
            if isinstance(event, LastToken):
                ends_s.append(now_s)
                submit(users + len(ends_s) - 1, now_s)
    return (total - total // 3) / (ends_s[-1] - ends_s[total // 3 - 1])


@pytest.mark.parametrize(("inputs", "outputs"), [(128, 128), (1000, 200), (4000, 100)])
@pytest.mark.parametrize("users", [4, 16, 64])
@pytest.mark.parametrize("gpu", ["A100-80G", "H100"])
@pytest.mark.parametrize("engine", ["vllm-v1", "vllm-v0", "sglang", "tensorrt-llm", "tgi"])
def test_the_formula_is_the_play_s_mean(
    engine: str, gpu: str, users: int, inputs: int, outputs: int
):
    """However an engine shares its iterations, the formula's rate is within 10 % of the one that
    the simulated engine keeps up for so many requests in flight."""
    one = profile(gpu, engine=engine, model="Llama-3-8B")
    mix = Mix(batch=float(users), inputs=float(inputs), outputs=float(outputs))
    added_s = added(one.times, one.prompts, mix).seconds
    stated = users / (outputs * one.times.decode_s(users, inputs + outputs / 2) + users * added_s)

    assert closed_loop_rate(one, users, inputs, outputs) == pytest.approx(stated, rel=0.1)

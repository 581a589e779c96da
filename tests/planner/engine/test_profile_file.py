"""The file of a profile: what is wrong in it is said at once, in lines with file and key."""

from pathlib import Path

import pytest

from planner.engine import profiles
from planner.engine.profile_file import ProfileFile
from planner.errors import InvalidFile, InvalidValue

LINES = {
    "format": "cuvee-profile/1",
    "origin": "analytic",
    "gpu": "{name: Own, memory_gib: 80, bandwidth_gb_s: 3350, tflops: {fp16: 990}}",
    "model": "{name: Own-MoE, parameters: 30532000000, active_parameters: 3353000000, experts: 128,"
    " experts_per_token: 8, layers: 48, hidden: 2048, query_heads: 32, kv_heads: 4,"
    " head_size: 128, vocabulary: 151936, context: 32768}",
}


def written(folder: Path, changes: dict[str, str]) -> Path:
    path = folder / "profile.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in (LINES | changes).items()))
    return path


def problems(folder: Path, changes: dict[str, str]) -> list[str]:
    """The lines of the error, without the name of the profile."""
    path = written(folder, changes)
    with pytest.raises(InvalidFile) as caught:
        profiles.read_profile(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_the_file_itself_is_right(tmp_path: Path):
    """Else the tests below would prove nothing."""
    found = profiles.read_profile(written(tmp_path, {}))

    assert (found.gpu, found.model, found.max_model_len) == ("Own", "Own-MoE", 8192)


@pytest.mark.parametrize(
    ("key", "old", "new", "problem"),
    [
        # Units.
        ("gpu", "memory_gib: 80", "memory_gib: 85899345920",
         "gpu.memory_gib: must be in GiB, 1 to 2,000: 85899345920"),
        ("gpu", "fp16: 990", "fp16: 9.9e+14",
         "gpu.tflops.fp16: must be in TFLOP/s, 4 to 100,000: 990000000000000"),
        ("gpu", "fp16: 990", "fp16: 0.99", "gpu.tflops.fp16: must be in TFLOP/s, 4 to 100,000"),
        ("gpu", "3350", "3.35", "gpu.bandwidth_gb_s: must be in GB/s, 20 to 100,000: 3.35"),
        ("gpu", "3350", "3350000", "gpu.bandwidth_gb_s: must be in GB/s, 20 to 100,000: 3350000"),
        ("model", "30532000000", "30.5",
         "model.parameters: must be their number, a million or more (30.5e+9): 30.5"),
        ("model", "30532000000", "30.5e9", "model.parameters: must be a number, is text: 30.5e9"),
        # A mixture whose parts are more than the whole.
        ("model", "3353000000", "335300000000",
         "model.active_parameters: must be a part of all 3.0532e+10 parameters: 3.353e+11"),
        ("model", "experts_per_token: 8", "experts_per_token: 128",
         "model.experts_per_token: must be a part of all 128 experts: 128"),
        # Words of people for words of programs.
        ("gpu", "memory_gib", "memory_gb", "gpu.memory_gb: unknown key; did you mean memory_gib?"),
        ("gpu", "memory_gib: 80", "memory_gib: lots",
         "gpu.memory_gib: must be a number, is text: lots"),
    ],
)  # fmt: skip
def test_a_number_in_the_wrong_unit_names_key_and_unit(
    tmp_path: Path, key: str, old: str, new: str, problem: str
):
    """Bytes for GiB, FLOP/s for TFLOP/s, TB/s for GB/s, billions for parameters: one line."""
    found = problems(tmp_path, {key: LINES[key].replace(old, new)})

    assert [line[: len(problem)] for line in found] == [problem]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"max_num_seqs": "0"}, "max_num_seqs: must be 1 to a million: 0"),
        ({"max_num_seqs": "-3"}, "max_num_seqs: must be 1 to a million: -3"),
        ({"max_num_batched_tokens": "0"}, "max_num_batched_tokens: must be in tokens"),
        ({"kv_tokens": "0"}, "kv_tokens: must be in tokens, at least 1: 0"),
        ({"tensor_parallel_size": "0"}, "tensor_parallel_size: must be in GPUs, 1 to 1,024: 0"),
        ({"tensor_parallel_size": "10000"}, "tensor_parallel_size: must be in GPUs, 1 to 1,024"),
        ({"tensor_parallel_size": "3"},
         "tensor_parallel_size: 32 attention heads of Own-MoE do not divide by 3 GPUs"),
        ({"max_model_len": "40000"},
         "max_model_len: 40000 is beyond the context of Own-MoE, 32768 tokens"),
        ({"dtype": "fp8"}, "dtype: fp8, and Own has no fp8 units"),
        ({"dtype": "int8"}, "dtype: int8 is none of fp16, bf16, fp8"),
        ({"gpu": "A100-80G", "model": "DeepSeek-V3", "tensor_parallel_size": "16"},
         "model: DeepSeek-V3 has fp8 weights: A100-80G has no fp8 units"),
        ({"engine": "vlm-v1"}, "engine: unknown `vlm-v1`; did you mean vllm-v1"),
        ({"gpu": "A100"}, "gpu: unknown `A100`; did you mean A100-80G or A100-40G?"),
        ({"model": "meta-llama/Meta-Llama-3-8B"},
         "model: unknown `meta-llama/Meta-Llama-3-8B`; did you mean Llama-3-8B"),
    ],
)  # fmt: skip
def test_a_limit_that_no_engine_has_names_its_key(
    tmp_path: Path, changes: dict[str, str], problem: str
):
    """Zero, too many GPUs, heads that cannot be split, a context that the model does not have."""
    found = problems(tmp_path, changes)

    assert [line[: len(problem)] for line in found] == [problem]


@pytest.mark.parametrize("time", ["tpot_s: 16", "ttft_s: 1600", "tpot_s: 0"])
def test_a_time_in_milliseconds_names_its_point(tmp_path: Path, time: str):
    """Without it the error came from a bucket that no pool can use."""
    point = f"[{{input_tokens: 512, output_tokens: 128, batch: 4, {time}}}]"

    found = problems(tmp_path, {"origin": "measured", "points": point})

    key = time.split(":")[0]
    assert len(found) == 1
    assert found[0].startswith(f"points[0].{key}: must be in seconds, above 0 and at most")


def test_every_mistake_of_a_file_is_a_line(tmp_path: Path):
    """Unknown keys, wrong values, and those that only show beside another key."""
    found = problems(
        tmp_path,
        {"gpu": LINES["gpu"].replace("memory_gib", "memory_gb"), "dtype": "int8",
         "max_num_seqs": "0", "tensor_parallel_size": "5", "engine": "lmdeploy",
         "max_model_len": "99999", "origin": "measured"},
    )  # fmt: skip

    keys = {line.split(":")[0] for line in found}
    assert keys == {
        "gpu.memory_gb", "dtype", "max_num_seqs", "tensor_parallel_size", "engine",
        "max_model_len", "points",
    }  # fmt: skip
    assert len(found) == len(keys)


def test_a_mistake_in_a_file_beside_it_names_that_file(tmp_path: Path):
    """And the profile's own mistakes name the profile."""
    gpus = tmp_path / "gpus.yaml"
    gpus.write_text("format: cuvee-gpus/1\ngpus: {Own: {memory_gib: 80, tflops: {fp16: 9e2}}}\n")

    found = problems(tmp_path, {"gpu": "gpus.yaml", "max_num_seqs": "0"})

    assert found == [
        "max_num_seqs: must be 1 to a million: 0",
        f"{gpus}: gpus.Own.tflops.fp16: must be a number, is text: 9e2 (write 900)",
        f"{gpus}: gpus.Own.bandwidth_gb_s: missing",
    ]


def test_a_key_twice_is_refused(tmp_path: Path):
    """With both of its lines."""
    path = written(tmp_path, {"max_num_seqs": "128\nmax_num_seqs: 256"})

    with pytest.raises(InvalidFile, match="max_num_seqs: stands twice, in lines 5 and 6"):
        profiles.read_profile(path)


def test_names_and_engines_may_be_written_in_any_case(tmp_path: Path):
    """The profile has them as the rows do."""
    changes = {"gpu": "h100", "model": "llama-3-8b", "engine": "VLLM-V1"}

    found = profiles.read_profile(written(tmp_path, changes))

    assert (found.gpu, found.model, found.max_num_seqs) == ("H100", "Llama-3-8B", 1024)


@pytest.mark.parametrize(
    ("stated", "longest"), [({}, 4096), ({"max_model_len": "2048"}, 2048)], ids=["default", "own"]
)
def test_the_default_context_is_no_longer_than_the_model_s(
    tmp_path: Path, stated: dict[str, str], longest: int
):
    """Llama 2 was made for 4,096 tokens, and an engine starts with no more."""
    found = profiles.read_profile(written(tmp_path, {"model": "Llama-2-7B"} | stated))

    assert found.max_model_len == longest


def test_a_profile_made_by_a_program_is_checked_alike(tmp_path: Path):
    """Bounds where the value is made, the rest when a profile is built of it."""
    spec = {"format": "cuvee-profile/1", "origin": "analytic", "model": "Llama-3-8B"}

    with pytest.raises(InvalidValue, match="max_num_seqs: must be"):
        ProfileFile(**spec, gpu="H100", max_num_seqs=0)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="gpu: unknown `H101`") as caught:
        profiles.build(
            ProfileFile(**spec, gpu="H101", tensor_parallel_size=3)  # type: ignore[arg-type]
        )
    assert "tensor_parallel_size: 32 attention heads" in str(caught.value)
    with pytest.raises(InvalidFile, match=r"no\.yaml: cannot be read"):
        profiles.build(ProfileFile(**spec, gpu="no.yaml"), tmp_path)  # type: ignore[arg-type]

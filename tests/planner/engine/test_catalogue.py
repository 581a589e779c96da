"""Rows of GPUs and models: the shipped ones and a user's own."""

import json
from pathlib import Path

import msgspec
import pytest

from planner import shipped
from planner.engine import catalogue
from planner.engine.hardware import Gpu, Model
from planner.errors import InvalidFile

GPUS = (
    "T4", "L4", "A10G", "L40S", "RTX-4090", "A100-40G", "A100-80G", "H100", "H200", "B200",
    "MI300X",
)  # fmt: skip
GPU_FILE = """format: cuvee-gpus/1
gpus:
  B300:
    memory_gib: 268
    bandwidth_gb_s: 8000
    tflops: {fp16: 2250, fp8: 4500}
    usd_per_hour: 9.5
"""
MODEL_FILE = """format: cuvee-models/1
models:
  Own-1B: {parameters: 1_100_000_000, layers: 22, hidden: 2048, query_heads: 32, kv_heads: 4,
           head_size: 64, vocabulary: 32000}
"""


def test_every_shipped_row_has_its_source():
    """All GPU types and families that docs/profiles.md names are there, each with a source."""
    rows: tuple[Gpu | Model, ...] = (*catalogue.gpus().values(), *catalogue.models().values())

    assert set(GPUS) <= set(catalogue.gpus())
    for family in ("Llama-2", "Llama-3.", "Qwen2.5", "Qwen3", "Mistral", "Mixtral", "gpt-oss",
                   "Gemma-3", "DeepSeek-V3"):  # fmt: skip
        assert any(name.startswith(family) for name in catalogue.models()), family
    assert all(row.source for row in rows)


def test_a_gpu_is_given_by_name_by_numbers_or_by_file(tmp_path: Path):
    """All three give the same kind of row; a name without a row gives none."""
    (tmp_path / "b300.yaml").write_text(GPU_FILE)
    from_file = catalogue.find_gpu("b300.yaml", tmp_path)

    assert catalogue.find_gpu("h100", tmp_path) == catalogue.gpus()["H100"]
    assert from_file is not None
    assert (from_file.name, from_file.flops_8, from_file.usd_per_hour) == ("B300", 4.5e15, 9.5)
    assert from_file.achieved == Gpu(
        name="x", memory_gib=1, bandwidth_gb_s=20, tflops=from_file.tflops
    ).achieved  # fmt: skip
    assert catalogue.find_gpu(from_file, tmp_path) is from_file
    assert catalogue.find_gpu("B300", tmp_path) is None


def test_a_model_is_given_by_name_by_numbers_or_by_either_file(tmp_path: Path):
    """A file of models with one row, or the config.json of Hugging Face."""
    (tmp_path / "own.yaml").write_text(MODEL_FILE)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32,
                "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000,
            }
        )
    )  # fmt: skip
    own = catalogue.find_model("own.yaml", tmp_path)
    read = catalogue.find_model("config.json", tmp_path)

    assert own is not None
    assert read is not None
    assert (own.name, read.name) == ("Own-1B", tmp_path.name)
    assert own.kv_elements == read.kv_elements == 2 * 22 * 4 * 64
    assert own.parameters == pytest.approx(read.parameters, rel=0.001)
    assert catalogue.find_model("LLAMA-3-8b", tmp_path) == catalogue.models()["Llama-3-8B"]
    assert catalogue.find_model("Own-1B", tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "memory_gib: 268",
            "memory_gib: -1",
            r"gpus\.B300\.memory_gib: must be in GiB, 1 to 2,000: -1",
        ),
        ("memory_gib: 268", "memory: 268", r"gpus\.B300\.memory: unknown .* mean memory_gib\?"),
        ("bandwidth_gb_s: 8000", "", r"gpus\.B300\.bandwidth_gb_s: missing"),
        ("fp8: 4500", "fp8: .nan", r"gpus\.B300\.tflops\.fp8"),
        ("usd_per_hour: 9.5", "usd_per_hour: -1", r"gpus\.B300\.usd_per_hour"),
        ("usd_per_hour: 9.5", "achieved: {compute: 1.2}", r"gpus\.B300\.achieved\.compute"),
        ("  B300:\n", "  B300: 3\n  B301:\n", r"gpus\.B300: must be a mapping"),
        ("cuvee-gpus/1", "cuvee-gpus/2", "format"),
        ("gpus:", "gpus: [", r"own.yaml:\d+: .*"),
    ],
)
def test_a_wrong_row_names_file_row_and_key(tmp_path: Path, old: str, new: str, words: str):
    """One line, whatever is wrong."""
    path = tmp_path / "own.yaml"
    path.write_text(GPU_FILE.replace(old, new))

    with pytest.raises(InvalidFile, match=words) as caught:
        catalogue.find_gpu("own.yaml", tmp_path)

    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_a_profile_s_file_has_one_row():
    """Which of several is meant nobody could say: the shipped file has many."""
    with pytest.raises(InvalidFile, match=r"gpus\.yaml: gpus: a profile needs a file with one row"):
        catalogue.find_gpu("gpus.yaml", shipped.folder())
    with pytest.raises(InvalidFile, match=r"models\.yaml: models: .* one row, not 42"):
        catalogue.find_model("models.yaml", shipped.folder())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": " "}, "name"),
        ({"layers": 0}, "layers: must be 1 to 10,000: 0"),
        ({"parameters": 1e8}, "parameters: fewer than its parts"),
        ({"experts": 8}, "active_parameters: missing: a mixture of experts has"),
        ({"experts": 8, "experts_per_token": 8, "active_parameters": 1e9}, "must be a part of all"),
        ({"experts": 8, "experts_per_token": 7, "active_parameters": 4e8}, "fewer than its parts"),
        ({"window_layers": 3}, "window_layers"),
        ({"window": 128, "window_layers": 99}, "window_layers"),
    ],
)
def test_numbers_that_no_model_has_are_refused(change: dict[str, object], words: str):
    """Each is named in one line."""
    good = msgspec.structs.asdict(catalogue.models()["Llama-3.2-1B"])

    with pytest.raises(ValueError, match=words):
        Model(**good | change)


@pytest.mark.parametrize(
    ("asked", "proposed"),
    [
        ("A100", "A100-80G or A100-40G"),
        ("a100-80", "A100-80G"),
        ("H1000", "H100"),
        ("meta-llama/Meta-Llama-3-8B", "Llama-3-8B"),
        ("META-LLAMA-3-8B", "Llama-3-8B"),
        ("Qwen/Qwen3-30B-A3B", "Qwen3-30B-A3B"),
        ("deepseek-ai/DeepSeek-V3.1", "DeepSeek-V3"),
    ],
)
def test_a_proposal_begins_like_the_name_and_ignores_who_published_it(asked: str, proposed: str):
    """The parts of a family before what only looks alike; no organisation, no `Meta-`, any case."""
    known = [*catalogue.gpus(), *catalogue.models()]

    text = shipped.unknown(asked, known)

    assert text.startswith(f"unknown `{asked}`; did you mean {proposed}")
    assert asked != "A100" or text.endswith("or A100-40G?")

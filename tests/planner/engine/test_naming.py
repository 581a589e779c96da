"""Which model of the catalogue other people's names mean."""

import pytest

from planner.engine import catalogue
from planner.engine.naming import model_of, weight_bits


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama-3-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3-30B-A3B"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B"),
        ("google/gemma-3-12b-it", "Gemma-3-12B"),
        ("/models/qwen3_8b/", "Qwen3-8B"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "Llama-3.3-70B"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", None),
        ("deepseek-ai/DeepSeek-V3.1", None),
        ("Llama-3-8B-of-ours", None),
        ("Llama-3-80B", None),
        ("", None),
    ],
)
def test_names(name: str, model: str | None):
    """A tuned or a quantised one is the same model; one that is made from it is another."""
    assert model_of(name, catalogue.models()) == model


@pytest.mark.parametrize("model", sorted(catalogue.models()))
def test_every_model_is_found_by_its_own_name(model: str):
    """And by it with an organisation and a tuning."""
    assert model_of(model, catalogue.models()) == model
    assert model_of(f"org/{model.lower()}-Instruct", catalogue.models()) == model


@pytest.mark.parametrize(
    ("name", "bits"),
    [("a/Qwen3-8B-FP8", 8), ("Qwen2.5-72B-Instruct-AWQ", 4), ("Llama-3-8B", None), ("fp80", None)],
)
def test_bits_of_weights(name: str, bits: int | None):
    """Where the name says that they are fewer."""
    assert weight_bits(name) == bits

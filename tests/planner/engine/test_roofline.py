"""The engine model against the check values of its constants (Llama-2-7B fp16, vLLM v0)."""

import pytest

from planner.engine import catalogue
from planner.engine.hardware import ENGINES
from planner.engine.roofline import Roofline, roofline
from planner.errors import InvalidValue


def backend(gpu: str, model: str = "Llama-2-7B", **options: int) -> Roofline:
    row = catalogue.models()[model]
    return roofline(catalogue.gpus()[gpu], row, ENGINES["vllm-v0"], **options)


@pytest.mark.parametrize(
    ("gpu", "kv", "one_ms", "many_ms", "prefill_ms", "share_ms"),
    [
        ("L4", 12_907, 57.71, 129.18, 140.7, 133.8),
        ("A10G", 12_907, 30.33, 70.08, 137.5, 135.0),
        ("A100-80G", 117_601, 11.38, 25.85, 33.3, 31.2),
        ("H100", 118_154, 7.46, 16.20, 14.93, 12.92),
    ],
)
def test_times_equal_the_check_values(
    gpu: str, kv: int, one_ms: float, many_ms: float, prefill_ms: float, share_ms: float
):
    """KV capacity and step times agree to every printed digit."""
    found = backend(gpu)

    assert found.kv_capacity == kv
    assert 1e3 * found.decode_s(1, 512) == pytest.approx(one_ms, abs=0.0051)
    assert 1e3 * found.decode_s(32, 1000) == pytest.approx(many_ms, abs=0.0051)
    assert 1e3 * found.prefill_s(512) == pytest.approx(prefill_ms, abs=0.051)
    assert 1e3 * found.prefill_share_s(512) == pytest.approx(share_ms, abs=0.051)


def test_tensor_parallelism_equals_the_check_values():
    """Llama-2-70B on four H100: communication and sharded weights are accounted for."""
    found = backend("H100", "Llama-2-70B", gpus=4)

    assert found.kv_capacity == pytest.approx(499_687, abs=1)
    assert 1e3 * found.decode_s(16, 1000) == pytest.approx(20.01, abs=0.0051)
    assert 1e3 * found.prefill_s(1024) == pytest.approx(79.81, abs=0.0051)


def test_fp8_needs_fp8_units():
    """An A10G cannot run fp8 weights, and the error says so."""
    with pytest.raises(InvalidValue, match="A10G has no fp8 units"):
        backend("A10G", weight_bytes=1)


def test_a_backend_has_a_gpu():
    """Zero GPUs are refused by name."""
    with pytest.raises(InvalidValue, match="gpus"):
        backend("H100", gpus=0)


def test_a_mixture_reads_the_experts_that_its_tokens_use():
    """One token reads its own k of E experts; a large batch nearly all; the rest always."""
    mixture = backend("H100", "Qwen3-30B-A3B")
    row = catalogue.models()["Qwen3-30B-A3B"]
    read_s = 2 / (3350e9 * 0.88)
    fixed = row.parameters - row.expert_parameters - row.embedding

    def weights_s(tokens: float) -> float:
        busy_share: float = 1 - mixture.idle_share**tokens
        return mixture.memory_s + mixture.experts_s * busy_share

    assert weights_s(1) == pytest.approx(read_s * (row.active - row.embedding))
    assert weights_s(2) == pytest.approx(
        read_s * (fixed + row.expert_parameters * (1 - (15 / 16) ** 2))
    )
    assert weights_s(4096) == pytest.approx(read_s * (row.parameters - row.embedding))


def test_a_mixture_computes_with_its_active_parameters_only():
    """Long prompts are bound by compute: a tenth of the parameters, a tenth of the time."""
    mixture, dense = backend("H100", "Qwen3-30B-A3B"), backend("H100", "Qwen3-32B")

    ratio = mixture.block_flop / dense.block_flop

    assert ratio == pytest.approx(2.73e9 / 31.2e9, rel=0.01)
    assert mixture.prefill_s(8192.0) < dense.prefill_s(8192.0) / 4
    assert mixture.decode_s(1.0, 100.0) < dense.decode_s(1.0, 100.0) / 4


def test_weights_are_held_as_they_are_published():
    """gpt-oss-120b's experts have 4.25 bits, so it fits into one H100; DeepSeek-V3 is fp8."""
    small = backend("H100", "gpt-oss-120b")
    large = roofline(
        catalogue.gpus()["H200"], catalogue.models()["DeepSeek-V3"], ENGINES["vllm-v0"], gpus=8
    )
    gib = 2**30

    assert 60.8 * gib * 0.98 < weights(small) < 60.8 * gib * 1.02  # the card's checkpoint size
    assert weights(large) == pytest.approx(671e9, rel=0.001)
    with pytest.raises(InvalidValue, match="A100-80G has no fp8 units"):
        backend("A100-80G", "DeepSeek-V3")


def weights(of: Roofline) -> float:
    """Bytes of all weights, from what memory they leave to the KV cache."""
    room = (of.engine.memory_share * of.gpu.memory_bytes - of.engine.reserve_bytes) * of.gpus
    kv = of.model.kv_elements * of.kv_bytes * of.model.kv_copies(of.gpus)
    return room - of.kv_capacity * kv


def test_every_gpu_keeps_a_latent_and_shares_kv_heads():
    """KV heads are divided among the GPUs as far as they go; MLA's latent is kept by each."""
    models = catalogue.models()

    assert [models["Llama-3-70B"].kv_copies(n) for n in (1, 2, 8)] == [1, 1, 1]
    assert [models["Qwen3-30B-A3B"].kv_copies(n) for n in (2, 4, 8)] == [1, 1, 2]
    assert [models["DeepSeek-V3"].kv_copies(n) for n in (1, 2, 8)] == [1, 2, 8]


def test_a_tied_embedding_is_held_once_and_read_as_the_head():
    """Llama-3.2-1B reads all its parameters in each iteration, an untied one not its embedding."""
    tied, untied = backend("H100", "Llama-3.2-1B"), backend("H100", "Llama-3-8B")
    second = 3350e9 * 0.88

    assert tied.memory_s * second == pytest.approx(2 * tied.model.parameters)
    assert untied.memory_s * second == pytest.approx(
        2 * (untied.model.parameters - untied.model.embedding)
    )

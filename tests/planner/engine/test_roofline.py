"""The engine model against the check values of its constants (Llama-2-7B fp16, vLLM v0)."""

import pytest

from planner.engine import catalogue
from planner.engine.hardware import ENGINES
from planner.engine.roofline import Roofline, roofline
from planner.errors import InvalidValue


def backend(gpu: str, model: str = "Llama-2-7B", **options: int) -> Roofline:
    rows = catalogue.gpus()[gpu], catalogue.models()[model]
    return roofline(*rows, ENGINES["vllm-v0"], **options)


@pytest.mark.parametrize(
    ("gpu", "kv", "one_ms", "many_ms", "prefill_ms", "share_ms"),
    [
        ("L4", 12_907, 57.71, 129.18, 140.7, 133.8),
        ("A10G", 12_907, 30.33, 70.08, 137.5, 135.0),
        ("A100-80G", 117_601, 11.38, 25.85, 33.3, 31.2),
        ("H100", 118_154, 7.79, 16.53, 15.0, 12.9),
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
    assert 1e3 * found.decode_s(16, 1000) == pytest.approx(20.87, abs=0.0051)
    assert 1e3 * found.prefill_s(1024) == pytest.approx(79.88, abs=0.0051)


def test_fp8_needs_fp8_units():
    """An A10G cannot run fp8 weights, and the error says so."""
    with pytest.raises(InvalidValue, match="A10G has no fp8 units"):
        backend("A10G", weight_bytes=1)


def test_a_backend_has_a_gpu():
    """Zero GPUs are refused by name."""
    with pytest.raises(InvalidValue, match="gpus"):
        backend("H100", gpus=0)

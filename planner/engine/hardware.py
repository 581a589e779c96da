"""The constants of GPUs, models and engines that the analytic engine model is made of.

Data only. The figures are fractions of datasheet peaks and host costs fitted to public measurements
(kernel timings of Vidur, per-layer timings of Helix, batch runs of Argonne's LLM-Inference-Bench,
Splitwise's performance table); expect ± 15 % for 7B and 8B models and ± 25 % under mixed
saturation on 24 GB cards. Measured profiles replace them where there are any.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: dense datasheet peaks, and the fraction of each that serving kernels achieve.

    flops_16, flops_8: FLOP/s in fp16 and fp8 (`None`: no fp8 units). bandwidth: bytes/s.
    compute, memory, kv, attention: achieved fractions of linear layers, weight streaming, KV reads
    and prefill attention. usable_bytes: as the driver shows them. link: all-reduce bytes/s, and
    link_latency_s the fixed cost of one all-reduce.
    """

    name: str
    flops_16: float
    flops_8: float | None
    compute: float
    bandwidth: float
    memory: float
    kv: float
    attention: float
    usable_bytes: float
    link: float
    link_latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense decoder: parameters, layers, hidden size, query heads, KV heads, head size,
    vocabulary.
    """

    name: str
    parameters: float
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_size: int
    vocabulary: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """Host costs of a serving engine, in seconds.

    iteration_s, sequence_s: per iteration, per sequence in it. request_s: per request.
    prompts: most prompts that share one prefill iteration. prefill_floor_s, decode_floor_s: launch
    cost per layer that is not hidden behind the kernels. layer_s: added per layer always.
    memory_share, reserve_bytes: what of the memory is used, less a reserve per GPU.
    sequences: the engine's default `max_num_seqs`.
    """

    name: str
    iteration_s: float
    sequence_s: float
    request_s: float
    prompts: int
    prefill_floor_s: float
    decode_floor_s: float
    layer_s: float
    memory_share: float
    reserve_bytes: float
    sequences: int


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu(name="L4", flops_16=121e12, flops_8=242e12, compute=0.42, bandwidth=300e9, memory=0.82,
            kv=0.80, attention=0.30, usable_bytes=22.5 * GIB, link=12e9, link_latency_s=60e-6),
        Gpu(name="A10G", flops_16=70e12, flops_8=None, compute=0.72, bandwidth=600e9, memory=0.82,
            kv=0.75, attention=0.45, usable_bytes=22.5 * GIB, link=10e9, link_latency_s=60e-6),
        Gpu(name="A100-40G", flops_16=312e12, flops_8=None, compute=0.72, bandwidth=1555e9,
        memory=0.82,
            kv=0.72, attention=0.50, usable_bytes=39.6 * GIB, link=230e9, link_latency_s=18e-6),
        Gpu(name="A100-80G", flops_16=312e12, flops_8=None, compute=0.72, bandwidth=2039e9,
        memory=0.78,
            kv=0.68, attention=0.50, usable_bytes=79.3 * GIB, link=230e9, link_latency_s=18e-6),
        Gpu(name="H100", flops_16=989e12, flops_8=1979e12, compute=0.58, bandwidth=3350e9,
        memory=0.82,
            kv=0.79, attention=0.47, usable_bytes=79.6 * GIB, link=360e9, link_latency_s=15e-6),
    )
}  # fmt: skip

MODELS = {
    model.name: model
    for model in (
        Model(name="Llama-2-7B", parameters=6.738e9, layers=32, hidden=4096, query_heads=32,
              kv_heads=32, head_size=128, vocabulary=32000),
        Model(name="Llama-2-13B", parameters=13.016e9, layers=40, hidden=5120, query_heads=40,
              kv_heads=40, head_size=128, vocabulary=32000),
        Model(name="Llama-3-8B", parameters=8.030e9, layers=32, hidden=4096, query_heads=32,
              kv_heads=8, head_size=128, vocabulary=128256),
        Model(name="Mistral-7B", parameters=7.242e9, layers=32, hidden=4096, query_heads=32,
              kv_heads=8, head_size=128, vocabulary=32000),
        Model(name="Llama-2-70B", parameters=68.977e9, layers=80, hidden=8192, query_heads=64,
              kv_heads=8, head_size=128, vocabulary=32000),
        Model(name="Llama-3-70B", parameters=70.554e9, layers=80, hidden=8192, query_heads=64,
              kv_heads=8, head_size=128, vocabulary=128256),
    )
}  # fmt: skip

ENGINES = {
    kind.name: kind
    for kind in (
        # vLLM 0.2.7 to 0.5: CUDA graphs for decode only, so a short prefill is launch-bound.
        EngineKind(name="vllm-v0", iteration_s=2.0e-3, sequence_s=80e-6, request_s=0.5e-3,
        prompts=4,
                   prefill_floor_s=0.30e-3, decode_floor_s=0.0, layer_s=25e-6, memory_share=0.90,
                   reserve_bytes=1.5e9, sequences=256),
        # vLLM 0.8 and later. Not fitted: no public data when these constants were made.
        EngineKind(name="vllm-v1", iteration_s=1.0e-3, sequence_s=15e-6, request_s=1.0e-3,
        prompts=16,
                   prefill_floor_s=0.10e-3, decode_floor_s=0.0, layer_s=22e-6, memory_share=0.90,
                   reserve_bytes=2.0e9, sequences=1024),
        EngineKind(name="tensorrt-llm", iteration_s=1.5e-3, sequence_s=10e-6, request_s=0.5e-3,
                   prompts=16, prefill_floor_s=0.05e-3, decode_floor_s=0.0, layer_s=22e-6,
                   memory_share=0.92, reserve_bytes=2.0e9, sequences=2048),
        EngineKind(name="tgi", iteration_s=3.0e-3, sequence_s=100e-6, request_s=15e-3, prompts=1,
                   prefill_floor_s=0.30e-3, decode_floor_s=0.0, layer_s=60e-6, memory_share=0.85,
                   reserve_bytes=1.5e9, sequences=128),
    )
}  # fmt: skip

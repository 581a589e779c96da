"""The values that the analytic engine model is made of: one GPU type, one model, one engine.

Owns what each of them needs and which numbers are possible, and the rows of the engines. Knows no
files: the catalogue reads the rows of GPUs and models.

The host costs, and the achieved fractions of the rows that have them, were fitted to public
measurements (kernel timings of Vidur, per-layer timings of Helix, batch runs of Argonne's
LLM-Inference-Bench, Splitwise's performance table); expect ± 15 % for 7B and 8B models and ± 25 %
under mixed saturation on 24 GB cards. Measured profiles replace them where there are any.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from planner.files import outside, refuse

GIB = 2**30
# Bounds that no row passes by mistake of the unit: bytes for GiB, FLOP/s for TFLOP/s, TB/s for
# GB/s, billions for parameters. They are a factor of 4 or more away from what is sold today.
Share = Annotated[float, Meta(gt=0, le=1, description="in (0, 1]")]
Gib = Annotated[float, Meta(ge=1, le=2000, description="in GiB, 1 to 2,000")]
Bandwidth = Annotated[float, Meta(ge=20, le=100_000, description="in GB/s, 20 to 100,000")]
Peak = Annotated[float, Meta(ge=4, le=100_000, description="in TFLOP/s, 4 to 100,000")]
Link = Annotated[float, Meta(ge=0.1, le=10_000, description="in GB/s, 0.1 to 10,000")]
Latency = Annotated[float, Meta(ge=0, le=10_000, description="in µs, 0 to 10,000")]
Usd = Annotated[float, Meta(ge=0, le=10_000, description="in $/h, 0 to 10,000")]
Parameters = Annotated[
    float, Meta(ge=1e6, le=1e14, description="their number, a million or more (30.5e+9)")
]
Layers = Annotated[int, Meta(ge=1, le=10_000, description="1 to 10,000")]
Windows = Annotated[int, Meta(ge=0, le=10_000, description="0 to 10,000")]
Width = Annotated[int, Meta(ge=1, le=10_000_000, description="1 to 10 million")]
Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000, description="in tokens, 1 to a billion")]
Bytes = Annotated[float, Meta(ge=0.1, le=8, description="in bytes, 0.1 to 8")]
# A sliding-window layer keeps and reads at most its window. The formula is linear in the context:
# such a layer counts with its share of a full layer at this context; longer contexts cost less.
LARGE_GIB = 70.0  # as vLLM does (`EngineArgs`, 0.8 and later)
WINDOW_CONTEXT = 2048


Schedule = Literal["mixed", "prefill-first", "whole-prompts", "alternating"]
# Of an alternating engine: prompts wait until they are so many times the answers in flight, but for
# so many iterations at most. Defaults of TGI's launcher: `waiting_served_ratio`,
# `max_waiting_tokens`.
WORTHWHILE = 0.3
PATIENCE = 20


def _unnamed(name: str) -> list[str]:
    return [] if name.strip() else ["name: must not be empty"]


class Achieved(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The fractions of a GPU's datasheet peaks that serving kernels achieve.

    compute, memory, kv, attention: of linear layers, weight streaming, KV reads and prefill
    attention. The defaults are round figures near the middle of the four chips whose fractions
    were fitted (L4, A10G, A100, H100: .42–.72, .78–.82, .68–.80, .30–.50); they are not fitted.
    """

    compute: Share = 0.60
    memory: Share = 0.80
    kv: Share = 0.75
    attention: Share = 0.45

    def __post_init__(self) -> None:
        refuse(outside(self))


class Tflops(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Dense datasheet peaks in 10¹² FLOP/s by dtype; fp16 stands for bf16 too.

    fp8: `None` for a GPU without fp8 units.
    """

    fp16: Peak
    fp8: Peak | None = None

    def __post_init__(self) -> None:
        refuse(outside(self))


class Gpu(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One GPU type: a row of a file of GPUs, in the units of datasheets.

    memory_gib: as the driver shows it. link_gb_s: what an all-reduce achieves, link_latency_us its
    fixed cost; the defaults are those of cards on PCIe, and count only with tensor parallelism.
    error: the median error of predicted times, over all measurements of this type that
    `cuvee profile report` judges; `None`: there are none.
    usd_per_hour: its price where nothing else states one. source: of the figures, for people.
    """

    name: str
    memory_gib: Gib
    bandwidth_gb_s: Bandwidth
    tflops: Tflops
    achieved: Achieved = Achieved()
    link_gb_s: Link = 10.0
    link_latency_us: Latency = 60.0
    usd_per_hour: Usd | None = None
    error: Share | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        refuse([*_unnamed(self.name), *outside(self)])

    @property
    def fitted(self) -> bool:
        """Whether its fractions come from measurements; else they are the defaults."""
        return self.achieved != Achieved()

    @property
    def flops_16(self) -> float:
        """FLOP/s in fp16."""
        return self.tflops.fp16 * 1e12

    @property
    def flops_8(self) -> float | None:
        """FLOP/s in fp8."""
        return None if self.tflops.fp8 is None else self.tflops.fp8 * 1e12

    @property
    def memory_bytes(self) -> float:
        """Memory, as the driver shows it."""
        return self.memory_gib * GIB

    @property
    def bandwidth(self) -> float:
        """Bytes/s of its memory."""
        return self.bandwidth_gb_s * 1e9

    @property
    def link(self) -> float:
        """Bytes/s of an all-reduce."""
        return self.link_gb_s * 1e9

    @property
    def link_latency_s(self) -> float:
        """Seconds of an all-reduce of nothing."""
        return self.link_latency_us / 1e6


class Model(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One decoder, dense or a mixture of experts: a row of a file of models.

    parameters: all of them; active_parameters: those that one token uses (a mixture's routed
    experts count with the share experts_per_token/experts). head_size: of keys and values, their
    mean where they differ. kv_latent: elements of one token's KV per layer where a latent stands
    for all KV heads (MLA). window, window_layers: the sliding window, and how
    many layers have one. tied_embeddings: the LM head is the input embedding. weight_bytes,
    expert_bytes: bytes per weight, and per weight of the routed experts, of a checkpoint that is
    published with fewer than two. context: the longest that it was made for.
    """

    name: str
    parameters: Parameters
    layers: Layers
    hidden: Width
    query_heads: Width
    kv_heads: Width
    head_size: Width
    vocabulary: Width
    active_parameters: Parameters | None = None
    experts: Width | None = None
    experts_per_token: Width | None = None
    kv_latent: Width | None = None
    window: Tokens | None = None
    window_layers: Windows = 0
    tied_embeddings: bool = False
    weight_bytes: Bytes | None = None
    expert_bytes: Bytes | None = None
    context: Tokens | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        refuse([*_unnamed(self.name), *outside(self)])
        refuse(self._parts())

    def _parts(self) -> list[str]:
        """Lines for numbers that do not go together."""
        problems = []
        parts = ("active_parameters", "experts", "experts_per_token")
        missing = [name for name in parts if getattr(self, name) is None]
        if missing and len(missing) < len(parts):
            return [f"{missing[0]}: missing: a mixture of experts has {', '.join(parts)}"]
        if self.active_parameters is not None and not self.active < self.parameters:
            text = f"must be a part of all {self.parameters:g} parameters: {self.active:g}"
            problems.append(f"active_parameters: {text}")
        if self.experts is not None and not 0 < self.idle_share < 1:
            text = f"must be a part of all {self.experts} experts: {self.experts_per_token}"
            problems.append(f"experts_per_token: {text}")
        if self.window_layers and self.window is None:
            problems.append("window: missing, and window_layers have one")
        if self.window_layers > self.layers:
            problems.append(
                f"window_layers: must be at most all {self.layers} layers: {self.window_layers}"
            )
        if problems:
            return problems
        if self.parameters <= self.embeddings or self.expert_parameters > self.parameters:
            return [f"parameters: fewer than its parts: {self.parameters:g}"]
        return []

    @property
    def active(self) -> float:
        """Parameters that one token uses."""
        return self.parameters if self.active_parameters is None else self.active_parameters

    @property
    def idle_share(self) -> float:
        """The share of the routed experts that one token does not use; 0 for a dense model."""
        if self.experts is None or self.experts_per_token is None:
            return 0.0
        return 1 - self.experts_per_token / self.experts

    @property
    def expert_parameters(self) -> float:
        """Parameters of all routed experts, from `active = parameters − idle_share · experts'`."""
        return (self.parameters - self.active) / self.idle_share if self.experts else 0.0

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, which are those of the LM head."""
        return self.vocabulary * self.hidden

    @property
    def embeddings(self) -> int:
        """Parameters of the input embedding and the LM head, counted once if they are tied."""
        return self.embedding * (1 if self.tied_embeddings else 2)

    @property
    def full_layers(self) -> float:
        """Layers by their KV: one with a window counts with its share at WINDOW_CONTEXT tokens."""
        if self.window is None:
            return self.layers
        return self.layers - self.window_layers * (1 - min(1.0, self.window / WINDOW_CONTEXT))

    @property
    def kv_elements(self) -> float:
        """Elements of one token's KV, all layers: keys and values of every KV head, or a latent."""
        if self.kv_latent is not None:
            return self.full_layers * self.kv_latent
        return 2.0 * self.full_layers * self.kv_heads * self.head_size

    def kv_copies(self, gpus: int) -> float:
        """How often each KV element is kept under tensor parallelism.

        KV heads are spread over the GPUs. A GPU more than there are heads, and every GPU with a
        latent, keeps its own copy, as in vLLM.
        """
        return max(1.0, gpus / (self.kv_heads if self.kv_latent is None else 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """A serving engine: its host costs, in seconds, and how it shares its iterations.

    iteration_s, sequence_s: per iteration, per sequence in it. request_s: per request.
    prompts: most prompts that share one prefill iteration. prefill_floor_s, decode_floor_s: launch
    cost per layer that is not hidden behind the kernels. all_reduce: of the fixed cost that the GPU
    states for one, the share that the engine's own kernel has. layer_s: added per layer always;
    moe_layer_s: the same more in a mixture of experts, whose layer has several kernels more.
    frontend_s, frontend_steps: from a token's iteration until a client has it: seconds, and
    iterations, since its text is made while the next one runs. TTFT and end-to-end time have them
    once; they take nothing from the GPU.
    memory_share, reserve_bytes: what of the memory is used, less a reserve per GPU.
    sequences: the engine's default `max_num_seqs`; large_sequences: that for GPUs of LARGE_GIB and
    more, where it differs (vLLM: 1024 on H100 and larger, 256 on an A100-80G, and on the others).
    schedule: `mixed`: an iteration decodes and prefills chunks of prompts. In all others prompts
    have iterations of their own, in which no answer goes on. `prefill-first`: as long as prompts
    wait, chunks of them. `whole-prompts`: the same, uncut. `alternating`: uncut, an iteration of
    answers after each one of prompts, and few prompts wait for more (`planner.engine.batching`).
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
    large_sequences: int | None = None
    moe_layer_s: float = 0.0
    all_reduce: float = 1.0
    frontend_s: float = 0.0
    frontend_steps: float = 0.0
    schedule: Schedule = "mixed"

    def slowed(self, factor: float) -> "EngineKind":
        """The same engine with `factor` times its host costs."""
        return replace(
            self,
            iteration_s=self.iteration_s * factor,
            sequence_s=self.sequence_s * factor,
            request_s=self.request_s * factor,
            prefill_floor_s=self.prefill_floor_s * factor,
            decode_floor_s=self.decode_floor_s * factor,
            layer_s=self.layer_s * factor,
            moe_layer_s=self.moe_layer_s * factor,
            frontend_s=self.frontend_s * factor,
        )

    def default_sequences(self, gpu: Gpu | None) -> int:
        """The engine's default `max_num_seqs` on a GPU; `None`: on one without a row."""
        large = gpu is not None and gpu.memory_gib >= LARGE_GIB and "A100" not in gpu.name.upper()
        return self.large_sequences if large and self.large_sequences else self.sequences


_V1 = EngineKind(
    name="vllm-v1", iteration_s=1.2e-3, sequence_s=15e-6, request_s=0.1e-3, prompts=16,
    prefill_floor_s=0.18e-3, decode_floor_s=0.0, layer_s=22.5e-6, memory_share=0.90,
    reserve_bytes=2.0e9, sequences=256, large_sequences=1024, moe_layer_s=11e-6, all_reduce=0.67,
    frontend_s=5e-3, frontend_steps=1.0,
)  # fmt: skip
ENGINES = {
    engine.name: engine
    for engine in (
        # vLLM 0.2.7 to 0.5: CUDA graphs for decode only, so a short prefill is launch-bound.
        EngineKind(name="vllm-v0", iteration_s=2.0e-3, sequence_s=80e-6, request_s=0.5e-3,
                   prompts=4, prefill_floor_s=0.30e-3, decode_floor_s=0.0, layer_s=25e-6,
                   memory_share=0.90, reserve_bytes=1.5e9, sequences=256,
                   schedule="whole-prompts"),
        # vLLM 0.8 and later, and SGLang, of which there is no public data of this kind: fitted to
        # serving runs of 2026 (8B to 70B and a mixture, H100) and closed loops of gpt-oss-120b.
        _V1,
        replace(_V1, name="sglang", schedule="prefill-first"),
        # TensorRT-LLM 1.0 and later: fitted to closed loops of Llama-3.1-8B and gpt-oss-120b.
        EngineKind(name="tensorrt-llm", iteration_s=0.65e-3, sequence_s=10e-6, request_s=4.5e-3,
                   prompts=16, prefill_floor_s=1.4e-3, decode_floor_s=0.0, layer_s=20e-6,
                   memory_share=0.92, reserve_bytes=2.0e9, sequences=2048, moe_layer_s=73e-6,
                   all_reduce=0.67, frontend_s=10e-3, frontend_steps=1.0),
        EngineKind(name="tgi", iteration_s=3.0e-3, sequence_s=100e-6, request_s=15e-3, prompts=1,
                   prefill_floor_s=0.30e-3, decode_floor_s=0.0, layer_s=60e-6, memory_share=0.85,
                   reserve_bytes=1.5e9, sequences=128, schedule="alternating"),
    )
}  # fmt: skip

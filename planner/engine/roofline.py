"""The analytic engine model: how long one iteration takes, and what one backend can sustain.

A roofline with smoothed corners and host costs. All times in seconds. Knows sizes and hardware, and
nothing of SLO classes, buckets or demand. Formulas: iteration time
`max(t_lin + t_kv + t_pa + t_comm + layers·layer_s, layers·floor) + iteration_s + B·sequence_s` with
`t_lin = (t_mem^p + t_comp^p)^(1/p)`; the p-norm replaces `max` because measured kernels sit
20–40 % above either roof near the ridge.
"""

from dataclasses import dataclass, field

import numpy as np

from planner.engine.hardware import EngineKind, Gpu, Model
from planner.errors import InvalidValue
from planner.sizes import FloatArray

CORNER = 2.5  # p of the p-norm, from the kernels' distance to both roofs
PREFILL_TOKENS = 2048  # prompts share prefill iterations up to about this many tokens
FP8_FLOPS = 0.85  # of the fp8 peak is reached with fp8 weights

Number = float | FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """One backend: `gpus` of a type under tensor parallelism, one model, one engine, one dtype.

    weight_bytes, kv_bytes: bytes per weight and per KV element (fp16 2, fp8 1).
    kv_token_bytes, kv_capacity: KV bytes of one token, and tokens of KV that fit.
    The rest are the model's constants, computed once: memory_s streams the weights; flops are those
    achieved; block_flop and head_flop are FLOP per token; kv_token_s, attention_s, comm_token_s and
    comm_fixed_s are seconds per KV token read, per squared prompt token, per token all-reduced, and
    per iteration.
    """

    gpu: Gpu
    model: Model
    engine: EngineKind
    gpus: int = 1
    weight_bytes: int = 2
    kv_bytes: int = 2
    kv_token_bytes: float = field(init=False, repr=False)
    kv_capacity: int = field(init=False, repr=False)
    memory_s: float = field(init=False, repr=False)
    flops: float = field(init=False, repr=False)
    block_flop: float = field(init=False, repr=False)
    head_flop: float = field(init=False, repr=False)
    kv_token_s: float = field(init=False, repr=False)
    attention_s: float = field(init=False, repr=False)
    comm_fixed_s: float = field(init=False, repr=False)
    comm_token_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        gpu, model, engine, gpus = self.gpu, self.model, self.engine, self.gpus
        if gpus < 1:
            raise InvalidValue(f"gpus must be at least 1: {gpus}")
        if self.weight_bytes == 1 and gpu.flops_8 is None:
            raise InvalidValue(f"{gpu.name} has no fp8 units")
        embedding = model.vocabulary * model.hidden
        peak = FP8_FLOPS * gpu.flops_8 if self.weight_bytes == 1 and gpu.flops_8 else gpu.flops_16
        flops = gpus * peak * gpu.compute
        kv_token = 2.0 * model.layers * model.kv_heads * model.head_size * self.kv_bytes
        weights = self.weight_bytes * model.parameters
        room = (engine.memory_share * gpu.usable_bytes - engine.reserve_bytes) * gpus - weights
        ring = 2 * (gpus - 1) / gpus
        set_ = object.__setattr__
        set_(self, "kv_token_bytes", kv_token)
        set_(self, "kv_capacity", max(0, int(room / kv_token)))
        # The input embedding is a gather; only blocks and LM head are streamed.
        streamed = self.weight_bytes * (model.parameters - embedding)
        set_(self, "memory_s", streamed / (gpus * gpu.bandwidth * gpu.memory))
        set_(self, "flops", flops)
        set_(self, "block_flop", 2.0 * (model.parameters - 2.0 * embedding))
        set_(self, "head_flop", 2.0 * embedding)
        set_(self, "kv_token_s", kv_token / (gpus * gpu.bandwidth * gpu.kv))
        attention = 2.0 * model.layers * model.query_heads * model.head_size
        set_(self, "attention_s", attention / (gpus * gpu.flops_16 * gpu.attention))
        set_(self, "comm_fixed_s", 2 * model.layers * gpu.link_latency_s if gpus > 1 else 0.0)
        set_(self, "comm_token_s", 2 * model.layers * model.hidden * 2 * ring / gpu.link)

    def step_s(
        self,
        tokens: Number,
        sequences: Number,
        context_tokens: Number = 0.0,
        prompt_squares: Number = 0.0,
        *,
        prefill: bool,
    ) -> Number:
        """Seconds of one iteration. Scalars or arrays that broadcast.

        tokens: rows in the linear layers (decoding sequences plus prompt tokens of this iteration).
        sequences: decoding sequences: rows of the LM head (at least one) and host work.
        context_tokens: KV tokens read by decode attention. prompt_squares: for each prompt chunk
        from position s to e, `e² − s²`. prefill: whether the iteration contains prompt tokens (it
        is then launch-bound).
        """
        engine, layers = self.engine, self.model.layers
        rows = np.maximum(sequences, 1.0)
        compute_s = (self.block_flop * tokens + self.head_flop * rows) / self.flops
        linear_s = (self.memory_s**CORNER + compute_s**CORNER) ** (1 / CORNER)
        kernels_s = (
            linear_s
            + self.kv_token_s * context_tokens
            + self.attention_s * prompt_squares
            + self.comm_fixed_s
            + self.comm_token_s * tokens
            + layers * engine.layer_s
        )
        floor_s = layers * (engine.prefill_floor_s if prefill else engine.decode_floor_s)
        longest: Number = np.maximum(kernels_s, floor_s)
        return longest + engine.iteration_s + engine.sequence_s * sequences

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        return self.step_s(batch, batch, batch * context, prefill=False)

    def prefill_s(self, input_tokens: Number) -> Number:
        """Seconds of an iteration that prefills one prompt alone."""
        return self.step_s(input_tokens, 0.0, 0.0, input_tokens * input_tokens, prefill=True)

    def prefill_share_s(self, input_tokens: Number) -> Number:
        """Seconds of prefill per request when prompts share iterations, host cost included."""
        together: Number = np.clip(
            PREFILL_TOKENS // np.maximum(input_tokens, 1), 1, self.engine.prompts
        )
        tokens = together * input_tokens
        squares = together * input_tokens * input_tokens
        shared_s = self.step_s(tokens, 0.0, 0.0, squares, prefill=True)
        return shared_s / together + self.engine.request_s

"""The analytic engine model: how long one iteration takes, and what one backend can sustain.

A roofline with smoothed corners and host costs. All times in seconds. Knows sizes and hardware, and
nothing of SLO classes, buckets or demand. Formulas: iteration time
`max(t_lin + t_kv + t_pa + t_comm + layers·layer_s, layers·floor) + iteration_s + B·sequence_s` with
`t_lin = (t_mem^p + t_comp^p)^(1/p)`; the p-norm replaces `max` because measured kernels sit
20–40 % above either roof near the ridge.

A mixture of experts reads only the experts that the tokens of an iteration were routed to. One
token uses k of E experts, so it passes a given expert by with probability `1 − k/E`, and n tokens
do with `(1 − k/E)^n` if each is routed by itself and all experts are equally likely: the expected
share of the experts' weights that is read is `1 − (1 − k/E)^n`. Real routing is less even and reads
fewer of them.
"""

from dataclasses import dataclass, replace

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
    """One backend's constants: `gpus` of a type under tensor parallelism, one model, one engine.

    Made by `roofline`. weight_bytes, kv_bytes: bytes per weight and per KV element (fp16 2, fp8 1).
    kv_capacity: tokens of KV that fit. memory_s: seconds to read the weights that every iteration
    reads; experts_s: to read all routed experts, and idle_share the share of them that one token
    passes by (both 0 for a dense model). flops: achieved FLOP/s. block_flop, head_flop: FLOP per
    token. kv_token_s, attention_s, comm_token_s, comm_fixed_s: seconds per KV token read, per
    squared prompt token, per token all-reduced, and per iteration.
    """

    gpu: Gpu
    model: Model
    engine: EngineKind
    gpus: int
    weight_bytes: int
    kv_bytes: int
    kv_capacity: int
    memory_s: float
    experts_s: float
    idle_share: float
    flops: float
    block_flop: float
    head_flop: float
    kv_token_s: float
    attention_s: float
    comm_fixed_s: float
    comm_token_s: float

    def slowed(self, factor: float) -> "Roofline":
        """The same backend when everything takes `factor` times as long; it holds as much."""
        return replace(
            self,
            engine=self.engine.slowed(factor),
            memory_s=self.memory_s * factor,
            experts_s=self.experts_s * factor,
            flops=self.flops / factor,
            kv_token_s=self.kv_token_s * factor,
            attention_s=self.attention_s * factor,
            comm_fixed_s=self.comm_fixed_s * factor,
            comm_token_s=self.comm_token_s * factor,
        )

    @property
    def request_s(self) -> float:
        """Seconds of host work that each request costs once, beside its tokens."""
        return self.engine.request_s

    @property
    def layer_s(self) -> float:
        """Seconds that each layer adds, whatever its kernels take."""
        engine = self.engine
        return engine.layer_s + (engine.moe_layer_s if self.experts_s else 0.0)

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
        memory_s: Number = self.memory_s
        if self.experts_s:
            memory_s = memory_s + self.experts_s * (1 - self.idle_share**tokens)
        linear_s = (memory_s**CORNER + compute_s**CORNER) ** (1 / CORNER)
        kernels_s = (
            linear_s
            + self.kv_token_s * context_tokens
            + self.attention_s * prompt_squares
            + self.comm_fixed_s
            + self.comm_token_s * tokens
            + layers * self.layer_s
        )
        floor_s = layers * (engine.prefill_floor_s if prefill else engine.decode_floor_s)
        longest: Number = np.maximum(kernels_s, floor_s)
        return longest + engine.iteration_s + engine.sequence_s * sequences

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        return self.step_s(batch, batch, batch * context, prefill=False)

    def prefill_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds of an iteration that prefills one prompt alone. cached: tokens of it that need
        not be computed (prefix hits), though attention reads them."""
        squares = input_tokens * input_tokens - cached * cached
        return self.step_s(input_tokens - cached, 0.0, 0.0, squares, prefill=True)

    def prefill_share_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds of prefill per request when prompts share iterations, host cost included.
        cached: as in `prefill_s`."""
        computed = input_tokens - cached
        together: Number = np.clip(
            PREFILL_TOKENS // np.maximum(computed, 1), 1, self.engine.prompts
        )
        tokens = together * computed
        squares = together * (input_tokens * input_tokens - cached * cached)
        shared_s = self.step_s(tokens, 0.0, 0.0, squares, prefill=True)
        return shared_s / together + self.engine.request_s


def roofline(
    gpu: Gpu,
    model: Model,
    engine: EngineKind,
    *,
    gpus: int = 1,
    weight_bytes: int = 2,
    kv_bytes: int = 2,
) -> Roofline:
    """The constants of one backend. Raises InvalidValue for no GPU, or fp8 without fp8 units.

    A model that is published with fewer bytes per weight is held and read with those.
    """
    if gpus < 1:
        raise InvalidValue(f"gpus must be at least 1: {gpus}")
    width = min(weight_bytes, model.weight_bytes or weight_bytes)
    peak = gpu.flops_16
    if width == 1:
        if gpu.flops_8 is None:
            raise InvalidValue(f"{gpu.name} has no fp8 units")
        peak = FP8_FLOPS * gpu.flops_8
    experts = min(width, model.expert_bytes or width) * model.expert_parameters
    rest = model.parameters - model.expert_parameters
    blocks = rest - model.embeddings
    kv_token = model.kv_elements * kv_bytes * model.kv_copies(gpus)
    room = (engine.memory_share * gpu.memory_bytes - engine.reserve_bytes) * gpus
    read_s = gpus * gpu.bandwidth * gpu.achieved.memory
    ring = 2 * (gpus - 1) / gpus
    attention = 2.0 * model.full_layers * model.query_heads * model.head_size
    return Roofline(
        gpu=gpu,
        model=model,
        engine=engine,
        gpus=gpus,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        kv_capacity=max(0, int((room - width * rest - experts) / kv_token)),
        # The input embedding is a gather; only blocks and LM head are streamed.
        memory_s=width * (blocks + model.embedding) / read_s,
        experts_s=experts / read_s,
        idle_share=model.idle_share,
        flops=gpus * peak * gpu.achieved.compute,
        block_flop=2.0 * (model.active - model.embeddings),
        head_flop=2.0 * model.embedding,
        kv_token_s=kv_token / (gpus * gpu.bandwidth * gpu.achieved.kv),
        attention_s=attention / (gpus * gpu.flops_16 * gpu.achieved.attention),
        comm_fixed_s=2 * model.layers * gpu.link_latency_s * engine.all_reduce if gpus > 1 else 0.0,
        comm_token_s=2 * model.layers * model.hidden * 2 * ring / gpu.link,
    )

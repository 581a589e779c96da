"""A model read from its Hugging Face `config.json`: sizes as they are, parameters from the shapes.

Owns which fields of real configurations are read and how the matrices of a decoder are counted:
attention (multi-head, grouped, latent), gated MLPs, routed and shared experts, embeddings. Norms
and biases are left out, less than 0.1 % together, and so are the towers of images and sound. Knows
nothing of GPUs.
"""

from pathlib import Path
from typing import Any

import msgspec

from planner.engine.architecture import BY_HAND, renamed, uncounted
from planner.engine.hardware import Model
from planner.errors import InvalidFile, InvalidValue
from planner.files import converted, lines, loaded

# Fields that files of these types leave to the defaults of their class in `transformers`.
DEFAULTS = {
    "gemma2": {"sliding_window_pattern": 2},
    "gemma3_text": {
        "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "sliding_window_pattern": 6,
    },
}  # fmt: skip
# Whose LM head is the input embedding, unless the file says otherwise.
TIED = (
    "cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "falcon", "gemma", "gemma2", "gemma3",
    "gemma3_text", "opt", "smollm3", "starcoder2",
)  # fmt: skip
UNGATED = ("falcon", "gpt_neox", "nemotron", "opt", "phi", "starcoder2")  # MLPs of two matrices
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
LLAMA_4 = "llama4_text"  # has a shared expert that its file does not count
MXFP4_BYTES = 4.25 / 8  # 4 bits, and 8 bits of scale for every 32 (OCP Microscaling Formats 1.0)


class Weights(msgspec.Struct, frozen=True):
    """How one group of a `compressed-tensors` checkpoint keeps its weights."""

    num_bits: float


class Group(msgspec.Struct, frozen=True):
    """One group of a `compressed-tensors` checkpoint."""

    weights: Weights | None = None


class Quantization(msgspec.Struct, frozen=True):
    """How a checkpoint is quantised, as far as it says how large its weights are."""

    quant_method: str = ""
    bits: float | None = None
    config_groups: dict[str, Group] = {}


class HuggingFaceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that are read; a model of text and images has them in `text_config`.

    Where families name the same thing differently, there is a field for every name.
    """

    model_type: str = ""
    text_config: "HuggingFaceConfig | None" = None
    num_hidden_layers: int | None = None
    hidden_size: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    tie_word_embeddings: bool | None = None
    max_position_embeddings: int | None = None
    num_experts: int | None = None
    num_local_experts: int | None = None
    n_routed_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    n_shared_experts: int | None = None
    shared_expert_intermediate_size: int | None = None
    first_k_dense_replace: int | None = None
    decoder_sparse_step: int | None = None
    interleave_moe_layer_step: int | None = None
    intermediate_size_mlp: int | None = None
    mlp_only_layers: tuple[int, ...] | None = None
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    sliding_window_pattern: int | None = None
    layer_types: tuple[str, ...] | None = None
    quantization_config: Quantization | None = None
    max_window_layers: int | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None

    def need(self, name: str) -> int:
        """A size. Raises InvalidValue naming it if it is missing or not positive."""
        value: int | None = getattr(self, name)
        if value is None or value < 1:
            raise InvalidValue(f"{name}: {'missing' if value is None else 'must be positive'}")
        return value

    @property
    def experts(self) -> int:
        """Routed experts of a layer that has any; 0 for a dense model."""
        return self.num_experts or self.num_local_experts or self.n_routed_experts or 0

    @property
    def kv_heads(self) -> int:
        """Key and value heads; a file without them has one for every query head."""
        return self.num_key_value_heads or self.need("num_attention_heads")


def read_model(path: Path) -> Model:
    """The model of a `config.json`, named after the file, or after the folder of a `config.json`.

    Raises InvalidFile naming the file and the field.
    """
    raw = loaded(path)
    if not isinstance(raw, dict):
        raise InvalidFile(f"{path}: must be the mapping of a config.json")
    text = raw.get("text_config")
    body = text if isinstance(text, dict) else raw
    # Where only the whole has a type, the text model's is not known.
    kind = str(body.get("model_type") or raw.get("model_type") or "")
    strange = list(uncounted(kind, body, HuggingFaceConfig.__struct_fields__))
    if strange:
        raise InvalidFile(lines(path, [f"{line}; {BY_HAND}" for line in strange]))
    named = renamed(kind, body)
    file, problems = converted(raw | {"text_config": named}, HuggingFaceConfig)
    if problems:
        # A file of one text model has no such section: it stands for the whole.
        shown = problems if body is text else [p.removeprefix("text_config.") for p in problems]
        raise InvalidFile(lines(path, list(dict.fromkeys(shown))))
    config = file.text_config or file
    defaults = DEFAULTS.get(config.model_type, {})
    absent = {key: value for key, value in defaults.items() if getattr(config, key) is None}
    name = path.stem if path.stem != "config" else path.resolve().parent.name
    try:
        return _model(name, msgspec.structs.replace(config, **absent), file)
    except InvalidValue as error:
        raise InvalidFile(lines(path, str(error).splitlines())) from error


def _model(name: str, config: HuggingFaceConfig, file: HuggingFaceConfig) -> Model:
    """config: of the text model. file: the whole, which may say what config leaves out."""
    layers, hidden = config.need("num_hidden_layers"), config.need("hidden_size")
    vocabulary, latent = config.need("vocab_size"), config.kv_lora_rank
    tied = _tied(config, file)
    routed = sum(_routed(config, layer) for layer in range(layers))
    parameters = vocabulary * hidden * (1 if tied else 2) + routed
    parameters += sum(_attention(config) + _mlp(config, layer) for layer in range(layers))
    used = config.need("num_experts_per_tok") / config.experts if routed else 1.0
    weight_bytes, expert_bytes = _widths(config.quantization_config or file.quantization_config)
    return Model(
        name=name,
        parameters=parameters,
        active_parameters=parameters - routed * (1 - used) if routed else None,
        experts=config.experts if routed else None,
        experts_per_token=config.num_experts_per_tok if routed else None,
        layers=layers,
        hidden=hidden,
        query_heads=config.need("num_attention_heads"),
        kv_heads=1 if latent else config.kv_heads,
        head_size=sum(_head_sizes(config)) // 2,
        kv_latent=latent and latent + config.need("qk_rope_head_dim"),
        vocabulary=vocabulary,
        tied_embeddings=tied,
        window=config.sliding_window if (windows := _window_layers(config)) else None,
        window_layers=windows,
        weight_bytes=weight_bytes,
        expert_bytes=expert_bytes,
        context=_context(config, file),
    )


def _context(config: HuggingFaceConfig, file: HuggingFaceConfig) -> int | None:
    """The longest context in tokens; the rotary embedding may be stretched beyond its positions."""
    positions = config.max_position_embeddings
    scaling = config.rope_scaling or config.rope_parameters or file.rope_scaling or {}
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    if positions is None or not isinstance(factor, int | float) or not isinstance(original, int):
        return positions
    return max(positions, int(original * factor))


def _tied(config: HuggingFaceConfig, file: HuggingFaceConfig) -> bool:
    """Whether the LM head is the input embedding."""
    for tied in (config.tie_word_embeddings, file.tie_word_embeddings):
        if tied is not None:
            return tied
    return config.model_type in TIED


def _head_sizes(config: HuggingFaceConfig) -> tuple[int, int]:
    """The sizes of one head's key and value."""
    if config.kv_lora_rank:
        key = config.need("qk_nope_head_dim") + config.need("qk_rope_head_dim")
        return key, config.need("v_head_dim")
    size = config.head_dim or config.need("hidden_size") // config.need("num_attention_heads")
    return size, size


def _attention(config: HuggingFaceConfig) -> int:
    """Parameters of one layer's attention: queries, keys, values, output."""
    hidden, heads = config.need("hidden_size"), config.need("num_attention_heads")
    key, value = _head_sizes(config)
    if not config.kv_lora_rank:
        return hidden * (heads * (key + value) + config.kv_heads * (key + value))
    # Latent attention: queries, and the latent of keys and values, are projected down and up again.
    rank, rope = config.kv_lora_rank, config.need("qk_rope_head_dim")
    queries = heads * key * (config.q_lora_rank or hidden) + hidden * (config.q_lora_rank or 0)
    latent = hidden * (rank + rope) + rank * heads * (key - rope + value)
    return queries + latent + heads * value * hidden


def _matrices(config: HuggingFaceConfig) -> int:
    """Matrices of one MLP."""
    return 2 if config.model_type in UNGATED else 3


def _routed(config: HuggingFaceConfig, layer: int) -> int:
    """Parameters of one layer's routed experts; 0 where the layer is dense."""
    step = config.decoder_sparse_step or config.interleave_moe_layer_step or 1
    dense = layer < (config.first_k_dense_replace or 0) or layer in (config.mlp_only_layers or ())
    if not config.experts or dense or (layer + 1) % step:
        return 0
    width = config.moe_intermediate_size or config.need("intermediate_size")
    return config.experts * _matrices(config) * config.need("hidden_size") * width


def _mlp(config: HuggingFaceConfig, layer: int) -> int:
    """Parameters of one layer's MLP that every token uses: dense, or shared experts and router."""
    hidden, matrices = config.need("hidden_size"), _matrices(config)
    if not _routed(config, layer):
        return (
            matrices * hidden * (config.intermediate_size_mlp or config.need("intermediate_size"))
        )
    shared = config.shared_expert_intermediate_size or 0
    if config.n_shared_experts:
        shared = config.n_shared_experts * config.need("moe_intermediate_size")
    if config.model_type == LLAMA_4:
        shared = config.need("intermediate_size")
    return hidden * (matrices * shared + config.experts)


def _window_layers(config: HuggingFaceConfig) -> int:
    """How many layers attend to a sliding window only. Raises InvalidValue for other kinds."""
    layers = config.need("num_hidden_layers")
    strange = set(config.layer_types or ()) - set(ATTENTION)
    if strange:
        strange_names = ", ".join(sorted(strange))
        raise InvalidValue(f"layer_types: no formula for {strange_names}; {BY_HAND}")
    if config.sliding_window is None or config.use_sliding_window is False:
        return 0
    if config.layer_types is not None:
        return config.layer_types.count("sliding_attention")
    # Qwen's dense families; those with experts mean something else by it.
    if config.use_sliding_window and config.max_window_layers is not None and not config.experts:
        return max(0, layers - config.max_window_layers)
    pattern = config.sliding_window_pattern
    return layers if not pattern else layers - layers // pattern


def _widths(quantization: Quantization | None) -> tuple[float | None, float | None]:
    """Bytes per weight, and per weight of the routed experts; `None`: as the dtype says."""
    if quantization is None:
        return None, None
    groups = quantization.config_groups.values()
    bits = max((g.weights.num_bits for g in groups if g.weights), default=quantization.bits)
    if quantization.quant_method == "fp8":
        return 1.0, None
    if quantization.quant_method == "mxfp4":
        return None, MXFP4_BYTES
    if bits is None:
        method = quantization.quant_method
        raise InvalidValue(f"quantization_config.quant_method: unknown `{method}`")
    return bits / 8, None

"""Which architectures of Hugging Face's `config.json` are counted rightly, and their fields' names.

Owns the types that are known, the words that give another architecture away, and what families call
the same field. Knows no formula.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

# Whose matrices are those that are counted here. A file of another type, or with layers of another
# kind, would be counted wrong without a word; a file without a type is taken for a Llama.
KNOWN = frozenset((
    "", "cohere", "cohere2", "deepseek", "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5_moe",
    "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt_neox",
    "gpt_oss", "granite", "granitemoe", "internlm2", "kimi_k2", "llama", "llama4_text", "mistral",
    "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe",
    "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe", "qwen2_vl", "qwen2_vl_text", "qwen3",
    "qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "seed_oss", "smollm3", "stablelm",
    "starcoder2",
))  # fmt: skip
BY_HAND = "give the model's numbers in the profile instead (docs/profiles.md, Models)"
# What some families call the fields that are read here.
SYNONYMS = {
    "ffn_dim": "intermediate_size",  # opt
    "ffn_hidden_size": "intermediate_size",  # falcon
    "moe_num_experts": "n_routed_experts",  # ernie4_5_moe, and the next three
    "moe_k": "num_experts_per_tok",
    "moe_num_shared_experts": "n_shared_experts",
    "moe_layer_start_index": "first_k_dense_replace",
}
# Keys of layers that are neither attention nor MLP (Mamba, linear attention), or of experts: an
# error where they say something and are not read.
TELLING = re.compile(
    r"expert|^moe_|^mamba|^ssm_|state_size|^linear_|^lru_|^rwkv|conv_kernel|hybrid|^block_types$"
    r"|^layers_block_type$|^attn_type|^attention_types$|^attn_layer_|^full_attention_interval$"
)
# Of those, keys that repeat what others say, or change nothing of what is counted.
SILENT = frozenset((
    "experts_per_token", "moe_capacity", "moe_layers", "moe_layer_end_index", "moe_router_dtype",
))  # fmt: skip
# The one value at which every layer after the first dense ones has experts.
EVERY = {"moe_layer_freq": 1, "moe_layer_interval": 1}


def uncounted(kind: str, body: dict[str, Any], fields: Collection[str]) -> Iterator[str]:
    """Lines for what a file says of an architecture that has no formula.

    kind: its `model_type`. body: of the text model. fields: the names that are read.
    """
    if kind not in KNOWN:
        yield f"model_type: `{kind}` is none of those that are known to be counted rightly"
    read = {*fields, *SYNONYMS, *SILENT, *EVERY}
    for key, value in body.items():
        if key not in read and TELLING.search(key) and _tells(key, value):
            yield f"{key}: no formula for what it says"
    for key, value in EVERY.items():
        if body.get(key) not in (None, value):
            yield f"{key}: no formula for other than {value}"
    last, layers = body.get("moe_layer_end_index"), body.get("num_hidden_layers")
    if isinstance(last, int) and isinstance(layers, int) and last not in (-1, layers - 1):
        yield "moe_layer_end_index: no formula for other than the last layer"
    if body.get("word_embed_proj_dim") not in (None, body.get("hidden_size")):
        yield "word_embed_proj_dim: no formula for other than hidden_size"


def _tells(key: str, value: Any) -> bool:
    """Whether a value may change what is counted: a size, a list, a pattern.

    Switches, losses, 0 and 1 do not, nor the name of a function or a type of number.
    """
    if isinstance(value, str):
        return bool(value) and not key.endswith(("_act", "_dtype", "_func", "_method"))
    if isinstance(value, int):
        return value > 1
    return isinstance(value, list | dict) and bool(value)


def renamed(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """A text model's fields by the names that are read."""
    named = {SYNONYMS[key]: value for key, value in body.items() if key in SYNONYMS}
    named |= {key: value for key, value in body.items() if key not in SYNONYMS}
    if kind == "falcon":
        # As transformers' FalconAttention has it: grouped only in the newer decoder.
        heads, hidden = body.get("num_attention_heads"), body.get("hidden_size")
        if body.get("new_decoder_architecture"):
            named["num_key_value_heads"] = body.get("num_kv_heads") or heads
        else:
            named["num_key_value_heads"] = 1 if body.get("multi_query", True) else heads
        if named.get("intermediate_size") is None and isinstance(hidden, int):
            named["intermediate_size"] = 4 * hidden
    return named

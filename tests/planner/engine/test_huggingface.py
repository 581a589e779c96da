"""`config.json` of Hugging Face: the fields of real files, against published parameter counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner.engine import catalogue
from planner.engine.huggingface import read_model
from planner.errors import InvalidFile

SLIDING, FULL = "sliding_attention", "full_attention"


def dense(layers: int, hidden: int, heads: int, kv: int, mlp: int, vocabulary: int, **more: Any):
    """The fields that every family has."""
    return {
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": mlp, "vocab_size": vocabulary,
    } | more  # fmt: skip


def qwen_moe(layers: int, hidden: int, heads: int, width: int):
    return dense(
        layers, hidden, heads, 4, 6144, 151936, head_dim=128, model_type="qwen3_moe",
        tie_word_embeddings=False, num_experts=128, num_experts_per_tok=8,
        moe_intermediate_size=width, decoder_sparse_step=1, mlp_only_layers=[],
        sliding_window=None, use_sliding_window=False,
    )  # fmt: skip


def gpt_oss(layers: int, experts: int):
    return dense(
        layers, 2880, 64, 8, 2880, 201088, head_dim=64, model_type="gpt_oss",
        tie_word_embeddings=False, num_local_experts=experts, num_experts_per_tok=4,
        sliding_window=128, layer_types=[SLIDING, FULL] * (layers // 2),
        quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    )  # fmt: skip


def gemma(layers: int, hidden: int, mlp: int, **more: int):
    """Its file has text and images, and leaves what `transformers` knows to its defaults."""
    text = {
        "model_type": "gemma3_text", "num_hidden_layers": layers, "hidden_size": hidden,
        "intermediate_size": mlp, "sliding_window": 1024,
    }  # fmt: skip
    vision = {"hidden_size": 1152, "num_hidden_layers": 27}
    return {"model_type": "gemma3", "text_config": text | more, "vision_config": vision}


DEEPSEEK = dense(
    61, 7168, 128, 128, 18432, 129280, model_type="deepseek_v3", tie_word_embeddings=False,
    moe_intermediate_size=2048, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8,
    first_k_dense_replace=3, moe_layer_freq=1, q_lora_rank=1536, kv_lora_rank=512,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, rope_scaling={"factor": 40},
    quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]},
)  # fmt: skip
# Billions of parameters, and of those that a token uses, as the model cards and reports state them.
# OpenAI counts gpt-oss's active parameters without the input embedding: 0.58 more here. Gemma 3's
# are those of its report without the images' tower.
MODELS: dict[str, tuple[dict[str, Any], float, float | None]] = {
    "LLaMA-30B": (dense(60, 6656, 52, 52, 17920, 32000), 32.529, None),
    "Llama-2-7B": (dense(32, 4096, 32, 32, 11008, 32000), 6.738, None),
    "Llama-2-13B": (dense(40, 5120, 40, 40, 13824, 32000), 13.016, None),
    "Llama-2-70B": (dense(80, 8192, 64, 8, 28672, 32000), 68.977, None),
    "CodeLlama-34B": (dense(48, 8192, 64, 8, 22016, 32000), 33.744, None),
    "Llama-3-8B": (dense(32, 4096, 32, 8, 14336, 128256), 8.030, None),
    "Llama-3-70B": (dense(80, 8192, 64, 8, 28672, 128256), 70.554, None),
    "Llama-3.1-8B": (dense(32, 4096, 32, 8, 14336, 128256), 8.030, None),
    "Llama-3.1-70B": (dense(80, 8192, 64, 8, 28672, 128256), 70.554, None),
    "Llama-3.1-405B": (dense(126, 16384, 128, 8, 53248, 128256), 405.853, None),
    "Llama-3.2-1B": (
        dense(16, 2048, 32, 8, 8192, 128256, head_dim=64, tie_word_embeddings=True), 1.236, None),
    "Llama-3.2-3B": (
        dense(28, 3072, 24, 8, 8192, 128256, head_dim=128, tie_word_embeddings=True), 3.213, None),
    "Llama-3.3-70B": (dense(80, 8192, 64, 8, 28672, 128256), 70.554, None),
    "Qwen2.5-0.5B": (dense(24, 896, 14, 2, 4864, 151936, tie_word_embeddings=True), 0.494, None),
    "Qwen2.5-1.5B": (dense(28, 1536, 12, 2, 8960, 151936, tie_word_embeddings=True), 1.544, None),
    "Qwen2.5-3B": (dense(36, 2048, 16, 2, 11008, 151936, tie_word_embeddings=True), 3.086, None),
    "Qwen2.5-7B": (
        dense(28, 3584, 28, 4, 18944, 152064, sliding_window=131072, use_sliding_window=False),
        7.616, None),
    "Qwen2.5-14B": (dense(48, 5120, 40, 8, 13824, 152064), 14.770, None),
    "Qwen2.5-32B": (dense(64, 5120, 40, 8, 27648, 152064), 32.764, None),
    "Qwen2.5-72B": (dense(80, 8192, 64, 8, 29568, 152064), 72.706, None),
    "Qwen3-0.6B": (
        dense(28, 1024, 16, 8, 3072, 151936, head_dim=128, tie_word_embeddings=True), 0.596, None),
    "Qwen3-1.7B": (
        dense(28, 2048, 16, 8, 6144, 151936, head_dim=128, tie_word_embeddings=True), 1.721, None),
    "Qwen3-4B": (
        dense(36, 2560, 32, 8, 9728, 151936, head_dim=128, tie_word_embeddings=True), 4.022, None),
    "Qwen3-8B": (dense(36, 4096, 32, 8, 12288, 151936, head_dim=128), 8.191, None),
    "Qwen3-14B": (dense(40, 5120, 40, 8, 17408, 151936, head_dim=128), 14.768, None),
    "Qwen3-32B": (dense(64, 5120, 64, 8, 25600, 151936, head_dim=128), 32.762, None),
    "Qwen3-30B-A3B": (qwen_moe(48, 2048, 32, 768), 30.532, 3.3),
    "Qwen3-235B-A22B": (qwen_moe(94, 4096, 64, 1536), 235.094, 22.0),
    "Mistral-7B": (dense(32, 4096, 32, 8, 14336, 32000), 7.242, None),
    "Mistral-Nemo-12B": (dense(40, 5120, 32, 8, 14336, 131072, head_dim=128), 12.248, None),
    "Mistral-Small-24B": (dense(40, 5120, 32, 8, 32768, 131072, head_dim=128), 23.572, None),
    "Mistral-Large-123B": (dense(88, 12288, 96, 8, 28672, 32768, head_dim=128), 122.610, None),
    "Mixtral-8x7B": (
        dense(32, 4096, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2),
        46.703, 12.9),
    "Mixtral-8x22B": (
        dense(56, 6144, 48, 8, 16384, 32000, num_local_experts=8, num_experts_per_tok=2),
        140.621, 39.0),
    "gpt-oss-20b": (gpt_oss(24, 32), 20.91, 3.61 + 0.58),
    "gpt-oss-120b": (gpt_oss(36, 128), 116.83, 5.13 + 0.58),
    "Gemma-3-1B": (
        dense(26, 1152, 4, 1, 6912, 262144, head_dim=256, model_type="gemma3_text",
              sliding_window=512, sliding_window_pattern=6), 0.302 + 0.698, None),
    "Gemma-3-4B": (gemma(34, 2560, 10240), 0.675 + 3.209, None),
    "Gemma-3-12B": (
        gemma(48, 3840, 15360, num_attention_heads=16, num_key_value_heads=8),
        1.012 + 10.759, None),
    "Gemma-3-27B": (
        gemma(62, 5376, 21504, num_attention_heads=32, num_key_value_heads=16, head_dim=128),
        1.416 + 25.600, None),
    "DeepSeek-V3": (DEEPSEEK, 671.0, 37.0),
    "DeepSeek-R1": (DEEPSEEK, 671.0, 37.0),
}  # fmt: skip


def read(folder: Path, name: str, fields: dict[str, Any]):
    path = folder / name / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(fields))
    return read_model(path)


def test_every_shipped_model_is_checked():
    """No row without a published count beside it."""
    assert set(MODELS) == set(catalogue.models())


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_the_published_ones_and_rows_are_what_is_read(tmp_path: Path, name: str):
    """All parameters within 0.2 %, active ones within 2 %; and the shipped row says the same."""
    fields, billions, active = MODELS[name]

    model = read(tmp_path, name, fields)
    row = catalogue.models()[name]

    assert model.parameters == pytest.approx(1e9 * billions, rel=0.002)
    if active is not None:
        assert model.active == pytest.approx(1e9 * active, rel=0.02)
    assert row.parameters == pytest.approx(model.parameters, rel=0.0002)
    assert row.active == pytest.approx(model.active, rel=0.0002)
    for key in ("name", "layers", "hidden", "query_heads", "kv_heads", "head_size", "vocabulary",
                "experts", "experts_per_token", "kv_latent", "window", "window_layers",
                "tied_embeddings", "weight_bytes", "expert_bytes"):  # fmt: skip
        assert getattr(row, key) == getattr(model, key), key


def test_a_latent_and_windows_shrink_the_kv(tmp_path: Path):
    """DeepSeek keeps 576 elements per layer; a layer with a window counts by its share of 2,048."""
    deepseek = read(tmp_path, "a", DEEPSEEK)
    oss = read(tmp_path, "b", gpt_oss(36, 128))
    gemma_27b = read(tmp_path, "c", MODELS["Gemma-3-27B"][0])

    assert deepseek.kv_elements == 61 * (512 + 64)
    assert oss.kv_elements == 2 * 8 * 64 * (18 + 18 * 128 / 2048)
    assert gemma_27b.kv_elements == 2 * 16 * 128 * (10 + 52 / 2)


@pytest.mark.parametrize(
    ("fields", "billions", "active"),
    [
        # Maverick: every other layer has experts, each of those a shared one as well.
        (dense(48, 5120, 40, 8, 8192, 202048, head_dim=128, model_type="llama4_text",
               intermediate_size_mlp=16384, interleave_moe_layer_step=2, num_local_experts=128,
               num_experts_per_tok=1), 400.0, 17.0),
        # Qwen1.5-MoE-A2.7B: a shared expert of a width of its own.
        (dense(24, 2048, 16, 16, 5632, 151936, model_type="qwen2_moe", num_experts=60,
               num_experts_per_tok=4, moe_intermediate_size=1408,
               shared_expert_intermediate_size=5632), 14.3, 2.7),
        # ERNIE-4.5-21B-A3B: names of its own, the first layer dense, the LM head tied unsaid.
        (dense(28, 2560, 20, 4, 12288, 103424, model_type="ernie4_5_moe", head_dim=128,
               moe_num_experts=64, moe_k=6, moe_intermediate_size=1536, moe_num_shared_experts=2,
               moe_layer_start_index=1, moe_layer_end_index=27, moe_layer_interval=1,
               moe_capacity=[64, 64, 64], moe_gate_act="softmax", moe_use_aux_free=True),
         21.83, 3.35),
        # Command R: its LM head is tied, and its file does not say so.
        (dense(40, 8192, 64, 64, 22528, 256000, model_type="cohere"), 34.98, None),
        # OPT-6.7B; Falcon-7B with one KV head, unsaid MLPs; Falcon-40B with eight KV heads.
        ({"model_type": "opt", "num_hidden_layers": 32, "hidden_size": 4096, "ffn_dim": 16384,
          "num_attention_heads": 32, "vocab_size": 50272, "word_embed_proj_dim": 4096}, 6.66, None),
        ({"model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544,
          "num_attention_heads": 71, "vocab_size": 65024, "multi_query": True}, 6.92, None),
        ({"model_type": "falcon", "num_hidden_layers": 60, "hidden_size": 8192, "num_kv_heads": 8,
          "num_attention_heads": 128, "vocab_size": 65024, "ffn_hidden_size": 32768,
          "new_decoder_architecture": True}, 41.3, None),
        # Phi-3.5-MoE, phi-2, Seed-OSS-36B.
        (dense(32, 4096, 32, 8, 6400, 32064, model_type="phimoe", num_local_experts=16,
               num_experts_per_tok=2, router_jitter_noise=0.01), 41.9, 6.6),
        (dense(32, 2560, 32, 32, 10240, 51200, model_type="phi"), 2.78, None),
        (dense(64, 5120, 80, 8, 27648, 155136, model_type="seed_oss", head_dim=128), 36.15, None),
        # StarCoder2-7B: an MLP without a gate.
        (dense(32, 4608, 36, 4, 18432, 49152, model_type="starcoder2"), 7.17, None),
    ],
)  # fmt: skip
def test_other_shapes_are_counted_too(
    tmp_path: Path, fields: dict[str, Any], billions: float, active: float | None
):
    """Models that are not shipped, within 2 % of what their cards say."""
    model = read(tmp_path, "other", fields)

    assert model.parameters == pytest.approx(1e9 * billions, rel=0.02)
    if active is not None:
        assert model.active == pytest.approx(1e9 * active, rel=0.02)


# Families that are known and have no shipped row: one published count each, in billions.
TIED = {"tie_word_embeddings": True}
FAMILIES: dict[str, tuple[dict[str, Any], float]] = {
    "cohere2": (dense(32, 4096, 32, 8, 14336, 256000, sliding_window=4096,
                      sliding_window_pattern=4), 8.03),
    "deepseek_v2": (dense(27, 2048, 16, 16, 10944, 102400, n_routed_experts=64,
                          num_experts_per_tok=6, n_shared_experts=2, moe_intermediate_size=1408,
                          first_k_dense_replace=1, moe_layer_freq=1, kv_lora_rank=512,
                          q_lora_rank=None, qk_nope_head_dim=128, qk_rope_head_dim=64,
                          v_head_dim=128), 15.7),
    "ernie4_5": (dense(18, 1024, 16, 2, 3072, 103424, head_dim=128), 0.36),
    "gemma": (dense(28, 3072, 16, 16, 24576, 256000, head_dim=256), 8.54),
    "gemma2": (dense(42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096), 9.24),
    "glm4": (dense(40, 4096, 32, 2, 13696, 151552, head_dim=128), 9.4),
    "glm4_moe": (dense(46, 4096, 96, 8, 10944, 151552, head_dim=128, n_routed_experts=128,
                       num_experts_per_tok=8, n_shared_experts=1, moe_intermediate_size=1408,
                       first_k_dense_replace=1, n_group=1, topk_group=1), 106.9),
    "gpt_neox": (dense(32, 4096, 32, 32, 16384, 50432), 6.86),
    "granite": (dense(40, 4096, 32, 8, 12800, 49155, **TIED), 8.17),
    "granitemoe": (dense(32, 1536, 24, 8, 512, 49155, num_local_experts=40, num_experts_per_tok=8,
                         **TIED), 3.3),
    "internlm2": (dense(32, 4096, 32, 8, 14336, 92544), 7.74),
    "nemotron": (dense(96, 18432, 96, 8, 73728, 256000, head_dim=192), 341.0),
    "olmo2": (dense(32, 4096, 32, 32, 11008, 100352), 7.30),
    "olmoe": (dense(16, 2048, 16, 16, 1024, 50304, num_experts=64, num_experts_per_tok=8), 6.92),
    "phi3": (dense(32, 3072, 32, 32, 8192, 32064), 3.82),
    "smollm3": (dense(36, 2048, 16, 4, 11008, 128256), 3.08),
    "stablelm": (dense(32, 2560, 32, 32, 6912, 50304), 2.80),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_known_family_is_counted_rightly(tmp_path: Path, kind: str):
    """Within 1 % of what its card or its safetensors say: that is why it is known."""
    fields, billions = FAMILIES[kind]

    model = read(tmp_path, kind, fields | {"model_type": kind})

    assert model.parameters == pytest.approx(1e9 * billions, rel=0.01)


@pytest.mark.parametrize(
    ("quantization", "weight_bytes"),
    [
        ({"quant_method": "awq", "bits": 4}, 0.5),
        ({"quant_method": "gptq", "bits": 8}, 1.0),
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 1.0),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}, 1.0),
        (None, None),
    ],
)  # fmt: skip
def test_a_quantised_checkpoint_says_how_large_its_weights_are(
    tmp_path: Path, quantization: dict[str, Any] | None, weight_bytes: float | None
):
    """By the method, or by the bits that it states."""
    fields = dense(32, 4096, 32, 8, 14336, 128256, quantization_config=quantization)

    assert read(tmp_path, "small", fields).weight_bytes == weight_bytes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be positive"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"num_experts": 8}, "num_experts_per_tok: missing"),
        ({"num_experts": [8, 8], "model_type": "qwen3_moe"}, "num_experts: must be a whole number"),
        ({"layer_types": ["linear_attention", FULL]}, "layer_types: no formula for linear"),
        ({"model_type": "opt", "word_embed_proj_dim": 512}, "word_embed_proj_dim: no formula"),
        ({"model_type": "ernie4_5_moe", "moe_layer_interval": 2}, "moe_layer_interval: no formula"),
        ({"model_type": "ernie4_5_moe", "moe_layer_end_index": 9}, "moe_layer_end_index: no form"),
        ({"hybrid_override_pattern": "M-M*"}, "hybrid_override_pattern: no formula"),
        ({"quantization_config": {"quant_method": "secret"}}, "quant_method: unknown `secret`"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, change: dict[str, Any], words: str):
    """A missing field, layers without a formula, a quantisation of unknown size: file and field."""
    fields = dense(32, 4096, 32, 8, 14336, 128256) | change

    with pytest.raises(InvalidFile, match=words) as caught:
        read(tmp_path, "wrong", fields)

    assert str(caught.value).startswith(str(tmp_path / "wrong" / "config.json"))


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        # MiniMax-Text-01, RecurrentGemma, Hunyuan-Large, Qwen3-Next, Falcon-H1, Mamba.
        ({"model_type": "minimax_text_01", "attn_type_list": [0, 0, 1], "num_local_experts": 32},
         {"model_type", "attn_type_list"}),
        ({"model_type": "recurrent_gemma", "block_types": ["recurrent", "attention"]},
         {"model_type", "block_types"}),
        ({"model_type": "hunyuan", "num_experts": 16, "moe_topk": [8, 8]},
         {"model_type", "moe_topk"}),
        ({"model_type": "qwen3_next", "full_attention_interval": 4, "linear_num_key_heads": 16},
         {"model_type", "full_attention_interval", "linear_num_key_heads"}),
        ({"model_type": "falcon_h1", "mamba_d_state": 256}, {"model_type", "mamba_d_state"}),
        ({"model_type": "mamba", "state_size": 16, "conv_kernel": 4},
         {"model_type", "state_size", "conv_kernel"}),
        # A type that is known, with a word that is not.
        ({"model_type": "llama", "moe_num_secret_experts": 9}, {"moe_num_secret_experts"}),
        ({"expert_choice": {"k": 2}}, {"expert_choice"}),
        # The type of the text model is what counts; without one, that of the whole.
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3n_text"}}, {"model_type"}),
        ({"model_type": "llava", "text_config": {"hidden_size": 4096}}, {"model_type"}),
    ],
)  # fmt: skip
def test_an_architecture_that_is_not_known_is_refused(
    tmp_path: Path, fields: dict[str, Any], keys: set[str]
):
    """Each key that gives it away is named, and what to do instead; none is read as something else.

    ERNIE's experts were once overlooked, and the model read as a dense one of a sixth of its size.
    """
    config = dense(32, 4096, 32, 8, 14336, 128256) | fields
    path = tmp_path / "strange" / "config.json"

    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, "strange", config)

    lines = str(caught.value).splitlines()
    assert {line.removeprefix(f"{path}: ").split(":")[0] for line in lines} == keys
    assert all(line.endswith("(docs/profiles.md, Models)") for line in lines)


def test_switches_and_losses_of_experts_are_no_architecture(tmp_path: Path):
    """What changes no shape does not stand in the way."""
    fields = qwen_moe(48, 2048, 32, 768) | {
        "norm_topk_prob": True, "router_aux_loss_coef": 0.001, "moe_dropout_prob": 0.0,
        "output_expert_logits": False, "moe_router_dtype": "float32", "linear_bias": None,
    }  # fmt: skip

    assert read(tmp_path, "moe", fields).experts == 128


def test_a_stretched_context_and_layers_before_the_windows_are_read(tmp_path: Path):
    """YaRN's factor over the original positions; Qwen2's first layers without a window."""
    fields = dense(28, 3584, 28, 4, 18944, 152064, model_type="qwen2",
                   max_position_embeddings=32768, sliding_window=1024, use_sliding_window=True,
                   max_window_layers=20)  # fmt: skip
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}

    plain = read(tmp_path, "plain", fields)
    stretched = read(tmp_path, "yarn", fields | {"rope_scaling": yarn})

    assert (plain.context, plain.window_layers) == (32768, 8)
    assert stretched.context == 131072


def test_what_is_no_json_is_one_line(tmp_path: Path):
    """Neither a traceback nor several lines."""
    path = tmp_path / "config.json"
    path.write_text("{\n'a': 1\n}")

    with pytest.raises(InvalidFile, match=r"config\.json: JSON is malformed") as caught:
        read_model(path)

    assert "\n" not in str(caught.value)

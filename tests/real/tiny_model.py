"""Makes a model that an engine can serve: random weights and a tokenizer, about a megabyte.

    python tiny_model.py FOLDER

Runs in the environment of vLLM, which has PyTorch, safetensors and tokenizers; nothing is
downloaded. Tokens that are no text have no weight in the last layer, so that a sampled answer is
words and ends where its limit is; a structure can still force every byte.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<end>", "<begin>", "<turn>", "<pad>")
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "vi", "zo")
CONTEXT = 2048
WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 64, 128, 2, 2, 1
SCALE = 0.05  # of the weights
LAST_SCALE = 0.5  # of the last layer: larger makes likelier tokens likelier still
TEMPLATE = (
    "{% for message in messages %}<turn>{{ message['role'] }}\n{{ message['content'] }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Special tokens, all bytes, and words of two syllables with a space before them; and the
    merges that make these words of their bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space = "\u0120"  # a blank, as byte-level tokenizers write it
    tokens = [*SPECIAL, *alphabet]
    merges: dict[tuple[str, str], None] = {}
    for syllable in SYLLABLES:
        merges[(syllable[0], syllable[1])] = None
        merges[(space, syllable)] = None
    for first in SYLLABLES:
        for second in SYLLABLES:
            merges[(space + first, second)] = None
    tokens += [left + right for left, right in merges]
    return {token: number for number, token in enumerate(tokens)}, list(merges)


def write_tokenizer(folder: Path) -> int:
    """The tokenizer's files; returns the size of the vocabulary."""
    known, merges = vocabulary()
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<begin>",
        "eos_token": "<end>",
        "pad_token": "<pad>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(known)


def weights(size: int) -> dict[str, torch.Tensor]:
    """Random weights of a Llama. size: of the vocabulary."""
    torch.manual_seed(0)

    def drawn(*shape: int, scale: float = SCALE) -> torch.Tensor:
        return torch.randn(*shape) * scale

    side = WIDTH // HEADS * KV_HEADS
    last = drawn(size, WIDTH, scale=LAST_SCALE)
    last[: len(SPECIAL) + 256] = 0.0
    made = {
        "model.embed_tokens.weight": drawn(size, WIDTH, scale=1.0),
        "model.norm.weight": torch.ones(WIDTH),
        "lm_head.weight": last,
    }
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        made |= {
            f"{layer}.input_layernorm.weight": torch.ones(WIDTH),
            f"{layer}.post_attention_layernorm.weight": torch.ones(WIDTH),
            f"{layer}.self_attn.q_proj.weight": drawn(WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": drawn(side, WIDTH),
            f"{layer}.self_attn.v_proj.weight": drawn(side, WIDTH),
            f"{layer}.self_attn.o_proj.weight": drawn(WIDTH, WIDTH),
            f"{layer}.mlp.gate_proj.weight": drawn(INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": drawn(INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": drawn(WIDTH, INNER),
        }
    return made


def config(size: int) -> dict[str, Any]:
    """The `config.json` of a Llama. size: of the vocabulary."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": WIDTH // HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": size,
        "eos_token_id": SPECIAL.index("<end>"),
        "bos_token_id": SPECIAL.index("<begin>"),
        "pad_token_id": SPECIAL.index("<pad>"),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(folder)
    save_file(weights(size), str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(size)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Makes a model for llama.cpp: one file of random weights with its tokenizer, half a megabyte.

    python tiny_gguf.py FILE

Runs in the environment of llama.cpp, which has NumPy and gguf; nothing is downloaded.
"""

import sys

import gguf
import numpy as np

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT = 64, 128, 2, 2, 1, 2048
SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "vi", "zo")
BLANK = "\u2581"  # as SentencePiece writes it
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokens() -> tuple[list[str], list[float], list[int]]:
    """The vocabulary: its texts, scores (a longer word is preferred) and kinds. No text may occur
    twice: llama.cpp aborts then."""
    kind = gguf.TokenType
    texts = ["<unk>", "<s>", "</s>"]
    kinds = [int(kind.UNKNOWN), int(kind.CONTROL), int(kind.CONTROL)]
    texts += [f"<0x{byte:02X}>" for byte in range(256)]
    kinds += [int(kind.BYTE)] * 256
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, BLANK, *SYLLABLES, *(BLANK + syllable for syllable in SYLLABLES)]
    words += [BLANK + first + second for first in SYLLABLES for second in SYLLABLES]
    scores = [0.0] * len(texts) + [float(len(word)) for word in words]
    return texts + words, scores, kinds + [int(kind.NORMAL)] * len(words)


def main(path: str) -> None:
    draw = np.random.default_rng(0)

    def drawn(*shape: int, scale: float = 0.05) -> np.ndarray:
        return (draw.standard_normal(shape) * scale).astype(np.float32)

    texts, scores, kinds = tokens()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    last = drawn(len(texts), WIDTH, scale=0.5)
    last[:259] = 0.0  # tokens that are no text are never the likeliest
    side = WIDTH // HEADS * KV_HEADS
    writer.add_tensor("token_embd.weight", drawn(len(texts), WIDTH, scale=1.0))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", last)
    for number in range(LAYERS):
        block = f"blk.{number}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{block}.attn_q.weight", drawn(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.attn_k.weight", drawn(side, WIDTH))
        writer.add_tensor(f"{block}.attn_v.weight", drawn(side, WIDTH))
        writer.add_tensor(f"{block}.attn_output.weight", drawn(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_gate.weight", drawn(INNER, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", drawn(INNER, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", drawn(WIDTH, INNER))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])

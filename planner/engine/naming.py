"""Which model and which GPU of the catalogue other people's names mean. Pure.

Names of models are those of Hugging Face (`meta-llama/Meta-Llama-3-8B-Instruct`), of folders
(`/models/qwen3-8b`), or an operator's own.
"""

import re
from collections.abc import Iterable

# What may follow a model's name without making it another model: how it was tuned, its edition, and
# how its weights are written. `Distill-…` and the like are other models.
TUNING = re.compile(
    r"(instruct|chat|it|hf|base|pt|thinking|text|v\d+(\.\d+)*|\d{4}|bf16|fp16|fp8|dynamic|kv"
    r"|awq|gptq|int4|int8|4bit|8bit|w4a16|w8a8|w8a16|quantized|marlin|mxfp4|turbo|release)"
)
NARROW = re.compile(r"(^|[-_.])(fp8|w8a8|int8|8bit)([-_.]|$)")
NARROWER = re.compile(r"(^|[-_.])(awq|gptq|int4|4bit|w4a16)([-_.]|$)")


def model_of(name: str, known: Iterable[str]) -> str | None:
    """The known model that a name means; `None` if none is, or only something made of it."""
    bare = _bare(name)
    best: str | None = None
    for one in known:
        rest = _rest(bare, _bare(one))
        if rest is not None and (best is None or len(one) > len(best)):
            best = one
    return best


def weight_bits(name: str) -> int | None:
    """Bits of a weight, where a name says that they are fewer than 16."""
    bare = _bare(name)
    return 4 if NARROWER.search(bare) else 8 if NARROW.search(bare) else None


def _bare(name: str) -> str:
    """A name without organisation or folder, in one spelling."""
    last = name.rstrip("/").rpartition("/")[2].casefold()
    return last.removeprefix("meta-").replace("_", "-").replace(" ", "-")


def _rest(bare: str, model: str) -> str | None:
    """What follows a model's name in another one; `None` if that makes it another model."""
    if not bare.startswith(model):
        return None
    rest = bare[len(model) :]
    if rest and rest[0] not in "-.":
        return None
    words = [word for word in re.split(r"-", rest) if word]
    return rest if all(TUNING.fullmatch(word) for word in words) else None

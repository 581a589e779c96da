"""Where an emulated answer ends: by its own length, by `max_tokens` or by the context.

Knows no texts but those that a structure forces.
"""

from dataclasses import dataclass

from loadtest.emulator.prompts import check_prompt_fits
from loadtest.emulator.refusals import JsonObject, bad_parameter
from loadtest.emulator.sampling import int_field
from loadtest.emulator.structure import ForcedText

TEXT_MAX_TOKENS = 16  # OpenAI's default of /v1/completions, which vLLM keeps
MAX_NATURAL_TOKENS = 400  # where nothing in the request says how long the output is


@dataclass(frozen=True, slots=True)
class SequenceEnd:
    """How one sequence ends: output tokens, finish reason, and the texts of the tokens, which are
    empty for words."""

    tokens: int
    reason: str
    script: tuple[str, ...] = ()


def output_end(
    body: JsonObject,
    api: str,
    prompt: int,
    max_model_len: int,
    seed: int,
    structure: ForcedText | None = None,
) -> SequenceEnd:
    """The end of one sequence. Raises RequestRefused where it has no room.

    The model stops after its natural length; `max_tokens` and the context cap it.
    """
    limit = int_field(body, "max_completion_tokens") if api == "chat" else None
    if limit is None:
        limit = int_field(body, "max_tokens")
    if limit is None and api == "text":
        limit = TEXT_MAX_TOKENS
    check_prompt_fits(prompt, max_model_len)
    if limit is not None and limit > max_model_len:
        message = f"max_tokens={limit} cannot be greater than max_model_len={max_model_len}."
        raise bad_parameter(f"{message} Please request fewer output tokens.", "max_tokens", limit)
    # Where prompt and max_tokens together exceed the context, vLLM 0.32 clamps without a word
    # (older versions answered 400). A prompt that fills the context leaves 0, which is refused.
    room = max_model_len - prompt
    cap = room if limit is None else min(limit, room)
    if cap < 1:
        raise bad_parameter(f"max_tokens must be at least 1, got {cap}.", "max_tokens", cap)
    natural = natural_length(body, seed, structure)
    if natural is not None:
        natural = max(natural, int_field(body, "min_tokens") or 0)
    whole = natural is not None and natural <= cap
    tokens = natural if natural is not None and whole else cap
    script: tuple[str, ...] = ()
    if structure is not None:
        # The last token of an answer that ends by itself says so, and shows nothing.
        script = structure.tokens(cap if natural is None else max(natural - 1, 1))
        script = (*script, "")[:tokens]
    if not whole:
        return SequenceEnd(tokens, "length", script)
    calls = structure is not None and structure.tool is not None and not structure.named
    return SequenceEnd(tokens, "tool_calls" if calls else "stop", script)


def natural_length(body: JsonObject, seed: int, structure: ForcedText | None = None) -> int | None:
    """Tokens after which the model stops by itself, with the one that says so; `None`: never
    (`ignore_eos`).

    A request can state it in `vllm_xargs.output_tokens`: vLLM keeps that field for extensions, so a
    real engine accepts it and does nothing. Otherwise the length follows from the body alone, or
    from the text that a structure forces.
    """
    if body.get("ignore_eos"):
        return None
    extra = body.get("vllm_xargs")
    stated = extra.get("output_tokens") if isinstance(extra, dict) else None
    if isinstance(stated, int | float) and stated >= 1:
        return int(stated)
    if structure is not None:
        return len(structure.pieces) + 1
    return 1 + seed % MAX_NATURAL_TOKENS

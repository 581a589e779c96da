"""Reads from an engine's error that a prompt, or prompt and answer, are too long for it. No I/O.

Each engine says it in words of its own. What they have in common are two numbers: the tokens that
fit, and the tokens of the prompt.
"""

import re
from typing import Any, Final

import msgspec

LONGEST: Final = 4_000  # characters that are read of a message
# Codes and types of OpenAI and of llama.cpp, which say it without a number.
CODES: Final = ("context_length_exceeded", "exceed_context_size_error")
NUMBER: Final = r"(\d[\d,_]{0,11})"
# What only such a refusal says. An error about something else may have the word "length".
TOLD: Final = re.compile(
    r"context (?:length|size|window|limit)|max(?:imum)? (?:model|input|sequence) length"
    r"|max_model_len|max_seq_len|max_total_tokens|`inputs` must have less than"
    r"|`inputs` tokens \+ `max_new_tokens` must be|(?:prompt|input|sequence) (?:is )?too long"
    r"|input tokens exceed|(?:prompt|input) (?:length|token count).{0,60}exceed"
    r"|longer than the context|too many (?:input |prompt )?tokens",
    re.IGNORECASE | re.DOTALL,
)
# The first that is found counts, so the surest come first.
LIMITS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\d \+ \d+ > {NUMBER}",  # Anthropic: input length and `max_tokens` exceed context limit
        rf"\d > {NUMBER}",
        rf"context (?:length|size|window|limit)[^\d]{{0,40}}{NUMBER}",
        rf"max(?:imum)? (?:model|input|sequence|allowed) length[^\d]{{0,40}}{NUMBER}",
        rf"max_(?:model_len|seq_len|num_tokens|total_tokens)[^\d]{{0,20}}{NUMBER}",
        rf"must have less than {NUMBER}",
        rf"must be <= {NUMBER}",
        rf"> {NUMBER} maximum",
        rf"limit (?:of )?{NUMBER}",
        rf"{NUMBER} maximum context length",
    )
)
PROMPTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{NUMBER} (?:tokens )?(?:in|from) (?:the|your) (?:input |prompt|messages)",
        rf"{NUMBER} (?:`inputs`|inputs?|prompt) tokens",
        rf"resulted in {NUMBER}",
        rf"(?:prompt|input)s? ?\((?:length )?{NUMBER}",
        rf"(?:prompt|input) length ?[(:]? ?{NUMBER}",
        rf"prompt (?:contains|has) (?:at least )?{NUMBER} tokens",
        rf"request \({NUMBER} tokens",
        rf"too long: {NUMBER} tokens",
        rf"context limit: {NUMBER} \+",
        rf"given: {NUMBER}",
        rf": {NUMBER}(?: \+ \d+)? (?:were )?(?:given|asked|requested)",
        rf"token count of {NUMBER}",
        rf"too many (?:input |prompt )?tokens: {NUMBER}",
        rf"{NUMBER} > \d",
    )
)


class ContextRefusal:
    """What a refusal for length says; never changed.

    limit: tokens that the engine has room for, prompt and answer together, or the prompt alone.
    prompt_tokens: of the refused prompt, or fewer where the engine stopped counting. Both `None`
    where the engine does not say.
    """

    __slots__ = ("limit", "prompt_tokens")

    def __init__(self, *, limit: int | None, prompt_tokens: int | None) -> None:
        self.limit = limit
        self.prompt_tokens = prompt_tokens

    def least(self, max_tokens: int | None) -> int | None:
        """Tokens that the prompt has at least, as far as can be told. max_tokens: those of the
        answer that did not fit beside it."""
        if self.prompt_tokens is not None or self.limit is None:
            return self.prompt_tokens
        return max(0, self.limit - (max_tokens or 0)) or None

    def __repr__(self) -> str:
        return f"<ContextRefusal of {self.prompt_tokens} tokens by {self.limit}>"


def context_refusal(body: bytes) -> ContextRefusal | None:
    """Read an error: the body of a reply, or the error object of an event. `None` if it speaks of
    anything else than length."""
    error = _error(body)
    text = body.decode(errors="replace") if error is None else _message(error)
    text = text[:LONGEST]
    named = error is not None and (error.get("code") in CODES or error.get("type") in CODES)
    if not named and TOLD.search(text) is None:
        return None
    limit, prompt = _first(LIMITS, text), _first(PROMPTS, text)
    if error is not None:  # llama.cpp has them as fields
        limit = limit or _whole(error.get("n_ctx"))
        prompt = prompt or _whole(error.get("n_prompt_tokens"))
    return ContextRefusal(limit=limit, prompt_tokens=prompt)


def _error(body: bytes) -> dict[str, Any] | None:
    """The error object of a reply, or what stands in its place; `None` if there is none."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(reply, dict):
        return None
    error = reply.get("error")
    return error if isinstance(error, dict) else reply


def _message(error: dict[str, Any]) -> str:
    """The words of an error: of an OpenAI object, of TGI's `error`, of FastAPI's `detail`."""
    for name in ("message", "error", "detail"):
        words = error.get(name)
        if words:
            return words if isinstance(words, str) else str(words)
    return ""


def _first(patterns: "tuple[re.Pattern[str], ...]", text: str) -> int | None:
    """The number of the first pattern that is found."""
    for pattern in patterns:
        found = pattern.search(text)
        if found is not None:
            return int(found[1].replace(",", "").replace("_", ""))
    return None


def _whole(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None

"""Sampling parameters of a request, checked as vLLM 0.32 checks them. Knows no prompts."""

import math

from loadtest.emulator.refusals import (
    REFUSED,
    JsonObject,
    RequestRefused,
    bad_parameter,
    validation_error,
)
from loadtest.emulator.shape import check_field

GREEDY_BELOW = 1e-5  # vLLM's: a temperature under it is no sampling
VOCABULARY = 32_000  # ids of the emulated tokenizer, 0 and 1 left to special tokens
MOST_LOGPROBS = 20  # vLLM's --max-logprobs
# Name, least and greatest value, whether the least itself is refused, and vLLM's words. Of those in
# `TWICE` it names the parameter once more.
TWICE = ("temperature", "top_p")
RANGES = (
    ("presence_penalty", -2.0, 2.0, False, "must be in [-2, 2]"),
    ("frequency_penalty", -2.0, 2.0, False, "must be in [-2, 2]"),
    ("repetition_penalty", 0.0, math.inf, True, "must be greater than zero"),
    ("temperature", 0.0, math.inf, False, "must be non-negative"),
    ("top_p", 0.0, 1.0, True, "must be in (0, 1]"),
    ("top_k", -1, math.inf, False, "must be 0 (disable), or at least 1"),
    ("min_p", 0.0, 1.0, False, "must be in [0, 1]"),
)


def int_field(body: JsonObject, name: str) -> int | None:
    """An optional integer field. Digits in a string count, as pydantic accepts them for vLLM."""
    value = body.get(name)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        message = "Input should be a valid integer, got a number with a fractional part"
        raise validation_error("int_from_float", f"body.{name}", message, value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise validation_error("int_parsing", f"body.{name}", message, value) from None
    raise validation_error("int_type", f"body.{name}", "Input should be a valid integer", value)


def float_field(body: JsonObject, name: str) -> float | None:
    """An optional number."""
    value = body.get(name)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            message = "Input should be a valid number, unable to parse string as a number"
            raise validation_error("float_parsing", f"body.{name}", message, value) from None
    raise validation_error("float_type", f"body.{name}", "Input should be a valid number", value)


def check_sampling(body: JsonObject) -> None:
    """Refuse parameters outside their ranges."""
    for name, least, most, above, words in RANGES:
        value = int_field(body, name) if name == "top_k" else float_field(body, name)
        if value is None:
            continue
        shown = value if name == "top_k" else float(value)
        if not math.isfinite(value):
            raise bad_parameter(f"{name} must be a finite number, got {shown}.", name, shown)
        if not least <= value <= most or (above and value == least):
            message = f"{name} {words}, got {shown}."
            if name in TWICE:
                raise bad_parameter(message, name, shown)
            raise RequestRefused(400, message, REFUSED)
    least_tokens, limit = int_field(body, "min_tokens"), int_field(body, "max_tokens")
    if least_tokens is not None and limit is not None and least_tokens > limit >= 1:
        message = f"min_tokens must be less than or equal to max_tokens={limit}, got {least_tokens}"
        raise RequestRefused(400, f"{message}.", REFUSED)


def choices_per_prompt(body: JsonObject) -> tuple[int, int]:
    """The sequences that the engine runs for each prompt, and how many of them are answered.

    `best_of` of a completion runs more than `n`. Refuses several for greedy sampling; the default
    temperature is 1.
    """
    n = int_field(body, "n")
    n = 1 if n is None else n
    if n < 1:
        raise RequestRefused(400, f"n must be at least 1, got {n}.", REFUSED)
    temperature = float_field(body, "temperature")
    if n > 1 and temperature is not None and temperature < GREEDY_BELOW:
        message = f"n must be 1 when using greedy sampling, got {n}."
        raise RequestRefused(400, message, REFUSED)
    return max(n, int_field(body, "best_of") or 1), n


def alternatives(body: JsonObject, api: str) -> int | None:
    """How many alternatives of each token the answer shows; `None`: no log probabilities."""
    if api == "text":
        asked = int_field(body, "logprobs")
        wanted = asked is not None
    else:
        check_field(body, "logprobs", "bool")
        wanted = bool(body.get("logprobs"))
        asked = int_field(body, "top_logprobs")
        if asked and not wanted:
            message = "when using `top_logprobs`, `logprobs` must be set to true."
            raise RequestRefused(
                400, f"{message} (parameter=top_logprobs)", REFUSED, "top_logprobs"
            )
    if asked == -1:
        asked = VOCABULARY  # all of them
    if asked is not None and asked > MOST_LOGPROBS:
        message = f"Requested sample logprobs of {asked}, which is greater than max allowed:"
        raise bad_parameter(f"{message} {MOST_LOGPROBS}", "logprobs", asked)
    if asked is not None and asked < 0:
        name = "logprobs" if api == "text" else "top_logprobs"
        raise bad_parameter(f"`{name}` must be a positive value.", name, asked)
    return (asked or 0) if wanted else None


def prompt_alternatives(body: JsonObject) -> int | None:
    """How many alternatives of each token of the prompt the answer shows; `None`: nothing of it."""
    asked = int_field(body, "prompt_logprobs")
    if asked is None:
        return None
    if body.get("stream") and asked:
        message = "`prompt_logprobs` are not available when `stream=True`."
        raise RequestRefused(
            400, f"{message} (parameter=prompt_logprobs)", REFUSED, "prompt_logprobs"
        )
    if asked < 0:
        message = "`prompt_logprobs` must be a positive value or -1."
        raise bad_parameter(message, "prompt_logprobs", asked)
    if asked > MOST_LOGPROBS:
        message = f"Requested prompt logprobs of {asked}, which is greater than max allowed:"
        raise bad_parameter(f"{message} {MOST_LOGPROBS}", "prompt_logprobs", asked)
    return asked

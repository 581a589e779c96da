"""What a client asks of an emulated vLLM: request bodies read and checked as vLLM 0.32 does it.

Keeps vLLM's order of checks, so that a body with two mistakes gets the error that vLLM would give.
The emulated tokenizer counts maximal runs of non-space characters. Knows nothing of HTTP or pace.
"""

import json
import zlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from loadtest.emulator.prefix_cache import PrefixCache
from loadtest.emulator.refusals import (
    REFUSED,
    JsonObject,
    RequestRefused,
    bad_parameter,
    model_not_found,
    validation_error,
)

Api = Literal["chat", "text", "embedding"]

# The emulated chat template. `loadtest/replay/send.py` subtracts the same numbers, so that a prompt
# has exactly the tokens of its trace row.
MESSAGE_TOKENS = 4  # per message
CHAT_TOKENS = 3  # once per conversation
TEXT_MAX_TOKENS = 16  # OpenAI's default of /v1/completions, which vLLM keeps
MAX_NATURAL_TOKENS = 400  # where nothing in the request says how long the output is
VOCABULARY = 32_000  # ids of the emulated tokenizer, 0 and 1 left to special tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One accepted request.

    prompt_tokens, output_tokens, finish_reasons: one entry per choice. include_usage: a stream ends
    with a usage chunk. continuous_usage: every chunk carries usage. base64: encoding of embeddings.
    seed: a checksum of the body; the emulated text depends on nothing else. cached_tokens: of each
    prompt, prefix hits; `None` without a prefix cache.
    """

    api: Api
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    finish_reasons: tuple[str, ...]
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    base64: bool = False
    seed: int = 0
    cached_tokens: tuple[int, ...] | None = None


def read_request(
    raw: bytes, api: Api, *, model: str, max_model_len: int, cache: PrefixCache | None = None
) -> GenerationRequest:
    """Read a body for an engine that serves `model`. Raises RequestRefused as vLLM words it.

    cache: where prompts are looked up and then kept; embeddings are in none.
    """
    body = decode_body(raw)
    prompts = {"chat": chat_prompt, "text": text_prompts, "embedding": embedding_prompts}[api](
        body, model
    )
    options = stream_options(body)
    check_model(body, model)
    check_n(body)
    if api == "embedding":
        return _embedding_request(body, prompts, max_model_len)
    seed = zlib.crc32(raw)
    ends = [output_end(body, api, prompt, max_model_len, seed) for prompt in prompts]
    include_usage = bool(options.get("include_usage"))
    return GenerationRequest(
        api=api,
        prompt_tokens=prompts,
        output_tokens=tuple(tokens for tokens, _ in ends),
        finish_reasons=tuple(reason for _, reason in ends),
        stream=bool(body.get("stream")),
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
        seed=seed,
        cached_tokens=None if cache is None else tuple(map(cache.find, token_lists(body, api))),
    )


def token_lists(body: JsonObject, api: Api) -> list[list[str]]:
    """The tokens of each prompt: words, token ids, and those of the emulated chat template, which
    stand where they leave the beginning of a longer conversation the same."""
    if api == "chat":
        tokens = ["<s>"] * CHAT_TOKENS
        for message in body["messages"]:
            tokens += [f"<{message.get('role')}>"] * MESSAGE_TOKENS
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            for part in parts:
                text = part.get("text") if isinstance(part, dict) else None
                tokens += text.split() if isinstance(text, str) else []
        return [tokens]
    prompt = body["prompt"]
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        prompt = [prompt]
    return [item.split() if isinstance(item, str) else list(map(str, item)) for item in prompt]


def _embedding_request(
    body: JsonObject, prompts: tuple[int, ...], max_model_len: int
) -> GenerationRequest:
    """An embedding is one prefill, which the engine model runs as a request of one output token."""
    for prompt in prompts:
        check_prompt_fits(prompt, max_model_len - 1)  # the output token needs its place
    return GenerationRequest(
        api="embedding",
        prompt_tokens=prompts,
        output_tokens=(1,) * len(prompts),
        finish_reasons=("stop",) * len(prompts),
        base64=body.get("encoding_format") == "base64",
    )


def decode_body(raw: bytes) -> JsonObject:
    """The JSON object in a body. Raises RequestRefused as vLLM words it."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = _decode_with_stdlib(raw)
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise validation_error("model_attributes_type", "body", message, body)
    return body


def _decode_with_stdlib(raw: bytes) -> object:
    """Decode once more with `json`: vLLM shows its error texts and its byte positions."""
    try:
        return json.loads(raw)
    except UnicodeDecodeError:
        raise RequestRefused(400, "There was an error parsing the body", None) from None
    except json.JSONDecodeError as error:
        context = f", 'ctx': {{'error': '{error.msg}'}}"
        where = f"body.{error.pos}"
        raise validation_error("json_invalid", where, "JSON decode error", {}, context) from None


def count_tokens(text: str) -> int:
    """Tokens that the emulated tokenizer makes of a text."""
    return len(text.split())


def stream_options(body: JsonObject) -> JsonObject:
    """The request's `stream_options`, empty if there are none. Refuses them without a stream."""
    options = body.get("stream_options")
    if options is not None and not body.get("stream"):
        message = "Stream options can only be defined when `stream=True`."
        raise RequestRefused(
            400, f"{message} (parameter=stream_options)", REFUSED, "stream_options"
        )
    return options if isinstance(options, dict) else {}


def check_model(body: JsonObject, model: str) -> None:
    """Refuse another model's name. vLLM serves a request without one."""
    if body.get("model") not in (None, model):
        raise model_not_found(body["model"], model)


def check_n(body: JsonObject) -> None:
    """Refuse n > 1, which is not emulated, in the words that vLLM has for greedy sampling."""
    n = int_field(body, "n")
    if n is not None and n < 1:
        raise RequestRefused(400, f"n must be at least 1, got {n}.", REFUSED)
    if n is not None and n > 1:
        message = f"n must be 1 when using greedy sampling, got {n}."
        raise RequestRefused(400, message, REFUSED)


def chat_prompt(body: JsonObject, model: str) -> tuple[int, ...]:
    """Prompt tokens of a conversation: its words and those of the emulated template."""
    if "messages" not in body:
        raise validation_error("missing", "body.messages", "Field required", body)
    messages = body["messages"]
    if not isinstance(messages, list):
        text = "Input should be a valid list"
        raise validation_error("list_type", "body.messages", text, messages)
    if not messages:
        text = "Cannot apply chat template to an empty conversation. "
        raise RequestRefused(400, f"{text}Provide at least one message.", REFUSED)
    tokens = CHAT_TOKENS
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            where = f"body.messages.{index}"
            text = "Input should be a valid dictionary"
            raise validation_error("dict_type", where, text, message)
        tokens += MESSAGE_TOKENS + content_tokens(message.get("content"), model)
    return (tokens,)


def content_tokens(content: object, model: str) -> int:
    """Tokens of one message's content: a text, or a list of text parts."""
    if isinstance(content, str):
        return count_tokens(content)
    tokens = 0
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            tokens += count_tokens(part["text"])
        elif isinstance(part, dict) and part.get("type") != "text":
            raise RequestRefused(400, f"{model} is not a multimodal model", REFUSED)
    return tokens


def text_prompts(body: JsonObject, _: str) -> tuple[int, ...]:
    """Tokens of each prompt of a completion."""
    counts = prompt_tokens(body.get("prompt"))
    if not counts or min(counts) == 0:
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise RequestRefused(400, f"{message} (parameter=prompt)", REFUSED, "prompt")
    return counts


def embedding_prompts(body: JsonObject, _: str) -> tuple[int, ...]:
    """Tokens of each input of an embedding; an empty text counts as one."""
    if "input" not in body:
        raise validation_error("missing", "body.input", "Field required", body)
    return tuple(max(tokens, 1) for tokens in prompt_tokens(body["input"]))


def prompt_tokens(prompt: object) -> tuple[int, ...]:
    """Tokens of each prompt in OpenAI's four forms: a text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return (count_tokens(prompt),)
    if not isinstance(prompt, list) or not prompt:
        return ()
    if isinstance(prompt[0], int):
        return (len(prompt),)
    return tuple(count_tokens(item) if isinstance(item, str) else len(item) for item in prompt)


def int_field(body: JsonObject, name: str) -> int | None:
    """An optional integer field. Digits in a string count, as pydantic accepts them for vLLM."""
    value = body.get(name)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise validation_error("int_parsing", f"body.{name}", message, value) from None
    raise validation_error("int_type", f"body.{name}", "Input should be a valid integer", value)


def check_prompt_fits(prompt: int, max_tokens: int) -> None:
    """Refuse a prompt that alone is longer than `max_tokens`."""
    if prompt > max_tokens:
        counted = max_tokens + 1  # as recorded: not the prompt's own length
        message = (
            f"This model's maximum context length is {max_tokens} tokens. However, your prompt "
            f"contains at least {counted} input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt."
        )
        raise bad_parameter(message, "input_tokens", counted)


def output_end(
    body: JsonObject, api: Api, prompt: int, max_model_len: int, seed: int
) -> tuple[int, str]:
    """Output tokens of one choice, and its finish reason.

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
    natural = natural_length(body, seed)
    return (natural, "stop") if natural is not None and natural <= cap else (cap, "length")


def natural_length(body: JsonObject, seed: int) -> int | None:
    """Tokens after which the model stops by itself; `None`: never (`ignore_eos`).

    A request can state it in `vllm_xargs.output_tokens`: vLLM keeps that field for extensions, so a
    real engine accepts it and does nothing. Otherwise the length follows from the body alone.
    """
    if body.get("ignore_eos"):
        return None
    extra = body.get("vllm_xargs")
    stated = extra.get("output_tokens") if isinstance(extra, dict) else None
    if isinstance(stated, int | float) and stated >= 1:
        return int(stated)
    return 1 + seed % MAX_NATURAL_TOKENS


def tokenize_answer(body: JsonObject, model: str, max_model_len: int) -> JsonObject:
    """The answer of `/tokenize`. A word's id is its checksum; a template token has id 1."""
    check_model(body, model)
    if "messages" in body:
        (count,) = chat_prompt(body, model)
        texts = [message.get("content") for message in body["messages"]]
        words = " ".join(text for text in texts if isinstance(text, str)).split()
        words = ["<s>"] * (count - len(words)) + words
    elif isinstance(body.get("prompt"), str):
        words = body["prompt"].split()
    else:
        raise validation_error("missing", "body.prompt", "Field required", body)
    ids = [
        1 if word == "<s>" else 2 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in words
    ]
    token_strs = words if body.get("return_token_strs") else None
    return {
        "count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": token_strs,
    }  # fmt: skip

"""What a client asks of an emulated vLLM, and what vLLM refuses in its own words.

Reads request bodies as vLLM 0.32 does: the same order of checks, statuses and error objects. The
emulated tokenizer counts maximal runs of non-space characters. Knows nothing of HTTP or of pace.
"""

import json
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Body = dict[str, Any]
Kind = Literal["chat", "text", "embedding"]

MESSAGE_TOKENS = 4  # of the emulated chat template, per message
CHAT_TOKENS = 3  # and once per conversation
TEXT_MAX_TOKENS = 16  # /v1/completions without max_tokens
LONGEST_OWN = 400  # output tokens when nothing in the request says how many
INVALID = "Bad Request"
REFUSED = "BadRequestError"


class RequestRefused(Exception):
    """An error answer: HTTP status, and message, type and param of the OpenAI error object.

    kind `None`: the framework's own shape, `{"detail": message}`.
    """

    def __init__(self, status: int, message: str, kind: str | None, param: str | None = None):
        super().__init__(message)
        self.status = status
        self.body: Body = {"detail": message}
        if kind is not None:
            error = {"message": message, "type": kind, "param": param, "code": status}
            self.body = {"error": error}


def busy() -> RequestRefused:
    """The admission limit is reached."""
    message = (
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance."
    )
    return RequestRefused(503, message, "Service Unavailable")


def broken() -> RequestRefused:
    """The engine process has died."""
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return RequestRefused(500, message, "InternalServerError")


def unknown(model: object, name: str) -> RequestRefused:
    """A model that is not served."""
    message = f"The model `{model}` does not exist. Valid aliases: {name}."
    return RequestRefused(404, message, "NotFoundError", "model")


def invalid(kind: str, where: str, message: str, given: object, more: str = "") -> RequestRefused:
    """One validation error in vLLM's wording."""
    shown = repr(given)
    if isinstance(given, dict | list):
        shown = f"'<{type(given).__name__} of {len(given)} items>'"
    parts = f"'type': '{kind}', 'loc': '{where}', 'msg': '{message}', 'input': {shown}{more}"
    return RequestRefused(400, f"1 validation error:\n  {{{parts}}}", INVALID, where)


def unsupported() -> RequestRefused:
    """The body is not declared as JSON."""
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return RequestRefused(400, message, INVALID)


def misfit(message: str, param: str, value: object) -> RequestRefused:
    """A parameter outside what the model can do."""
    return RequestRefused(400, f"{message} (parameter={param}, value={value})", REFUSED, param)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One accepted request. prompts, outputs, finishes: per choice, tokens, tokens and reason.

    usage: a stream ends with a usage chunk; continuous: every chunk carries usage. seed: from the
    body; the emulated text depends on nothing else.
    """

    kind: Kind
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    finishes: tuple[str, ...]
    stream: bool = False
    usage: bool = False
    continuous: bool = False
    base64: bool = False
    seed: int = 0


def decode(raw: bytes) -> Body:
    """The JSON object in a body. Raises Refused as vLLM words it."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = explain(raw)
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", "body", message, body)
    return body


def explain(raw: bytes) -> object:
    """Reads again with the standard library, whose error texts and positions vLLM shows."""
    try:
        return json.loads(raw)
    except UnicodeDecodeError:
        raise RequestRefused(400, "There was an error parsing the body", None) from None
    except json.JSONDecodeError as error:
        more = f", 'ctx': {{'error': '{error.msg}'}}"
        where = f"body.{error.pos}"
        raise invalid("json_invalid", where, "JSON decode error", {}, more) from None


def tokens(text: str) -> int:
    """How many tokens the emulated tokenizer makes of a text."""
    return len(text.split())


def read_request(raw: bytes, kind: Kind, *, model: str, longest: int) -> GenerationRequest:
    """The request in a body, for an engine that serves `model` with contexts up to `longest`."""
    body = decode(raw)
    prompts = {"chat": chat_prompt, "text": text_prompts, "embedding": embedding_prompts}[kind](
        body, model
    )
    stream = bool(body.get("stream"))
    options = body.get("stream_options")
    if options is not None and not stream:
        message = "Stream options can only be defined when `stream=True`."
        raise RequestRefused(
            400, f"{message} (parameter=stream_options)", REFUSED, "stream_options"
        )
    served(body, model)
    several(body)
    if kind == "embedding":
        for prompt in prompts:
            fits(prompt, longest - 1)
        ones = (1,) * len(prompts)
        base64 = body.get("encoding_format") == "base64"
        stops = ("stop",) * len(prompts)
        return GenerationRequest(
            kind=kind, prompts=prompts, outputs=ones, finishes=stops, base64=base64
        )
    seed = zlib.crc32(raw)
    ends = [end(body, kind, prompt, longest, seed) for prompt in prompts]
    options = options if isinstance(options, dict) else {}
    usage = bool(options.get("include_usage"))
    return GenerationRequest(
        kind=kind,
        prompts=prompts,
        outputs=tuple(count for count, _ in ends),
        finishes=tuple(reason for _, reason in ends),
        stream=stream,
        usage=usage,
        continuous=usage and bool(options.get("continuous_usage_stats")),
        seed=seed,
    )


def served(body: Body, model: str) -> None:
    """Refuses another model's name; a request without one is fine."""
    if body.get("model") not in (None, model):
        raise unknown(body["model"], model)


def several(body: Body) -> None:
    """Refuses what the emulation lacks, in the words vLLM has for greedy sampling."""
    number = whole(body, "n")
    if number is not None and number < 1:
        raise RequestRefused(400, f"n must be at least 1, got {number}.", REFUSED)
    if number is not None and number > 1:
        message = f"n must be 1 when using greedy sampling, got {number}."
        raise RequestRefused(400, message, REFUSED)


def chat_prompt(body: Body, model: str) -> tuple[int, ...]:
    """The prompt tokens of a conversation: its words and those of the emulated template."""
    if "messages" not in body:
        raise invalid("missing", "body.messages", "Field required", body)
    messages = body["messages"]
    if not isinstance(messages, list):
        raise invalid("list_type", "body.messages", "Input should be a valid list", messages)
    if not messages:
        message = "Cannot apply chat template to an empty conversation. "
        raise RequestRefused(400, f"{message}Provide at least one message.", REFUSED)
    count = CHAT_TOKENS
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            where = f"body.messages.{number}"
            raise invalid("dict_type", where, "Input should be a valid dictionary", message)
        count += MESSAGE_TOKENS + content_tokens(message.get("content"), model)
    return (count,)


def content_tokens(content: object, model: str) -> int:
    """The tokens of one message: a text, or a list of text parts."""
    if isinstance(content, str):
        return tokens(content)
    parts = content if isinstance(content, list) else []
    count = 0
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            count += tokens(part["text"])
        elif isinstance(part, dict) and part.get("type") != "text":
            raise RequestRefused(400, f"{model} is not a multimodal model", REFUSED)
    return count


def text_prompts(body: Body, _: str) -> tuple[int, ...]:
    """One count per prompt: a text, token ids, or a list of either."""
    counts = prompt_tokens(body.get("prompt"))
    if not counts or min(counts) == 0:
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise RequestRefused(400, f"{message} (parameter=prompt)", REFUSED, "prompt")
    return counts


def embedding_prompts(body: Body, _: str) -> tuple[int, ...]:
    if "input" not in body:
        raise invalid("missing", "body.input", "Field required", body)
    return tuple(max(count, 1) for count in prompt_tokens(body["input"]))


def prompt_tokens(prompt: object) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return (tokens(prompt),)
    if not isinstance(prompt, list) or not prompt:
        return ()
    if isinstance(prompt[0], int):
        return (len(prompt),)
    return tuple(tokens(one) if isinstance(one, str) else len(one) for one in prompt)


def whole(body: Body, name: str) -> int | None:
    """An optional integer field; digits in a string count, as they do for vLLM."""
    value = body.get(name)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            message = "Input should be a valid integer, unable to parse string as an integer"
            raise invalid("int_parsing", f"body.{name}", message, value) from None
    raise invalid("int_type", f"body.{name}", "Input should be a valid integer", value)


def fits(prompt: int, longest: int) -> None:
    """Refuses a prompt that alone exceeds the context."""
    if prompt > longest:
        message = (
            f"This model's maximum context length is {longest} tokens. However, your prompt "
            f"contains at least {longest + 1} input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt."
        )
        raise misfit(message, "input_tokens", longest + 1)


def end(body: Body, kind: Kind, prompt: int, longest: int, seed: int) -> tuple[int, str]:
    """After how many tokens the output ends, and why.

    The model stops by itself after `vllm_xargs.output_tokens`, or else after a number that depends
    on the body alone; `max_tokens` and the context cap it. Prompt and max_tokens together may
    exceed the context: vLLM clamps silently.
    """
    most = whole(body, "max_completion_tokens") if kind == "chat" else None
    if most is None:
        most = whole(body, "max_tokens")
    if most is None and kind == "text":
        most = TEXT_MAX_TOKENS
    fits(prompt, longest)
    if most is not None and most > longest:
        message = f"max_tokens={most} cannot be greater than max_model_len={longest}."
        raise misfit(f"{message} Please request fewer output tokens.", "max_tokens", most)
    cap = longest - prompt if most is None else min(most, longest - prompt)
    if cap < 1:
        raise misfit(f"max_tokens must be at least 1, got {cap}.", "max_tokens", cap)
    own = own_length(body, seed)
    return (own, "stop") if own is not None and own <= cap else (cap, "length")


def own_length(body: Body, seed: int) -> int | None:
    """After how many tokens the model would stop by itself; `None`: never (`ignore_eos`)."""
    if body.get("ignore_eos"):
        return None
    extra = body.get("vllm_xargs")
    asked = extra.get("output_tokens") if isinstance(extra, dict) else None
    return int(asked) if isinstance(asked, int | float) and asked >= 1 else 1 + seed % LONGEST_OWN


def tokenized(body: Body, model: str, longest: int) -> Body:
    """The answer of `/tokenize`. The ids follow from the words; a template token is id 1."""
    served(body, model)
    if "messages" in body:
        (count,) = chat_prompt(body, model)
        texts = [message.get("content") for message in body["messages"]]
        words = " ".join(text for text in texts if isinstance(text, str)).split()
        words = ["<s>"] * (count - len(words)) + words
    elif isinstance(body.get("prompt"), str):
        words = body["prompt"].split()
    else:
        raise invalid("missing", "body.prompt", "Field required", body)
    ids = [1 if word == "<s>" else 2 + zlib.crc32(word.encode()) % 31_998 for word in words]
    shown = words if body.get("return_token_strs") else None
    return {"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": shown}

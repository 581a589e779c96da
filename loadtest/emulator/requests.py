"""What a client asks of an emulated vLLM: request bodies read and checked as vLLM 0.32 does it.

Keeps vLLM's order of checks, so that a body with two mistakes gets the error that vLLM would give.
Knows nothing of HTTP or pace.
"""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from loadtest.emulator import dialects, prompts, sampling, stopping
from loadtest.emulator.ends import SequenceEnd, output_end
from loadtest.emulator.prefix_cache import PrefixCache
from loadtest.emulator.prompts import Prompts, check_prompt_fits
from loadtest.emulator.refusals import (
    REFUSED,
    JsonObject,
    RequestRefused,
    validation_error,
)
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.shape import check_shape
from loadtest.emulator.structure import structure_of
from loadtest.emulator.words import spoken

Api = Literal["chat", "text", "embedding", "response", "message"]

LENGTH_STEP = 131  # natural tokens between two choices of one prompt: they differ in length
# Fields that change how an answer is told, or where it is cut, and not what the model says.
TOLD = (
    "stream", "stream_options", "model", "stop", "stop_sequences", "include_stop_str_in_output",
    "return_token_ids", "prompt_logprobs",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One accepted request: its sequences, and how they are answered.

    model: the name in the answer. prompt_tokens, output_tokens, finish_reasons: one entry per
    sequence, those of one prompt beside each other. per_prompt: sequences of each prompt; answered:
    how many of them are choices of the answer. include_usage: a stream ends with a usage chunk.
    continuous_usage: every chunk carries usage. base64: encoding of embeddings. seed: a checksum of
    the body; the emulated text depends on nothing else. cached_tokens: prefix hits by sequence;
    `None` without a prefix cache. tells_hits: whether the usage has them. image_tokens: of all
    pictures. scripts: the texts of each sequence's tokens; `None`: words. tool: the function that
    is called; named: by the client's own choice. logprobs: alternatives shown of each token;
    `None`: no log probabilities. echo: what is repeated before the answer, by prompt; `None`:
    nothing. shown: what each token of each sequence shows, where stop strings change that; stops:
    the string that ended each. prompts: the tokens of each sequence's prompt, where the answer
    tells of them. token_ids: whether the answer has the ids of all tokens. prompt_logprobs:
    alternatives shown of each token of the prompt; `None`: none are. body: as it came.
    """

    api: Api
    model: str
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    finish_reasons: tuple[str, ...]
    per_prompt: int = 1
    answered: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    base64: bool = False
    seed: int = 0
    cached_tokens: tuple[int, ...] | None = None
    tells_hits: bool = True
    image_tokens: int = 0
    scripts: tuple[tuple[str, ...], ...] | None = None
    tool: str | None = None
    named: bool = False
    logprobs: int | None = None
    echo: tuple[str, ...] | None = None
    shown: tuple[tuple[str, ...], ...] | None = None
    stops: tuple[str | None, ...] | None = None
    prompts: tuple[tuple[str, ...], ...] | None = None
    token_ids: bool = False
    prompt_logprobs: int | None = None
    body: JsonObject = field(default_factory=dict)

    def choice(self, sequence: int) -> int | None:
        """The index of a sequence in the answer; `None` for one that only `best_of` wanted."""
        prompt, place = divmod(sequence, self.per_prompt)
        return prompt * self.answered + place if place < self.answered else None

    @property
    def called(self) -> bool:
        """Whether an answer that is whole calls the tool: an unfinished call is a text."""
        return self.tool is not None and self.finish_reasons[0] != "length"

    def ends_itself(self, sequence: int) -> bool:
        """Whether the model says that a sequence is over, by its last token."""
        by = None if self.stops is None else self.stops[sequence]
        return self.finish_reasons[sequence] in ("stop", "tool_calls") and by is None

    def stop_reason(self, sequence: int) -> str | None:
        """The stop string that ended a sequence; `None`: something else did."""
        if self.stops is None or self.finish_reasons[sequence] != "stop":
            return None
        return self.stops[sequence]

    @property
    def choices(self) -> list[int]:
        """The sequences that are answered."""
        return [s for s in range(len(self.output_tokens)) if self.choice(s) is not None]

    @property
    def prompt_total(self) -> int:
        """Tokens of all prompts, each counted once."""
        return sum(self.prompt_tokens[:: self.per_prompt])

    @property
    def cached_total(self) -> int | None:
        """Prefix hits of all prompts, each counted once; `None` without a prefix cache, or where
        the usage does not tell them."""
        hits = self.cached_tokens
        if hits is None or not self.tells_hits:
            return None
        return sum(hits[:: self.per_prompt])

    @property
    def output_total(self) -> int:
        """Output tokens of all choices."""
        return sum(self.output_tokens[sequence] for sequence in self.choices)


READERS: dict[Api, Callable[[JsonObject, EmulatedModel], Prompts]] = {
    "chat": prompts.chat_prompt,
    "text": prompts.text_prompts,
    "embedding": prompts.embedding_prompts,
    "response": prompts.chat_prompt,
    "message": prompts.chat_prompt,
}


def read_request(
    raw: bytes, api: Api, served: EmulatedModel, cache: PrefixCache | None = None
) -> GenerationRequest:
    """Read a body for an engine that serves a model. Raises RequestRefused as vLLM words it.

    cache: where prompts are looked up and then kept; embeddings are in none.
    """
    body = given = decode_body(raw)
    check_shape(body)
    if api == "response":
        body = dialects.chat_of_response(given)
    elif api == "message":
        body = dialects.chat_of_message(given)
    tokens = READERS[api](body, served)
    options = stream_options(body)
    model = served.answering(body)
    if api == "embedding":
        return _embedding_request(body, model, tokens, served.max_model_len)
    sampling.check_sampling(body)
    per_prompt, answered = sampling.choices_per_prompt(body)
    structure = structure_of(body, served)
    tokens = [prompt for prompt in tokens for _ in range(per_prompt)]
    seed = _seed(given)
    ends = [
        output_end(body, api, len(prompt), served.max_model_len, seed + LENGTH_STEP * n, structure)
        for n, prompt in enumerate(tokens)
    ]
    logprobs = sampling.alternatives(body, api)
    echo = prompts.prompt_texts(body) if api == "text" and body.get("echo") else None
    rule = stopping.stop_rule(body)
    shown = None
    if rule is not None:
        texts = [
            end.script or _words(seed, n, end, begins=echo is None) for n, end in enumerate(ends)
        ]
        shown = [stopping.stopped(each, rule) for each in texts]
        ends = [
            end if text.by is None else SequenceEnd(len(text.shown), "stop", end.script)
            for end, text in zip(ends, shown, strict=True)
        ]
    of_prompt = sampling.prompt_alternatives(body)
    if of_prompt is None and echo is not None:
        of_prompt = logprobs  # as recorded
    token_ids = bool(body.get("return_token_ids"))
    include_usage = served.force_usage or bool(options.get("include_usage"))
    continuous = served.force_usage or bool(options.get("continuous_usage_stats"))
    images = served.image_tokens or 0
    return GenerationRequest(
        api=api,
        model=model,
        prompt_tokens=tuple(map(len, tokens)),
        output_tokens=tuple(end.tokens for end in ends),
        finish_reasons=tuple(end.reason for end in ends),
        per_prompt=per_prompt,
        answered=answered,
        stream=bool(body.get("stream")),
        include_usage=include_usage,
        continuous_usage=include_usage and continuous,
        seed=seed,
        cached_tokens=None if cache is None else tuple(map(cache.find, tokens)),
        tells_hits=served.tells_hits,
        image_tokens=images * prompts.pictures(body) if images else 0,
        scripts=None if structure is None else tuple(end.script for end in ends),
        tool=None if structure is None else structure.tool,
        named=structure is not None and structure.named,
        logprobs=logprobs,
        echo=echo,
        shown=None if shown is None else tuple(text.shown for text in shown),
        stops=None if shown is None else tuple(text.by for text in shown),
        prompts=tuple(map(tuple, tokens)) if token_ids or of_prompt is not None else None,
        token_ids=token_ids,
        prompt_logprobs=of_prompt,
        body=given,
    )


def _embedding_request(
    body: JsonObject, model: str, tokens: Prompts, max_model_len: int
) -> GenerationRequest:
    """An embedding is one prefill, which the engine model runs as a request of one output token."""
    for prompt in tokens:
        check_prompt_fits(len(prompt), max_model_len - 1)  # the output token needs its place
    return GenerationRequest(
        api="embedding",
        model=model,
        prompt_tokens=tuple(map(len, tokens)),
        output_tokens=(1,) * len(tokens),
        finish_reasons=("stop",) * len(tokens),
        base64=body.get("encoding_format") == "base64",
    )


def decode_body(raw: bytes) -> JsonObject:
    """The JSON object in a body. Raises RequestRefused as vLLM words it."""
    if not raw:
        raise validation_error("missing", "body", "Field required", None)
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


def stream_options(body: JsonObject) -> JsonObject:
    """The request's `stream_options`, empty if there are none. Refuses them without a stream."""
    options = body.get("stream_options")
    if options is not None and not body.get("stream"):
        message = "Stream options can only be defined when `stream=True`."
        raise RequestRefused(
            400, f"{message} (parameter=stream_options)", REFUSED, "stream_options"
        )
    return options if isinstance(options, dict) else {}


def _words(seed: int, sequence: int, end: SequenceEnd, *, begins: bool) -> list[str]:
    itself, total = end.reason == "stop", end.tokens
    return [
        spoken(seed, sequence, index, total, begins=begins, itself=itself) for index in range(total)
    ]


def _seed(given: JsonObject) -> int:
    """What the words and the length of an answer follow from: all of a request but how it is told,
    which a gateway in between may change."""
    content = {name: value for name, value in given.items() if name not in TOLD}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())

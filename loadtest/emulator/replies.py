"""The bytes of vLLM's answers: stream chunks, bodies, the emulated text. No sockets, no pace.

Field names and their order are those recorded from vLLM 0.32. A stream's chunks are put together
from prebuilt pieces: nothing is serialised per token.
"""

import base64
import json
import struct
from typing import Any

import msgspec

from loadtest.emulator.requests import Body, GenerationRequest, RequestRefused

VERSION = "0.32.0"
FINGERPRINT = f"vllm-{VERSION}-emulated"
EMPTY_EVERY = 50  # a real detokeniser holds back an incomplete character now and then
DIMENSIONS = 8  # of an emulated embedding
TEXT = (
    "the sun rose over a small town and people went out to buy bread from old shops near river "
    "stone bridge while children played under green trees with kites made of paper because wind "
    "came early that year so every roof was warm by noon then rain fell on red tiles until night "
    "brought quiet streets"
)
WORDS = tuple(f" {word}" for word in TEXT.split())
WORD_BYTES = tuple(word.encode() for word in WORDS)
DONE = b"data: [DONE]\n\n"


def held(number: int, total: int) -> bool:
    """Whether the number-th token of `total` shows no text yet."""
    return number % EMPTY_EVERY == EMPTY_EVERY - 1 and number + 1 < total


def text(seed: int, total: int) -> str:
    """The emulated output: ordinary words in a cycle that starts somewhere by seed."""
    words = (
        "" if held(number, total) else WORDS[(seed + number) % len(WORDS)]
        for number in range(total)
    )
    return "".join(words).removeprefix(" ")


def usage(prompt: int, output: int) -> Body:
    return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}


def frame(event: bytes) -> bytes:
    """One event as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def event(value: Body) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def error_event(refused: RequestRefused) -> bytes:
    """An error inside a stream; vLLM writes these with spaces, unlike everything else."""
    return b"data: " + json.dumps(refused.body).encode() + b"\n\n"


class Frames:
    """The events of one choice of one stream, as bytes ready for the socket.

    chunked: each event is framed as an HTTP chunk; HTTP/1.0 knows none.
    """

    __slots__ = ("_ask", "_chunked", "_head", "_index", "_prefix", "_suffix", "_total", "_usage")

    def __init__(
        self, generation: GenerationRequest, head: Body, index: int, *, chunked: bool
    ) -> None:
        self._ask = generation
        self._head = head
        self._index = index
        self._chunked = chunked
        self._total = generation.outputs[index]
        self._prefix, self._suffix = self._event("\0", None).split(b"\\u0000")
        # The usage counts up, so continuous usage is put between choices and closing brace.
        self._usage = generation.continuous

    def take(self, start: int, stop: int) -> bytes:
        """The events of tokens start to stop − 1; before the first token the role chunk."""
        parts = [self._role()] if start == 0 and self._ask.kind == "chat" else []
        plain = stop if stop < self._total else self._total - 1
        parts += [self._chunk(number) for number in range(start, plain)]
        if plain < stop:
            parts.append(self._last())
        return b"".join(parts)

    def tail(self, made: int) -> bytes:
        """What ends the whole stream: the usage chunk if asked for, and [DONE]."""
        ending = self._framed(DONE)
        if not self._ask.usage:
            return ending
        counts = usage(sum(self._ask.prompts), made)
        value = {**self._head, "choices": [], "usage": counts, "system_fingerprint": FINGERPRINT}
        return self._framed(event(value)) + ending

    def _framed(self, data: bytes) -> bytes:
        return frame(data) if self._chunked else data

    def _chunk(self, number: int) -> bytes:
        if held(number, self._total):
            word = b""
        else:
            word = WORD_BYTES[(self._ask.seed + number) % len(WORD_BYTES)]
            if number == 0:
                word = word[1:]
        suffix = self._suffix
        if self._usage:
            suffix = suffix.removesuffix(b"}\n\n") + self._counts(number + 1) + b"}\n\n"
        if not self._chunked:
            return self._prefix + word + suffix
        size = len(self._prefix) + len(word) + len(suffix)
        return b"%x\r\n%b%b%b\r\n" % (size, self._prefix, word, suffix)

    def _counts(self, made: int) -> bytes:
        counts = self._usage_value(made)
        return b',"usage":' + msgspec.json.encode(counts)

    def _usage_value(self, made: int) -> Body:
        counts = usage(self._ask.prompts[self._index], made)
        return {**counts, "completion_tokens_details": None} if self._ask.kind == "chat" else counts

    def _role(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None}
        value = {**self._head, "choices": [choice]}
        if self._usage:
            value["usage"] = self._usage_value(0)
        return self._framed(event({**value, "prompt_token_ids": None, "prompt_text": None}))

    def _last(self) -> bytes:
        number = self._total - 1
        word = WORDS[(self._ask.seed + number) % len(WORDS)]
        word = word.removeprefix(" ") if number == 0 else word
        return self._framed(self._event(word, self._ask.finishes[self._index]))

    def _event(self, word: str, finish: str | None) -> bytes:
        """One content chunk. finish: the reason if it is the last one."""
        choice: Body = {"index": self._index}
        choice |= {"delta": {"content": word}} if self._ask.kind == "chat" else {"text": word}
        choice |= {"logprobs": None, "finish_reason": finish}
        if self._ask.kind == "text":
            choice |= {"stop_reason": None, "prompt_token_ids": None}
        elif finish is not None:
            choice["stop_reason"] = None
        value = {**self._head, "choices": [{**choice, "token_ids": None}]}
        if finish is not None and self._ask.continuous:
            value["usage"] = self._usage_value(self._total)
        # The fingerprint stands on the last JSON chunk only, which may be the usage chunk.
        final = self._index + 1 == len(self._ask.outputs)
        if finish is not None and final and not self._ask.usage:
            value["system_fingerprint"] = FINGERPRINT
        return event(value)


def answer(generation: GenerationRequest, head: Body) -> bytes:
    """The body of an unary answer. head: id, object, created and model."""
    if generation.kind == "embedding":
        return embeddings(generation, head)
    chat = generation.kind == "chat"
    counts = usage(sum(generation.prompts), sum(generation.outputs))
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    value: dict[str, Any] = {
        **head,
        "choices": [choice(generation, index) for index in range(len(generation.outputs))],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": counts | details,
    }
    if chat:
        value |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
    value |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    return msgspec.json.encode(value)


def choice(generation: GenerationRequest, index: int) -> Body:
    words = text(generation.seed, generation.outputs[index])
    end = {"logprobs": None, "finish_reason": generation.finishes[index], "stop_reason": None}
    if generation.kind == "chat":
        empty = ("refusal", "annotations", "audio", "function_call", "reasoning")
        message = {"role": "assistant", "content": words} | dict.fromkeys(empty)
        value = {"index": index, "message": message, **end, "token_ids": None}
    else:
        value = {"index": index, "text": words, **end}
        value |= dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids"))
    return {**value, "routed_experts": None}


def embeddings(generation: GenerationRequest, head: Body) -> bytes:
    """Small vectors that follow from a prompt's length and place; floats, or base64 of float32."""
    data = []
    for index, prompt in enumerate(generation.prompts):
        vector: object = [((prompt + index) * k % 97) / 97 for k in range(1, DIMENSIONS + 1)]
        if generation.base64:
            packed = struct.pack(f"<{DIMENSIONS}f", *vector)  # type: ignore[misc]
            vector = base64.b64encode(packed).decode()
        data.append({"index": index, "object": "embedding", "embedding": vector})
    counts = usage(sum(generation.prompts), 0) | {"prompt_tokens_details": None}
    return msgspec.json.encode({**head, "data": data, "usage": counts})


def models(name: str, longest: int, created: int) -> bytes:
    """The body of `GET /v1/models`."""
    permission = {
        "id": "modelperm-emulated",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    entry = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": name,
        "parent": None,
        "max_model_len": longest,
        "permission": [permission],
    }
    return msgspec.json.encode({"object": "list", "data": [entry]})

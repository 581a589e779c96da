"""The bytes of vLLM's answers: stream chunks, unary bodies, the emulated text. No sockets, no pace.

Field names and their order are those recorded from vLLM 0.32, nulls included. A stream's chunks are
put together from prebuilt pieces: nothing is serialised per token.
"""

import base64
import json
import struct

import msgspec

from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.requests import GenerationRequest

VERSION = "0.32.0"
FINGERPRINT = f"vllm-{VERSION}-emulated"
# vLLM sends "" for a token that ends inside a UTF-8 character, so chunks with text are fewer than
# tokens. Here every 50th token is such a one; the number is chosen, not measured.
EMPTY_EVERY = 50
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


def is_held_back(index: int, total: int) -> bool:
    """Whether output token `index` of `total` shows no text. The last token always shows some."""
    return index % EMPTY_EVERY == EMPTY_EVERY - 1 and index + 1 < total


def output_text(seed: int, total: int) -> str:
    """The emulated output: ordinary words in a cycle, from a start that the seed chooses."""
    words = (
        "" if is_held_back(index, total) else WORDS[(seed + index) % len(WORDS)]
        for index in range(total)
    )
    return "".join(words).removeprefix(" ")


def usage_object(prompt_tokens: int, output_tokens: int) -> JsonObject:
    """OpenAI's `usage`, in vLLM's order of fields."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
    }


def prompt_details(generation: GenerationRequest) -> JsonObject | None:
    """OpenAI's `prompt_tokens_details`; vLLM has none for a request without a hit."""
    cached = sum(generation.cached_tokens or ())
    return {"cached_tokens": cached} if cached else None


def http_chunk(event: bytes) -> bytes:
    """One event as one HTTP chunk: uvicorn frames them so, whatever TCP makes of them."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def sse_event(value: JsonObject) -> bytes:
    """One JSON object as a server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def error_event(refused: RequestRefused) -> bytes:
    """An error inside a stream. vLLM writes these with spaces, unlike all its other JSON."""
    return b"data: " + json.dumps(refused.body).encode() + b"\n\n"


class StreamChunks:
    """The events of one choice of one stream, as bytes ready for the socket.

    head: id, object, created and model. chunked: each event is an HTTP chunk; HTTP/1.0 has none.
    """

    __slots__ = ("_chunked", "_generation", "_head", "_index", "_prefix", "_suffix", "_total")

    def __init__(
        self, generation: GenerationRequest, head: JsonObject, index: int, *, chunked: bool
    ) -> None:
        self._generation = generation
        self._head = head
        self._index = index
        self._chunked = chunked
        self._total = generation.output_tokens[index]
        # A content chunk is the same bytes around its word, so it is encoded once, around a mark.
        self._prefix, self._suffix = self._content("\0", None).split(b"\\u0000")

    def tokens(self, start: int, stop: int) -> bytes:
        """The events of output tokens start to stop − 1; the role chunk stands before the first.

        vLLM sends the role chunk when prefill ends, together with token 1.
        """
        events = [self._role()] if start == 0 and self._generation.api == "chat" else []
        plain = stop if stop < self._total else self._total - 1
        events += [self._plain(index) for index in range(start, plain)]
        if plain < stop:
            events.append(self._last())
        return b"".join(events)

    def aborted(self, sent: int) -> bytes:
        """The last event of an engine that stops after `sent` tokens; before the first one only the
        role, without any finish reason."""
        if sent == 0:
            return self._role() if self._generation.api == "chat" else b""
        return self._framed(self._content("", "abort"))

    def end(self, output_tokens: int) -> bytes:
        """What ends the whole stream: the usage chunk if it was asked for, and [DONE].

        output_tokens: of all choices together.
        """
        ending = self._framed(DONE)
        if not self._generation.include_usage:
            return ending
        usage = usage_object(sum(self._generation.prompt_tokens), output_tokens)
        if details := prompt_details(self._generation):
            usage["prompt_tokens_details"] = details
        value = {**self._head, "choices": [], "usage": usage, "system_fingerprint": FINGERPRINT}
        return self._framed(sse_event(value)) + ending

    def _framed(self, event: bytes) -> bytes:
        return http_chunk(event) if self._chunked else event

    def _plain(self, index: int) -> bytes:
        """A content chunk before the last one, without serialising anything but a usage."""
        if is_held_back(index, self._total):
            word = b""
        else:
            word = WORD_BYTES[(self._generation.seed + index) % len(WORD_BYTES)]
            if index == 0:
                word = word[1:]  # the text does not begin with a space
        suffix = self._suffix
        if self._generation.continuous_usage:
            # It counts up from chunk to chunk: it stands between choices and the closing brace.
            usage = msgspec.json.encode(self._usage(index + 1))
            suffix = suffix.removesuffix(b"}\n\n") + b',"usage":' + usage + b"}\n\n"
        if not self._chunked:
            return self._prefix + word + suffix
        size = len(self._prefix) + len(word) + len(suffix)
        return b"%x\r\n%b%b%b\r\n" % (size, self._prefix, word, suffix)

    def _usage(self, output_tokens: int) -> JsonObject:
        """Usage of this choice so far; vLLM gives chats one field more than completions."""
        usage = usage_object(self._generation.prompt_tokens[self._index], output_tokens)
        if self._generation.api == "chat":
            usage["completion_tokens_details"] = None
        return usage

    def _role(self) -> bytes:
        """The first chunk of a chat, whose content is empty: it is not the first token."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None}
        value = {**self._head, "choices": [choice]}
        if self._generation.continuous_usage:
            value["usage"] = self._usage(0)
        # Of all chunks only this one has these two fields.
        return self._framed(sse_event({**value, "prompt_token_ids": None, "prompt_text": None}))

    def _last(self) -> bytes:
        """The last content chunk, which carries text and finish reason together."""
        index = self._total - 1
        word = WORDS[(self._generation.seed + index) % len(WORDS)]
        word = word.removeprefix(" ") if index == 0 else word
        return self._framed(self._content(word, self._generation.finish_reasons[self._index]))

    def _content(self, word: str, finish_reason: str | None) -> bytes:
        """One content chunk as an event; finish_reason: of the last one, else `None`."""
        chat = self._generation.api == "chat"
        choice: JsonObject = {"index": self._index}
        choice |= {"delta": {"content": word}} if chat else {"text": word}
        choice |= {"logprobs": None, "finish_reason": finish_reason}
        if not chat:
            choice |= {"stop_reason": None, "prompt_token_ids": None}
        elif finish_reason is not None:
            choice["stop_reason"] = None
        value = {**self._head, "choices": [{**choice, "token_ids": None}]}
        if finish_reason is not None and self._generation.continuous_usage:
            value["usage"] = self._usage(self._total)
        # The fingerprint stands on the stream's last JSON chunk only, which may be the usage chunk.
        last_choice = self._index + 1 == len(self._generation.output_tokens)
        if finish_reason is not None and last_choice and not self._generation.include_usage:
            value["system_fingerprint"] = FINGERPRINT
        return sse_event(value)


def unary_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """The body of an unary answer. head: id, object, created and model."""
    if generation.api == "embedding":
        return _embeddings_body(generation, head)
    choices = [_unary_choice(generation, index) for index in range(len(generation.output_tokens))]
    usage = usage_object(sum(generation.prompt_tokens), sum(generation.output_tokens))
    value: JsonObject = {
        **head,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": {
            **usage,
            "prompt_tokens_details": prompt_details(generation),
            "completion_tokens_details": None,
        },
    }
    if generation.api == "chat":
        value |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
    value |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    return msgspec.json.encode(value)


def _unary_choice(generation: GenerationRequest, index: int) -> JsonObject:
    text = output_text(generation.seed, generation.output_tokens[index])
    reason = generation.finish_reasons[index]
    end = {"logprobs": None, "finish_reason": reason, "stop_reason": None}
    if generation.api == "chat":
        empty = ("refusal", "annotations", "audio", "function_call", "reasoning")
        message = {"role": "assistant", "content": text} | dict.fromkeys(empty)
        value = {"index": index, "message": message, **end, "token_ids": None}
    else:
        value = {"index": index, "text": text, **end}
        value |= dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids"))
    return {**value, "routed_experts": None}


def _embeddings_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """Small vectors that follow from a prompt's length and place; floats, or base64 of float32."""
    data = []
    for index, prompt in enumerate(generation.prompt_tokens):
        vector: object = [((prompt + index) * k % 97) / 97 for k in range(1, DIMENSIONS + 1)]
        if generation.base64:
            packed = struct.pack(f"<{DIMENSIONS}f", *vector)  # type: ignore[misc]
            vector = base64.b64encode(packed).decode()
        data.append({"index": index, "object": "embedding", "embedding": vector})
    usage = usage_object(sum(generation.prompt_tokens), 0) | {"prompt_tokens_details": None}
    return msgspec.json.encode({**head, "data": data, "usage": usage})


def models_body(name: str, max_model_len: int, created: int) -> bytes:
    """The body of `GET /v1/models`, with the one model that a vLLM server has."""
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
        "max_model_len": max_model_len,
        "permission": [permission],
    }
    return msgspec.json.encode({"object": "list", "data": [entry]})

"""The events of streamed chats and completions, as bytes. No sockets, no pace.

Field names and their order are those recorded from vLLM 0.32, nulls included. A stream's chunks are
put together from prebuilt pieces: nothing is serialised per token.
"""

import msgspec

from loadtest.emulator.logprobs import logprobs_object
from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.replies import FINGERPRINT, prompt_details, tool_id, usage_object
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.sse import DONE, http_chunk, sse_event
from loadtest.emulator.text import output_text
from loadtest.emulator.tokenizer import output_ids, prompt_ids


class StreamChunks:
    """The events of one choice of one stream, as bytes ready for the socket.

    head: id, object, created and model. chunked: each event is an HTTP chunk; HTTP/1.0 has none.
    """

    __slots__ = (
        "_choice", "_chunked", "_generation", "_head", "_plain_text", "_prefix", "_sequence",
        "_suffix", "_total",
    )  # fmt: skip

    def __init__(
        self, generation: GenerationRequest, head: JsonObject, sequence: int, *, chunked: bool
    ) -> None:
        self._generation = generation
        self._head = head
        self._sequence = sequence
        self._choice = generation.choice(sequence)
        self._chunked = chunked
        self._total = generation.output_tokens[sequence]
        # A content chunk is the same bytes around its word, so it is encoded once, around a mark.
        mark = {"content": "\0"} if generation.api == "chat" else {"text": "\0"}
        self._prefix, self._suffix = self._content(mark, None).split(b"\\u0000")
        plain = generation.tool is None and generation.logprobs is None
        self._plain_text = plain and not generation.token_ids

    def begin(self) -> bytes:
        """What is sent before the first token: nothing."""
        return b""

    def tokens(self, start: int, stop: int, step: int = 1) -> bytes:
        """The events of output tokens start to stop − 1, `step` of them in each; the role chunk
        stands before the first.

        vLLM sends the role chunk when prefill ends, together with token 1.
        """
        events = [self._role()] if start == 0 and self._generation.api == "chat" else []
        for first in range(start, stop, step):
            last = min(first + step, stop)
            if last == self._total:
                reason = self._generation.finish_reasons[self._sequence]
                events.append(self._framed(self._part(first, last, reason)))
            elif self._plain_text:
                events.append(self._plain(first, last))
            else:
                events.append(self._framed(self._part(first, last, None)))
        return b"".join(events)

    def aborted(self, sent: int) -> bytes:
        """The last event of an engine that stops after `sent` tokens; before the first one only the
        role, without any finish reason."""
        if sent == 0:
            return self._role() if self._generation.api == "chat" else b""
        return self._framed(self._content(self._delta(""), "abort"))

    def end(self, output_tokens: int) -> bytes:
        """What ends the whole stream: the usage chunk if it was asked for, and [DONE].

        output_tokens: of all choices together.
        """
        ending = self._framed(DONE)
        if not self._generation.include_usage:
            return ending
        usage = usage_object(self._generation.prompt_total, output_tokens)
        if details := prompt_details(self._generation):
            told = {name: count for name, count in details.items() if count is not None}
            usage["prompt_tokens_details"] = told
        value = {**self._head, "choices": [], "usage": usage, "system_fingerprint": FINGERPRINT}
        return self._framed(sse_event(value)) + ending

    def _framed(self, event: bytes) -> bytes:
        return http_chunk(event) if self._chunked else event

    def _text(self, start: int, stop: int) -> str:
        """The text of some tokens, after that of the prompt where it is repeated."""
        text = output_text(self._generation, self._sequence, start, stop)
        if start == 0 and self._generation.echo is not None:
            text = self._generation.echo[self._sequence // self._generation.per_prompt] + text
        return text

    def _plain(self, start: int, stop: int) -> bytes:
        """A content chunk before the last one, without serialising anything but a usage."""
        word = msgspec.json.encode(self._text(start, stop))[1:-1]
        suffix = self._suffix
        if self._generation.continuous_usage:
            # It counts up from chunk to chunk: it stands between choices and the closing brace.
            usage = msgspec.json.encode(self._usage(stop))
            suffix = suffix.removesuffix(b"}\n\n") + b',"usage":' + usage + b"}\n\n"
        if not self._chunked:
            return self._prefix + word + suffix
        size = len(self._prefix) + len(word) + len(suffix)
        return b"%x\r\n%b%b%b\r\n" % (size, self._prefix, word, suffix)

    def _part(self, start: int, stop: int, reason: str | None) -> bytes:
        """A content chunk of any kind; reason: of the last one, which carries text as well."""
        shown = logprobs_object(self._generation, self._sequence, start, stop)
        text = self._text(start, stop)
        # The last token of an answer that ends by itself has no text, and its delta no field.
        ends = reason is not None and self._generation.ends_itself(self._sequence) and not text
        delta = {} if ends and self._generation.api == "chat" else self._delta(text)
        if self._generation.tool is not None and not ends:
            delta = {"content": None, "tool_calls": [self._call(start, text)]}
        return self._content(delta, reason, shown, stop, start)

    def _call(self, start: int, arguments: str) -> JsonObject:
        """A part of a tool's call: the first one names it."""
        function: JsonObject = {"arguments": arguments} if arguments else {}
        if start:
            return {"index": 0, "function": function}
        name = {"name": self._generation.tool}
        call = {"id": tool_id(self._generation, self._sequence), "type": "function", "index": 0}
        return {**call, "function": {**name, **function}}

    def _usage(self, output_tokens: int) -> JsonObject:
        """Usage of this choice so far; vLLM gives chats one field more than completions."""
        usage = usage_object(self._generation.prompt_tokens[self._sequence], output_tokens)
        if self._generation.api == "chat":
            usage["completion_tokens_details"] = None
        return usage

    def _role(self) -> bytes:
        """The first chunk of a chat, whose content is empty: it is not the first token."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": self._choice, "delta": delta, "logprobs": None, "finish_reason": None}
        value = {**self._head, "choices": [choice]}
        if self._generation.continuous_usage:
            value["usage"] = self._usage(0)
        # Of all chunks only this one has these two fields.
        ids = prompt_ids(self._generation, self._sequence)
        return self._framed(sse_event({**value, "prompt_token_ids": ids, "prompt_text": None}))

    def _delta(self, text: str) -> JsonObject:
        return {"content": text} if self._generation.api == "chat" else {"text": text}

    def _content(
        self,
        delta: JsonObject,
        reason: str | None,
        logprobs: JsonObject | None = None,
        sent: int = 0,
        start: int = 0,
    ) -> bytes:
        """One content chunk as an event, of output tokens start to sent − 1; reason: of the last
        one, else `None`."""
        chat = self._generation.api == "chat"
        choice: JsonObject = {"index": self._choice, **({"delta": delta} if chat else delta)}
        choice |= {"logprobs": logprobs, "finish_reason": reason}
        stopped_by = self._generation.stop_reason(self._sequence) if reason == "stop" else None
        if not chat:
            first = sent and not start
            ids = prompt_ids(self._generation, self._sequence) if first else None
            choice |= {"stop_reason": stopped_by, "prompt_token_ids": ids}
        elif reason is not None:
            choice["stop_reason"] = stopped_by
        token_ids = output_ids(self._generation, self._sequence, start, sent) if sent else None
        value = {**self._head, "choices": [{**choice, "token_ids": token_ids}]}
        if self._generation.continuous_usage and (sent or reason is not None):
            value["usage"] = self._usage(sent or self._total)
        # The fingerprint stands on each choice's last chunk, unless a usage chunk has it.
        if reason is not None and not self._generation.include_usage:
            value["system_fingerprint"] = FINGERPRINT
        return sse_event(value)

"""Reads a large body step by step, so that other requests get their turns in between.

What is read is what `body.read_body` reads. Knows no loop and no clock: a step is so much work.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from gateway.routing.abridgement import abridged
from gateway.routing.body import (
    MESSAGES,
    add_beside,
    add_calls,
    decoded,
    lists_prompts,
    prompt_of,
    read_body,
    request_of,
    token_ids,
)
from gateway.routing.body_schema import NOTHING, BodyFields, RawMessage
from gateway.routing.elements import Elements
from gateway.routing.endpoints import Endpoint
from gateway.routing.llm_request import LlmRequest
from gateway.routing.pairs import add_queries
from gateway.routing.prompt_text import NULL, PromptText

LARGE: Final = 32_768  # bytes of a body; a smaller one takes two milliseconds at most
HUGE: Final = 1 << 20  # bytes of a body from which payloads are cut out before it is read
FEW: Final = 500  # of objects, or of texts in lists, that are read at once: a millisecond or two
COMMAS: Final = 16_384  # in what may be a list of numbers; half a megabyte of prose has fewer
OBJECTS: Final = (b"{", b"]")  # how a list begins that has only objects, or nothing
STEP: Final = 400  # elements of lists that are read in one step
_MESSAGE: Final = msgspec.json.Decoder(RawMessage)


def read_large(body: bytes, endpoint: Endpoint) -> "LlmRequest | LargeBody":
    """Read a body that is JSON, or begin to, if that takes longer. Raises BadRequest."""
    if len(body) > HUGE:
        body = abridged(body)
    return LargeBody(body, endpoint) if _long_lists(body) else read_body(body, endpoint)


def _long_lists(body: bytes) -> bool:
    """Whether a body may have long lists. To count a sign costs as much as to decode a text; to
    find the next one, a tenth, where there are few."""
    at = -1
    for _ in range(FEW):
        at = body.find(b"{", at + 1)
        if at < 0:
            break
    else:
        return True
    for _ in range(FEW):
        at = body.find(b"[", at + 1)
        if at < 0:
            return False
        if body[at + 1 : at + 4].lstrip()[:1] not in OBJECTS:  # of texts, or of numbers
            break
    return body.count(b'",') > FEW or body.count(b",") > COMMAS


class LargeBody:
    """The reading of one body that is JSON.

    The fields are decoded at once; then the elements of its prompt are read, and of whatever long
    list there is in it.
    """

    __slots__ = (
        "_beside", "_elements", "_endpoint", "_fields", "_messages", "_next", "_prompt", "_rest",
        "_text", "_tokens", "_top", "_values",
    )  # fmt: skip

    def __init__(self, body: bytes, endpoint: Endpoint) -> None:
        """Raises BadRequest as `body.read_body`, and no later step does."""
        self._endpoint = endpoint
        fields: BodyFields = decoded(body)
        self._fields = fields
        self._values: tuple[Any, ...] = astuple(fields)
        self._prompt = prompt = prompt_of(fields, endpoint)
        listed = endpoint.token_ids and prompt[:1] == b"["
        self._tokens = token_ids(prompt) if listed else None
        self._messages = endpoint.prompt == MESSAGES and prompt[:1] == b"["
        self._beside = False
        self._begin()

    def _begin(self) -> None:
        """Begin to read the prompt."""
        self._text = PromptText(later=[])
        self._top: Elements | None = None
        if self._tokens is None and self._prompt[:1] == b"[":
            self._top = Elements(self._prompt, 1)
        self._elements = self._top
        self._rest: list[msgspec.Raw] = []
        self._next = 0

    def __repr__(self) -> str:
        return f"<LargeBody at {self._elements!r}, {self._text!r}>"

    def step(self) -> bool:
        """Read some more; return whether there is more to read."""
        left = STEP
        while left > 0:
            if self._next >= len(self._rest) and not self._more():
                return False
            items = self._rest
            start, end = self._next, min(len(items), self._next + left)
            left -= end - start
            self._next = end
            self._read(items[start:end])
        return True

    def _more(self) -> bool:
        """Take the next elements; return whether there are any, in any list."""
        text = self._text
        later = text.later
        assert later is not None
        while True:
            elements = self._elements
            if elements is not None:
                self._rest, self._next = elements.more(), 0
                if self._rest:
                    return True
                text.text_bytes += elements.uncounted
                self._elements = None
            if later:
                self._elements = later.pop()
            elif self._beside:
                return False
            else:
                self._beside = True
                if self._tokens is None and self._top is None:
                    text.add_content(self._prompt)
                add_beside(text, self._values, self._fields, self._endpoint)

    def _read(self, items: list[msgspec.Raw]) -> None:
        """Read elements of the present list."""
        text, elements = self._text, self._elements
        assert elements is not None
        if not (self._messages and elements is self._top):
            for item in items:
                text.add_content(bytes(item), elements.depth)
            return
        for item in items:
            if not self._add_message(item):
                self._messages = False  # of another shape than usual: read all as any content
                self._begin()
                return

    def _add_message(self, item: msgspec.Raw) -> bool:
        """Add a message as `body.add_message`; return whether it has the usual shape."""
        text = self._text
        try:
            message = _MESSAGE.decode(item)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        content = bytes(message.content)
        first = content[:1]
        if first == b'"':
            text.add_string(content)
        elif first == b"[" or content == NULL or not content:
            text.add_content(content)
            text.add_json(bytes(message.function_call))
        else:
            return False
        if message.tool_calls is not NOTHING:
            add_calls(text, message.tool_calls, message.reasoning, message.reasoning_content)
        return True

    def request(self) -> LlmRequest:
        """The request, when all is read."""
        top, endpoint, fields = self._top, self._endpoint, self._fields
        units, prompts = 1, 1
        if self._tokens is not None:
            units, prompts = 0, max(1, self._prompt.count(b"[") - 1)
        else:
            if top is not None and not top.uncounted:
                units = top.count + self._messages
            if lists_prompts(fields, endpoint):
                prompts = max(1, units)
        if endpoint.pairs:
            add_queries(self._text, fields, prompts)
        return request_of(
            self._values, fields, self._text, endpoint, self._tokens, units=units, prompts=prompts
        )

"""One request inside an engine, and the two moments that others are told of.

Plain classes instead of frozen dataclasses, because compiled code makes them for every request.
"""

from collections.abc import Hashable


class Moment:
    """Something about the request `key` that exists from at_s on, in seconds. Never changed."""

    __slots__ = ("at_s", "key")

    def __init__(self, key: Hashable, at_s: float) -> None:
        self.key = key
        self.at_s = at_s

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moment):
            return NotImplemented
        same = type(other) is type(self) and other.key == self.key
        return same and other.at_s == self.at_s

    def __hash__(self) -> int:
        return hash((self.key, self.at_s))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.key!r} at {self.at_s}>"


class FirstToken(Moment):
    """The first output token of the request exists."""

    __slots__ = ()


class LastToken(Moment):
    """The last output token of the request exists; the engine forgets the key."""

    __slots__ = ()


class Sequence:
    """One request. While it decodes, it has produced `step − offset` tokens.

    produced: output tokens when the sequence last began or stopped to decode. finish: the decode
    step of its last token, `None` while it does not decode. cached: tokens of the prompt whose KV
    the engine has from earlier requests. prompt: tokens to prefill: the input, and after a
    preemption the tokens produced before it.
    """

    __slots__ = (
        "cached",
        "finish",
        "input_tokens",
        "key",
        "offset",
        "output_tokens",
        "prefilled",
        "produced",
        "prompt",
    )

    def __init__(self, key: Hashable, input_tokens: int, output_tokens: int, cached: int) -> None:
        self.key = key
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached = cached
        self.produced = 0
        self.prompt = input_tokens
        self.prefilled = cached
        self.offset = 0
        self.finish: int | None = None

    def __repr__(self) -> str:
        made = f"{self.produced} of {self.output_tokens}"
        return f"<Sequence {self.key!r}, {self.prefilled} of {self.prompt} prefilled, {made} made>"

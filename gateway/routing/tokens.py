"""How many tokens a prompt has, from its bytes: learned from what backends report, no tokenizer.

Knows no model's vocabulary. Bytes per token differ by model, route and prompt size (a short prompt
is mostly JSON and chat template), so the ratio is kept per model, route and doubling of the byte
length, each starting at its model's.
"""

from typing import Final

SMOOTHING: Final = 0.05  # weight of one reply; a ratio settles within about 20


class TokenRatio:
    """Bytes per token of one model on one route. whole: of all prompts. by_size: by bit length."""

    __slots__ = ("by_size", "whole")

    def __init__(self, whole: float, by_size: dict[int, float] | None = None) -> None:
        self.whole = whole
        self.by_size = {} if by_size is None else by_size

    def __reduce__(self) -> tuple[type["TokenRatio"], tuple[float, dict[int, float]]]:
        return TokenRatio, (self.whole, self.by_size)


class BytesPerToken:
    """Learned bytes per token. Living state: outlives every plan and table."""

    def __init__(
        self,
        bytes_per_token: dict[str, float],
        curves: dict[tuple[str, str], TokenRatio] | None = None,
    ) -> None:
        """bytes_per_token: where each model starts. curves: what is known already."""
        self._curves = {} if curves is None else curves
        self._prior = dict(bytes_per_token)

    def __reduce__(self) -> tuple[type["BytesPerToken"], tuple[object, ...]]:
        return BytesPerToken, (self._prior, self._curves)

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{r} {c.whole:.2f}" for (m, r), c in self._curves.items())
        return f"<BytesPerToken {known or 'nothing learned'}>"

    def estimate(self, model: str, route: str, prompt_bytes: int) -> int:
        """Tokens of a prompt of so many bytes, at least one."""
        curve = self._curves.get((model, route))
        if curve is None:
            ratio = self._prior[model]
        else:
            ratio = curve.by_size.get(prompt_bytes.bit_length(), curve.whole)
        return round(prompt_bytes / ratio) or 1

    def learn(self, model: str, route: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """Takes in one reply's `usage.prompt_tokens`."""
        if prompt_bytes < 1 or prompt_tokens < 1:
            return
        curve = self._curves.get((model, route))
        if curve is None:
            curve = self._curves[model, route] = TokenRatio(self._prior[model])
        seen, size = prompt_bytes / prompt_tokens, prompt_bytes.bit_length()
        part = curve.by_size.get(size, seen)
        curve.whole += SMOOTHING * (seen - curve.whole)
        curve.by_size[size] = part + SMOOTHING * (seen - part)

"""Estimates prompt tokens from the bytes of the body, without a tokenizer.

Bytes per token are learned from the prompt tokens that backends report. The ratio differs by model,
endpoint and prompt size (a short prompt is mostly JSON and chat template), so there is one for each
model, endpoint and doubling of the byte length. Knows no vocabulary.
"""

from typing import Final

from gateway.routing.estimator_schema import TokenRatioState

SMOOTHING: Final = 0.05  # weight of one reply: a ratio settles within about 20 of them


class TokenRatio:
    """Bytes per token of one model on one endpoint.

    whole: over all prompts. by_size: by bit length of the number of bytes.
    """

    __slots__ = ("by_size", "whole")

    def __init__(self, whole: float, by_size: dict[int, float] | None = None) -> None:
        self.whole = whole
        self.by_size = {} if by_size is None else by_size


class BytesPerToken:
    """The learned ratios of one process; outlives every plan and table."""

    def __init__(self, priors: dict[str, float]) -> None:
        """priors: bytes per token where each model starts."""
        self._ratios: dict[tuple[str, str], TokenRatio] = {}
        self._priors = dict(priors)

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{e} {r.whole:.2f}" for (m, e), r in self._ratios.items())
        return f"<BytesPerToken {known or 'nothing learned'}>"

    def add(self, priors: dict[str, float]) -> None:
        """Add models, and change where the present ones would have started."""
        self._priors |= priors

    def estimate(self, model: str, endpoint: str, prompt_bytes: int) -> int:
        """Estimate the tokens of a prompt from its bytes; at least 1."""
        known = self._ratios.get((model, endpoint))
        if known is None:
            ratio = self._priors[model]
        else:
            ratio = known.by_size.get(prompt_bytes.bit_length(), known.whole)
        # An empty prompt is a token at least: the chat template.
        return round(prompt_bytes / ratio) or 1

    def learn(self, model: str, endpoint: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """Learn from the prompt tokens that a backend reported for a prompt."""
        if prompt_bytes < 1 or prompt_tokens < 1:
            return
        known = self._ratios.get((model, endpoint))
        if known is None:
            known = self._ratios[model, endpoint] = TokenRatio(self._priors[model])
        ratio, size = prompt_bytes / prompt_tokens, prompt_bytes.bit_length()
        # A size that was never seen starts at its own first ratio: that of all sizes may be far
        # off, and would take 20 replies to forget.
        of_size = known.by_size.get(size, ratio)
        known.whole += SMOOTHING * (ratio - known.whole)
        known.by_size[size] = of_size + SMOOTHING * (ratio - of_size)

    def state(self) -> list[TokenRatioState]:
        """All ratios as a value that can be sent to another process."""
        return [
            TokenRatioState(model=m, endpoint=e, whole=r.whole, by_size=dict(r.by_size))
            for (m, e), r in self._ratios.items()
        ]

    def restore(self, state: list[TokenRatioState]) -> None:
        """Replace all ratios by those of another process."""
        self._ratios = {(s.model, s.endpoint): TokenRatio(s.whole, dict(s.by_size)) for s in state}

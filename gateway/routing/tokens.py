"""How many tokens a prompt has, from its bytes: learned from what backends report, no tokenizer.

Knows no model's vocabulary. Bytes per token differ by model, endpoint and prompt size (a short
prompt is mostly JSON and chat template), so the ratio is kept per model, endpoint and doubling of
the byte length; each starts at its model's prior.
"""

from typing import Final

from gateway.routing.estimator_schema import TokenRatioState

SMOOTHING: Final = 0.05  # weight of one reply: a ratio settles within about 20 of them


class TokenRatio:
    """Bytes per token of one model on one endpoint. whole: of all prompts. by_size: by the bit
    length of the prompt's byte count."""

    __slots__ = ("by_size", "whole")

    def __init__(self, whole: float, by_size: dict[int, float] | None = None) -> None:
        self.whole = whole
        self.by_size = {} if by_size is None else by_size


class BytesPerToken:
    """Learned bytes per token. Living state: outlives every plan and table."""

    def __init__(self, priors: dict[str, float]) -> None:
        """priors: bytes per token where each model starts."""
        self._ratios: dict[tuple[str, str], TokenRatio] = {}
        self._priors = dict(priors)

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{e} {r.whole:.2f}" for (m, e), r in self._ratios.items())
        return f"<BytesPerToken {known or 'nothing learned'}>"

    def estimate(self, model: str, endpoint: str, prompt_bytes: int) -> int:
        """Tokens of a prompt of so many bytes, at least one."""
        known = self._ratios.get((model, endpoint))
        if known is None:
            ratio = self._priors[model]
        else:
            ratio = known.by_size.get(prompt_bytes.bit_length(), known.whole)
        return round(prompt_bytes / ratio) or 1

    def learn(self, model: str, endpoint: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """Takes in one reply's `usage.prompt_tokens`."""
        if prompt_bytes < 1 or prompt_tokens < 1:
            return
        known = self._ratios.get((model, endpoint))
        if known is None:
            known = self._ratios[model, endpoint] = TokenRatio(self._priors[model])
        seen, size = prompt_bytes / prompt_tokens, prompt_bytes.bit_length()
        of_size = known.by_size.get(size, seen)
        known.whole += SMOOTHING * (seen - known.whole)
        known.by_size[size] = of_size + SMOOTHING * (seen - of_size)

    def state(self) -> list[TokenRatioState]:
        """All that was learned, as a value that can be sent."""
        return [
            TokenRatioState(model=m, endpoint=e, whole=r.whole, by_size=dict(r.by_size))
            for (m, e), r in self._ratios.items()
        ]

    def restore(self, state: list[TokenRatioState]) -> None:
        """Takes over what another process had learned, in place of what is known here."""
        self._ratios = {(s.model, s.endpoint): TokenRatio(s.whole, dict(s.by_size)) for s in state}

"""Estimates the tokens of what is no text in a prompt: pictures, sounds, videos, files.

Each of a kind counts the same, as learned from what backends report beyond the text. What it may
count is bounded, and what is learned here never reaches the text.
"""

from collections.abc import Sequence
from typing import Final

from gateway.routing.estimator_schema import PayloadState
from gateway.routing.prompt_text import AUDIO, FILE, IMAGE, VIDEO

Payload = Sequence[tuple[str, int]]  # kinds and numbers

PRIORS: Final = {IMAGE: 1000.0, AUDIO: 500.0, VIDEO: 4000.0, FILE: 2000.0}
UNKNOWN: Final = 500.0  # of any other kind
LEAST: Final = 1.0
MOST: Final = 32_768.0
SMOOTHING: Final = 0.1  # weight of a reply whose prompt is nothing else
FARTHEST: Final = 2.0  # as in `tokens`


class PayloadTokens:
    """Tokens of one thing of each kind, by model; outlives every plan and table."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{k} {n:.0f}" for m, k, n in self.figures())
        return f"<PayloadTokens {known or 'nothing learned'}>"

    def estimate(self, model: str, payload: Payload) -> int:
        """The tokens of everything in a prompt that is no text."""
        return round(sum([number * self._of(model, kind) for kind, number in payload]))

    def learn(self, model: str, payload: Payload, *, text: int, tokens: int) -> None:
        """Learn from the tokens that a backend reported for a prompt. text: those of its text, as
        estimated, which are the less certain the more they are."""
        expected = sum([number * self._of(model, kind) for kind, number in payload])
        if expected <= 0.0:
            return
        factor = min(max((tokens - text) / expected, 1 / FARTHEST), FARTHEST)
        weight = SMOOTHING * expected / (expected + text)
        for kind, _ in payload:
            before = self._of(model, kind)
            after = before + weight * (factor - 1.0) * before
            self._known[model, kind] = min(max(after, LEAST), MOST)

    def figures(self) -> list[tuple[str, str, float]]:
        """Tokens by model and kind, as learned."""
        return [(m, k, tokens) for (m, k), tokens in self._known.items()]

    def state(self) -> list[PayloadState]:
        """All that was learned, as a value that can be sent to another process."""
        return [PayloadState(model=m, kind=k, tokens=n) for m, k, n in self.figures()]

    def restore(self, state: list[PayloadState]) -> None:
        """Replace all that was learned by that of another process."""
        self._known = {(s.model, s.kind): s.tokens for s in state}

    def _of(self, model: str, kind: str) -> float:
        known = self._known.get((model, kind))
        return PRIORS.get(kind, UNKNOWN) if known is None else known

"""How many tokens a prompt has, from its bytes: learned from what backends report, no tokenizer.

Knows no model's vocabulary. Bytes per token differ by model, route and prompt size (a short prompt
is mostly JSON and chat template), so the ratio is kept per model, route and doubling of the byte
length, each starting at its model's.
"""

SMOOTHING = 0.05  # weight of one reply; a ratio settles within about 20


class Tokens:
    """Learned bytes per token. Living state: outlives every plan and table."""

    def __init__(self, bytes_per_token: dict[str, float]) -> None:
        """bytes_per_token: where each model starts."""
        self._ratio: dict[tuple[str, str], float] = {}
        self._by_size: dict[tuple[str, str, int], float] = {}
        self._prior = dict(bytes_per_token)

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{r} {v:.2f}" for (m, r), v in self._ratio.items())
        return f"<Tokens {known or 'nothing learned'}>"

    def estimate(self, model: str, route: str, prompt_bytes: int) -> int:
        """Tokens of a prompt of so many bytes, at least one."""
        ratio = self._by_size.get((model, route, prompt_bytes.bit_length()))
        if ratio is None:
            ratio = self._ratio.get((model, route), self._prior[model])
        return max(1, round(prompt_bytes / ratio))

    def learn(self, model: str, route: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """Takes in one reply's `usage.prompt_tokens`."""
        if prompt_bytes < 1 or prompt_tokens < 1:
            return
        seen = prompt_bytes / prompt_tokens
        whole = self._ratio.get((model, route), self._prior[model])
        size = (model, route, prompt_bytes.bit_length())
        part = self._by_size.get(size, seen)
        self._ratio[model, route] = whole + SMOOTHING * (seen - whole)
        self._by_size[size] = part + SMOOTHING * (seen - part)

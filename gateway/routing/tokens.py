"""Estimates prompt tokens from what a prompt weighs, without a tokenizer.

How many bytes a token has is learned from the prompt tokens that backends report. It differs by
model and endpoint, and by what callers write: English, code, JSON, Chinese. So there is a line
(`token_fit`) for each model and endpoint, one for each caller there, and one for each doubling of
the prompt's size and kind of script of a caller; each starts at the one before. Knows no
vocabulary.
"""

from collections import OrderedDict
from typing import Final

from gateway.routing.endpoints import ENDPOINTS
from gateway.routing.estimator_schema import TokenFitState
from gateway.routing.token_fit import MOST_PER_BYTE, MOST_PER_UNIT, TokenFit

# Samples that the line before counts as much as, and what old samples weigh: a line settles within
# about 20 replies, and forgets within 50, that of all callers within 100.
PULL: Final = 2.0
CALLER_PULL: Final = 1.0
SIZE_PULL: Final = 4.0
KEEP: Final = 0.99
OWN_KEEP: Final = 0.98
# A reply moves a line as if it was at most so far from it: one that is wrong does little, and a
# hundred that are right do everything.
FARTHEST: Final = 2.0
SURE: Final = 16.0  # what a refusal for length weighs: without it, the next one would follow
LINES: Final = 10_000  # kept of callers, and of their sizes; the least recently learned goes first
LEAST_BYTES_PER_TOKEN: Final = 0.5
MOST_BYTES_PER_TOKEN: Final = 12.0

SizeKey = tuple[str, str, str, int]


class BytesPerToken:
    """The lines of one process; outlives every plan and table."""

    def __init__(self, priors: dict[str, float]) -> None:
        """priors: bytes per token where each model starts."""
        self._routes: dict[tuple[str, str], TokenFit] = {}
        self._callers: OrderedDict[tuple[str, str, str], TokenFit] = OrderedDict()
        self._sizes: OrderedDict[SizeKey, TokenFit] = OrderedDict()
        self._priors: dict[str, float] = {}
        self.add(priors)

    def __repr__(self) -> str:
        known = ", ".join(f"{m}/{e} {r:.2f}" for m, e, r in self.figures())
        return f"<BytesPerToken {known or 'nothing learned'}>"

    def add(self, priors: dict[str, float]) -> None:
        """Add models, and change where the present ones would have started."""
        for model, ratio in priors.items():
            self._priors[model] = min(max(ratio, LEAST_BYTES_PER_TOKEN), MOST_BYTES_PER_TOKEN)

    def estimate(
        self,
        model: str,
        endpoint: str,
        text_bytes: int,
        *,
        caller: str = "",
        units: int = 0,
        wide: bool = False,
    ) -> int:
        """Estimate the tokens of a text; at least 1. units: messages, or prompts of a list. wide:
        whether it is in another script than Latin."""
        # An empty prompt is a token at least: the chat template.
        return int(self._expected(model, endpoint, caller, text_bytes, units, wide) + 0.5) or 1

    def learn(
        self,
        model: str,
        endpoint: str,
        text_bytes: int,
        tokens: int,
        *,
        caller: str = "",
        units: int = 0,
        wide: bool = False,
        weight: float = 1.0,
    ) -> None:
        """Learn from the prompt tokens that a backend reported for a text. weight: of it, beside
        that of a usual reply."""
        if text_bytes < 1 or tokens < 1:
            return
        expected = self._expected(model, endpoint, caller, text_bytes, units, wide)
        seen = min(max(float(tokens), expected / FARTHEST), expected * FARTHEST)
        seen = min(seen, text_bytes * MOST_PER_BYTE + units * MOST_PER_UNIT)
        route = self._routes.get((model, endpoint))
        if route is None:
            route = self._routes[model, endpoint] = self._new(model, endpoint)
        route.add(
            text_bytes,
            units,
            seen,
            per_byte=1 / self._priors[model],
            per_unit=_unit_tokens(endpoint),
            weight=weight,
        )
        key = model, endpoint, caller
        own = self._callers.get(key)
        if own is None:
            own = self._callers[key] = _after(route, CALLER_PULL)
            if len(self._callers) > LINES:
                self._callers.popitem(last=False)
        self._callers.move_to_end(key)
        _follow(own, route, text_bytes, units, seen, weight)
        size_key = model, endpoint, caller, _size(text_bytes, wide)
        of_size = self._sizes.get(size_key)
        if of_size is None:
            of_size = self._sizes[size_key] = _after(own, SIZE_PULL)
            if len(self._sizes) > LINES:
                self._sizes.popitem(last=False)
        self._sizes.move_to_end(size_key)
        _follow(of_size, own, text_bytes, units, seen, weight)

    def figures(self) -> list[tuple[str, str, float]]:
        """Bytes per token by model and endpoint, of all callers, as learned."""
        return [(m, e, 1 / fit.per_byte) for (m, e), fit in self._routes.items()]

    def state(self) -> list[TokenFitState]:
        """All lines as a value that can be sent to another process, in the order of learning."""
        states = [TokenFitState(key=key, sums=fit.sums()) for key, fit in self._routes.items()]
        states += [TokenFitState(key=key, sums=fit.sums()) for key, fit in self._callers.items()]
        states += [TokenFitState(key=key, sums=fit.sums()) for key, fit in self._sizes.items()]
        return states

    def restore(self, state: list[TokenFitState]) -> None:
        """Replace all lines by those of another process."""
        self._routes, self._callers, self._sizes = {}, OrderedDict(), OrderedDict()
        for line in state:
            key = line.key
            model, endpoint = str(key[0]), str(key[1])
            fit = self._new(model, endpoint)
            fit.restore(line.sums)
            if len(key) == 2:
                self._routes[model, endpoint] = fit
                continue
            caller, fit.keep = str(key[2]), OWN_KEEP
            if len(key) == 3:
                fit.pull = CALLER_PULL
                self._callers[model, endpoint, caller] = fit
            else:
                fit.pull = SIZE_PULL
                self._sizes[model, endpoint, caller, int(key[3])] = fit

    def _expected(
        self, model: str, endpoint: str, caller: str, text_bytes: int, units: int, wide: bool
    ) -> float:
        """The tokens of a text, by the line that knows most of its kind."""
        fit = self._sizes.get((model, endpoint, caller, _size(text_bytes, wide)))
        if fit is None:
            fit = self._callers.get((model, endpoint, caller))
        if fit is None:
            fit = self._routes.get((model, endpoint))
        if fit is None:
            return text_bytes / self._priors[model] + units * _unit_tokens(endpoint)
        return fit.tokens(text_bytes, units)

    def _new(self, model: str, endpoint: str) -> TokenFit:
        """The line of all callers of a model on an endpoint."""
        per_byte, per_unit = 1 / self._priors.get(model, 4.0), _unit_tokens(endpoint)
        return TokenFit(per_byte=per_byte, per_unit=per_unit, pull=PULL, keep=KEEP)


def _after(before: TokenFit, pull: float) -> TokenFit:
    """A line that starts at another one."""
    return TokenFit(per_byte=before.per_byte, per_unit=before.per_unit, pull=pull, keep=OWN_KEEP)


def _follow(
    fit: TokenFit, before: TokenFit, text_bytes: int, units: int, tokens: float, weight: float
) -> None:
    """Add a sample to a line that starts at another one."""
    fit.add(
        text_bytes,
        units,
        tokens,
        per_byte=before.per_byte,
        per_unit=before.per_unit,
        weight=weight,
    )


def _size(text_bytes: int, wide: bool) -> int:
    """The doubling of a prompt's size, and its kind of script."""
    return text_bytes.bit_length() * 2 + wide


def _unit_tokens(endpoint: str) -> float:
    known = ENDPOINTS.get(endpoint)
    return 1.0 if known is None else known.unit_tokens

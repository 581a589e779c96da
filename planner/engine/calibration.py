"""The engine model whose constants are fitted to measurements: how long an iteration takes.

Owns the formulas; `fit` finds the constants. Knows no points, SLOs or GPUs.

An iteration in which B sequences of mean context c decode, and n prompt tokens are computed, takes
`a + m·k(B + n) + B·(β + κ·c) + π·n`, and ρ for each squared token of a prompt; besides, each prompt
costs ω once. `k(t) = (1 + (t/b)^p)^(1/p)` is the corner of the roofline: while t is far below the
knee b, reading the weights (m) takes longest, and computing hides behind it; far above, it is
`t/b`. So a prompt that shares its iterations with few sequences costs less than it does alone.
With m = 0 the model is linear in all that it counts. A mixture of experts adds `e·(1 − q^(B + n))`:
reading the experts that at least one of the tokens was routed to (`roofline` has the reasons).
Some engines launch the kernels of a short prompt slower than the GPU runs them: an iteration with
prompts counts at least `floor` tokens. How prompts share iterations is the schedule's (`prefill`).
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from planner.engine.roofline import CORNER, Number
from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the model is not linear in.

    knee (b): tokens of an iteration at which computing takes as long as reading the weights;
    infinite: no corner. idle_share (q): of a mixture's routed experts, that one token passes by.
    floor: the fewest tokens that an iteration with prompts counts.
    """

    knee: float = math.inf
    idle_share: float = 0.0
    floor: float = 0.0

    def corner(self, tokens: Number) -> Number:
        """k(t): the time of the kernels over that of reading the weights."""
        grown: Number = (1 + (tokens / self.knee) ** CORNER) ** (1 / CORNER)
        return grown

    def routed(self, tokens: Number) -> Number:
        """The share of the routed experts that at least one token was routed to."""
        share: Number = 1 - self.idle_share**tokens
        return share


LINE = Curve()
CONSTANTS = (
    "iteration_s", "sequence_s", "context_s", "request_s", "prompt_s", "square_s", "weights_s",
    "experts_s", "first_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The constants of the fitted engine model, in seconds.

    iteration_s (a) per iteration; sequence_s (β) per decoding sequence; context_s (κ) per context
    token read; prompt_s (π) per prompt token; square_s (ρ) per squared prompt token; request_s (ω)
    per request; weights_s (m) and experts_s (e) to read the weights and all routed experts;
    first_s: what a client waits longer for a first token, though the backend does not.
    n: number of measured values behind the fit; error: the median of |fitted/measured − 1| over
    them; largest: the most sequences in flight in any of them, beyond which the model extrapolates.
    """

    iteration_s: float
    sequence_s: float
    context_s: float
    prompt_s: float
    square_s: float
    request_s: float
    weights_s: float = 0.0
    experts_s: float = 0.0
    first_s: float = 0.0
    curve: Curve = LINE
    n: int = 0
    error: float = 0.0
    largest: float = 0.0

    @property
    def constants(self) -> FloatArray:
        """a, β, κ, ω, π, ρ, m, e and the first token's: as in CONSTANTS."""
        return np.array([getattr(self, name) for name in CONSTANTS])

    @property
    def curved(self) -> bool:
        """Whether an iteration's time depends on all its tokens together."""
        return self.weights_s > 0 or self.experts_s > 0

    def tokens_s(self, tokens: Number) -> Number:
        """Seconds of an iteration that depend on all its tokens together."""
        read_s = self.weights_s * self.curve.corner(tokens)
        return read_s + self.experts_s * self.curve.routed(tokens)

    def slowed(self, factor: float) -> "Calibration":
        """The same engine when everything takes `factor` times as long."""
        return replace(
            self, **dict(zip(CONSTANTS, (self.constants * factor).tolist(), strict=True))
        )

    def step_s(
        self,
        tokens: Number,
        sequences: Number,
        context_tokens: Number = 0.0,
        prompt_squares: Number = 0.0,
        *,
        prefill: bool,
    ) -> Number:
        """Seconds of one iteration; arguments as of `Roofline.step_s`."""
        counted = np.maximum(tokens, self.curve.floor) if prefill else tokens
        prompts_s = self.prompt_s * (counted - sequences) + self.square_s * prompt_squares
        decode_s = self.sequence_s * sequences + self.context_s * context_tokens
        return self.iteration_s + self.tokens_s(counted) + decode_s + prompts_s

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        return self.step_s(batch, batch, batch * context, prefill=False)

    def prefill_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds of an iteration that prefills one prompt alone. cached: tokens of it that need
        not be computed (prefix hits), though attention reads them."""
        squares = input_tokens * input_tokens - cached * cached
        step_s = self.step_s(input_tokens - cached, 0.0, 0.0, squares, prefill=True)
        return step_s + self.request_s

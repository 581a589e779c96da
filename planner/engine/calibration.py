"""The engine model whose constants are fitted to measurements: how long an iteration takes.

Owns the formulas; `fit` finds the constants. Knows no points, SLOs or GPUs.

An iteration in which B sequences of mean context c decode, and n prompt tokens are computed, takes
`a + m·k(B + n) + B·(β + κ·c)`, and for each prompt of i tokens that it finishes `ω + π·i + ρ·i²`.
`k(t) = (1 + (t/b)^p)^(1/p)` is the corner of the roofline: while t is far below the knee b, reading
the weights (m) takes longest, and computing hides behind it; far above, it is `t/b`. So a prompt
that shares its iterations with few sequences costs less than it does alone. With m = 0 the model is
linear in all that it counts. A mixture of experts adds `e·(1 − q^(B + n))`: reading the experts
that at least one of the tokens was routed to (`roofline` has the reasons).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.engine.roofline import CORNER, Number
from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the model is not linear in.

    knee (b): tokens of an iteration at which computing takes as long as reading the weights;
    infinite: no corner. idle_share (q): of a mixture's routed experts, that one token passes by.
    """

    knee: float = math.inf
    idle_share: float = 0.0

    def corner(self, tokens: Number) -> Number:
        """k(t): the time of the kernels over that of reading the weights."""
        grown: Number = (1 + (tokens / self.knee) ** CORNER) ** (1 / CORNER)
        return grown

    def routed(self, tokens: Number) -> Number:
        """The share of the routed experts that at least one token was routed to."""
        share: Number = 1 - self.idle_share**tokens
        return share

    def raised(
        self, of: Callable[[Number], Number], inputs: Number, batch: Number, prompts: Number
    ) -> Number:
        """By how much one prompt raises a function of an iteration's tokens: arguments as of
        `Calibration.prefill_share_s`."""
        together = np.maximum(prompts, 1.0)
        more: Number = (of(batch + together * inputs) - of(batch)) / together
        return more


LINE = Curve()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The constants of the fitted engine model, in seconds.

    iteration_s (a) per iteration; sequence_s (β) per decoding sequence; context_s (κ) per context
    token read; prompt_s (π) per prompt token; square_s (ρ) per squared prompt token; request_s (ω)
    per request; weights_s (m) and experts_s (e) to read the weights and all routed experts.
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
    curve: Curve = LINE
    n: int = 0
    error: float = 0.0
    largest: float = 0.0

    @property
    def constants(self) -> FloatArray:
        """a, β, κ, ω, π, ρ, m, e: the order of the regression's columns."""
        return np.array(
            [self.iteration_s, self.sequence_s, self.context_s,
             self.request_s, self.prompt_s, self.square_s, self.weights_s, self.experts_s]
        )  # fmt: skip

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
        a, beta, kappa, omega, pi, rho, weights, experts = (self.constants * factor).tolist()
        return replace(
            self, iteration_s=a, sequence_s=beta, context_s=kappa, request_s=omega, prompt_s=pi,
            square_s=rho, weights_s=weights, experts_s=experts,
        )  # fmt: skip

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        fixed_s = self.iteration_s + self.tokens_s(batch)
        return fixed_s + batch * (self.sequence_s + self.context_s * context)

    def prefill_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds of an iteration that prefills one prompt alone. cached: tokens of it that need
        not be computed (prefix hits), though attention reads them."""
        return self.iteration_s + self.tokens_s(0.0) + self.prefill_share_s(input_tokens, cached)

    def prefill_share_s(
        self,
        input_tokens: Number,
        cached: Number = 0.0,
        *,
        batch: Number = 0.0,
        prompts: Number = 0.0,
    ) -> Number:
        """Seconds that one prompt adds to iterations in which `batch` sequences decode.

        cached: as in `prefill_s`. prompts: how many of them start in an iteration, on average;
        where it is more than one, they share it.
        """
        tokens, squares = input_tokens - cached, input_tokens**2 - cached**2
        own_s = self.request_s + self.prompt_s * tokens + self.square_s * squares
        return own_s + self.curve.raised(self.tokens_s, tokens, batch, prompts)

    def added_s(
        self,
        batch: Number,
        inputs: Number,
        outputs: Number,
        budget: int,
        cached: Number = 0.0,
    ) -> Number:
        """Seconds that each prompt adds to the answers beside it, with `batch` requests in flight.
        cached: as in `prefill_s`. budget: of an iteration's tokens; only `Roofline` minds it."""
        prompts = others(batch, outputs)
        return self.prefill_share_s(inputs, cached, batch=batch, prompts=prompts)

    def tpot_s(self, batch: Number, inputs: Number, outputs: Number) -> Number:
        """Seconds per output token with `batch` requests of one size in flight. A request waits for
        the prompts of the others, and not for its own."""
        decode_s = self.decode_s(batch, inputs + outputs / 2)
        added_s = self.added_s(batch, inputs, outputs, 0)
        return decode_s + others(batch, outputs) * added_s


def others(batch: Number, outputs: Number) -> Number:
    """Prompts of other requests that start in an iteration, on average: `(B − 1)/o`."""
    count: Number = np.maximum(batch - 1, 0.0) / outputs
    return count

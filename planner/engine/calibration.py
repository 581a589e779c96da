"""The engine model whose constants are fitted to measurements: how long an iteration takes.

Owns the formulas; `fit` finds the constants. Knows no points, SLOs or GPUs.

An iteration in which B sequences of mean context c decode, and n prompt tokens are computed, takes
`a + m·k(B + n) + B·(β + κ·c)`, and for each prompt of i tokens that it finishes `ω + π·i + ρ·i²`.
`k(t) = (1 + (t/b)^p)^(1/p)` is the corner of the roofline: while t is far below the knee b, reading
the weights (m) takes longest, and computing hides behind it; far above, it is `t/b`. So a prompt
that shares its iterations with few sequences costs less than it does alone. With m = 0 the model is
linear in all that it counts.
"""

import math
from dataclasses import dataclass

import numpy as np

from planner.engine.roofline import CORNER, Number
from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The constants of the fitted engine model, in seconds.

    iteration_s (a) per iteration; sequence_s (β) per decoding sequence; context_s (κ) per context
    token read; prompt_s (π) per prompt token; square_s (ρ) per squared prompt token; request_s (ω)
    per request; weights_s (m) to read the weights, and knee (b) the tokens of an iteration at which
    computing takes as long. n: number of measured values behind the fit; error: the median of
    |fitted/measured − 1| over them; largest: the most sequences in flight in any of them, beyond
    which the model extrapolates.
    """

    iteration_s: float
    sequence_s: float
    context_s: float
    prompt_s: float
    square_s: float
    request_s: float
    weights_s: float = 0.0
    knee: float = math.inf
    n: int = 0
    error: float = 0.0
    largest: float = 0.0

    @property
    def constants(self) -> FloatArray:
        """a, β, κ, ω, π, ρ, m: the order of the columns of `decode_terms` and `prompt_terms`."""
        return np.array(
            [self.iteration_s, self.sequence_s, self.context_s,
             self.request_s, self.prompt_s, self.square_s, self.weights_s]
        )  # fmt: skip

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        fixed_s = self.iteration_s + self.weights_s * corner(batch, self.knee)
        return fixed_s + batch * (self.sequence_s + self.context_s * context)

    def prefill_s(self, input_tokens: Number) -> Number:
        """Seconds of an iteration that prefills one prompt alone."""
        return self.iteration_s + self.weights_s + self.prefill_share_s(input_tokens)

    def prefill_share_s(
        self, input_tokens: Number, batch: Number = 0.0, prompts: Number = 0.0
    ) -> Number:
        """Seconds that one prompt adds to iterations in which `batch` sequences decode.

        prompts: how many of them start in an iteration, on average; where it is more than one, they
        share it.
        """
        own_s = self.request_s + self.prompt_s * input_tokens + self.square_s * input_tokens**2
        return own_s + self.weights_s * hidden(input_tokens, batch, prompts, self.knee)

    def tpot_s(self, batch: Number, inputs: Number, outputs: Number) -> Number:
        """Seconds per output token with `batch` requests of one size in flight. A request waits for
        the prompts of the others, and not for its own."""
        prompts = others(batch, outputs)
        decode_s = self.decode_s(batch, inputs + outputs / 2)
        return decode_s + prompts * self.prefill_share_s(inputs, batch, prompts)


def corner(tokens: Number, knee: float) -> Number:
    """k(t): the time of the kernels over that of reading the weights."""
    grown: Number = (1 + (tokens / knee) ** CORNER) ** (1 / CORNER)
    return grown


def hidden(inputs: Number, batch: Number, prompts: Number, knee: float) -> Number:
    """By how much one prompt raises k, per prompt: arguments as of `prefill_share_s`."""
    together = np.maximum(prompts, 1.0)
    raised: Number = corner(batch + together * inputs, knee) - corner(batch, knee)
    return raised / together


def others(batch: Number, outputs: Number) -> Number:
    """Prompts of other requests that start in an iteration, on average: `(B − 1)/o`."""
    count: Number = np.maximum(batch - 1, 0.0) / outputs
    return count

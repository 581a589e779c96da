"""How long one backend's iterations take, in scalars: `Roofline.step_s`, and sums of it.

Owns the arithmetic that `batching` does per iteration; knows nothing of which sequences a batch
holds.
"""

import math

from planner.engine.calibration import Calibration
from planner.engine.profiles import Profile
from planner.engine.roofline import CORNER, Roofline


class IterationTime:
    """`Roofline.step_s` for plain floats: the same figures without NumPy's cost per call."""

    def __init__(self, roofline: Roofline) -> None:
        engine, layers = roofline.engine, roofline.model.layers
        self._roofline = roofline
        self._memory = roofline.memory_s**CORNER
        self._fixed_s = roofline.comm_fixed_s + layers * roofline.layer_s
        self._prefill_floor_s = layers * engine.prefill_floor_s
        self.decode_floor_s = layers * engine.decode_floor_s
        self.context_s: float = roofline.kv_token_s
        self.request_s: float = engine.request_s

    def kernels_s(self, tokens: int, sequences: int) -> float:
        """Seconds of the kernels that depend on neither context nor floor."""
        roofline = self._roofline
        flop = roofline.block_flop * tokens + roofline.head_flop * max(sequences, 1)
        linear_s = (self._memory + (flop / roofline.flops) ** CORNER) ** (1 / CORNER)
        return float(linear_s + self._fixed_s + roofline.comm_token_s * tokens)

    def host_s(self, sequences: int) -> float:
        """Seconds of host work that an iteration adds to its kernels."""
        engine = self._roofline.engine
        return engine.iteration_s + engine.sequence_s * sequences

    def mixed_s(self, tokens: int, sequences: int, context: int, squares: int) -> float:
        """Seconds of an iteration with prompt tokens in it; arguments as in `Roofline.step_s`."""
        kernels_s = self.kernels_s(tokens, sequences) + self.context_s * context
        kernels_s += self._roofline.attention_s * squares
        return max(kernels_s, self._prefill_floor_s) + self.host_s(sequences)


class MoeIterationTime(IterationTime):
    """`IterationTime` of a mixture of experts: the weights that it reads depend on the tokens.

    A class of its own, so that the inner loop of a dense model has no branch for it.
    """

    def kernels_s(self, tokens: int, sequences: int) -> float:
        """Seconds of the kernels that depend on neither context nor floor."""
        roofline = self._roofline
        memory_s = roofline.memory_s + roofline.experts_s * (1 - roofline.idle_share**tokens)
        flop = roofline.block_flop * tokens + roofline.head_flop * max(sequences, 1)
        linear_s = (memory_s**CORNER + (flop / roofline.flops) ** CORNER) ** (1 / CORNER)
        return float(linear_s + self._fixed_s + roofline.comm_token_s * tokens)


class FittedIterationTime:
    """Iteration times of a measured profile, by the model fitted to its points."""

    decode_floor_s = 0.0

    def __init__(self, fitted: Calibration) -> None:
        self._fitted = fitted
        self.context_s = fitted.context_s
        self.request_s = fitted.request_s

    def kernels_s(self, tokens: int, sequences: int) -> float:
        """Seconds that depend on neither context nor squared prompts."""
        fitted = self._fitted
        fixed_s = fitted.iteration_s + (float(fitted.tokens_s(tokens)) if fitted.curved else 0.0)
        prompts_s = fitted.prompt_s * (tokens - sequences)
        return fixed_s + fitted.sequence_s * sequences + prompts_s

    def host_s(self, sequences: int) -> float:
        """Zero: measured times contain the host's work."""
        return 0.0

    def mixed_s(self, tokens: int, sequences: int, context: int, squares: int) -> float:
        """Seconds of an iteration with prompt tokens in it; arguments as in `Roofline.step_s`."""
        kernels_s = self.kernels_s(tokens, sequences) + self.context_s * context
        return kernels_s + self._fitted.square_s * squares


def analytic_time(roofline: Roofline) -> IterationTime:
    """Iteration times of an analytic backend, dense or a mixture of experts."""
    return MoeIterationTime(roofline) if roofline.experts_s else IterationTime(roofline)


def iteration_time(profile: Profile) -> IterationTime | FittedIterationTime:
    """Iteration times of a backend: measured ones where the profile has points, else analytic."""
    times = profile.times
    return FittedIterationTime(times) if isinstance(times, Calibration) else analytic_time(times)


class DecodeRun:
    """`length` iterations from start_s on; iteration j lasts `max(first_s + rise_s·j, floor_s)`."""

    __slots__ = ("_flat", "_high_s", "_rise_s", "_start_s", "floor_s", "length")

    def __init__(
        self, start_s: float, first_s: float, rise_s: float, floor_s: float, length: int
    ) -> None:
        self._start_s = start_s
        self._rise_s = rise_s
        self.floor_s = floor_s
        self.length = length
        # The leading iterations at the floor: all, none, or up to where the rise crosses it.
        if first_s >= floor_s:
            self._flat = 0
        elif first_s + rise_s * (length - 1) <= floor_s:
            self._flat = length
        else:
            self._flat = math.ceil((floor_s - first_s) / rise_s)
        self._high_s = first_s + rise_s * self._flat

    def end_s(self, count: int) -> float:
        """When the first `count` iterations have ended."""
        if count <= self._flat:
            return self._start_s + count * self.floor_s
        rest = count - self._flat
        risen_s = rest * self._high_s + self._rise_s * (rest * (rest - 1) / 2)
        return self._start_s + self._flat * self.floor_s + risen_s

    def ended(self, now_s: float) -> int:
        """How many iterations have ended at now_s: the root of a quadratic, rounding corrected."""
        if self.end_s(self.length) <= now_s:
            return self.length
        rest_s = now_s - self._start_s - self._flat * self.floor_s
        if rest_s < 0:
            count = int((now_s - self._start_s) / self.floor_s)
        else:
            half = self._high_s - self._rise_s / 2
            count = self._flat + int(
                2 * rest_s / (half + math.sqrt(half * half + 2 * self._rise_s * rest_s))
            )
        count = min(max(count, 0), self.length)
        while count and self.end_s(count) > now_s:
            count -= 1
        while count < self.length and self.end_s(count + 1) <= now_s:
            count += 1
        return count

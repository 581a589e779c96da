"""How long one backend's iterations take, in scalars: `Roofline.step_s`, and sums of it.

Owns the arithmetic that `batching` does per iteration; knows nothing of which sequences a batch
holds.
"""

import math

from planner.engine.calibration import Calibration
from planner.engine.profiles import Profile
from planner.engine.roofline import CORNER, Roofline


class IterationTime:
    """`Roofline.step_s` for plain floats: the same figures without NumPy's cost per call.

    context_s: seconds for each token of KV that is read. request_s: per prompt.
    """

    def __init__(self, roofline: Roofline) -> None:
        # Copies: a Roofline is not compiled, and compiled code pays for each of its attributes.
        engine, layers = roofline.engine, roofline.model.layers
        self._memory = roofline.memory_s**CORNER
        self._block_flop, self._head_flop = roofline.block_flop, roofline.head_flop
        self._flops = roofline.flops
        self._fixed_s = roofline.comm_fixed_s + layers * roofline.layer_s
        self._comm_token_s = roofline.comm_token_s
        self._attention_s = roofline.attention_s
        self._iteration_s, self._sequence_s = engine.iteration_s, engine.sequence_s
        self._prefill_floor_s = layers * engine.prefill_floor_s
        self._decode_floor_s = layers * engine.decode_floor_s
        self._known: dict[int, tuple[float, float, float]] = {}
        self.context_s: float = roofline.kv_token_s
        self.request_s: float = engine.request_s

    def kernels_s(self, tokens: int, sequences: int) -> float:
        """Seconds of the kernels that depend on neither context nor floor."""
        flop = self._block_flop * tokens + self._head_flop * (sequences if sequences > 1 else 1)
        linear_s: float = (self._memory + (flop / self._flops) ** CORNER) ** (1 / CORNER)
        return linear_s + self._fixed_s + self._comm_token_s * tokens

    def decode_s(self, batch: int) -> tuple[float, float, float]:
        """Of an iteration in which `batch` sequences decode: seconds of kernels without KV, of host
        work, and the least of both together. Computed once."""
        known = self._known.get(batch)
        if known is None:
            host_s = self.host_s(batch)
            known = self.kernels_s(batch, batch), host_s, self._decode_floor_s + host_s
            self._known[batch] = known
        return known

    def host_s(self, sequences: int) -> float:
        """Seconds of host work that an iteration adds to its kernels."""
        return self._iteration_s + self._sequence_s * sequences

    def mixed_s(self, tokens: int, sequences: int, context: int, squares: int) -> float:
        """Seconds of an iteration with prompt tokens in it; arguments as in `Roofline.step_s`."""
        kernels_s = self.kernels_s(tokens, sequences) + self.context_s * context
        kernels_s += self._attention_s * squares
        floor_s = self._prefill_floor_s
        host_s = self._iteration_s + self._sequence_s * sequences
        return (kernels_s if kernels_s > floor_s else floor_s) + host_s


class MoeIterationTime(IterationTime):
    """`IterationTime` of a mixture of experts: the weights that it reads depend on the tokens.

    A class of its own, so that the inner loop of a dense model has no branch for it.
    """

    def __init__(self, roofline: Roofline) -> None:
        super().__init__(roofline)
        self._memory_s, self._experts_s = roofline.memory_s, roofline.experts_s
        self._idle_share = roofline.idle_share

    def kernels_s(self, tokens: int, sequences: int) -> float:
        """Seconds of the kernels that depend on neither context nor floor."""
        memory_s = self._memory_s + self._experts_s * (1 - self._idle_share**tokens)
        flop = self._block_flop * tokens + self._head_flop * (sequences if sequences > 1 else 1)
        linear_s: float = (memory_s**CORNER + (flop / self._flops) ** CORNER) ** (1 / CORNER)
        return linear_s + self._fixed_s + self._comm_token_s * tokens


class FittedIterationTime:
    """Iteration times of a measured profile, by the model fitted to its points."""

    def __init__(self, fitted: Calibration) -> None:
        self._fitted, self._curved = fitted, fitted.curved
        self._iteration_s, self._sequence_s = fitted.iteration_s, fitted.sequence_s
        self._prompt_s, self._square_s = fitted.prompt_s, fitted.square_s
        self._floor: float = fitted.curve.floor
        self.context_s: float = fitted.context_s
        self.request_s: float = fitted.request_s

    def kernels_s(self, tokens: float, sequences: int) -> float:
        """Seconds that depend on neither context nor squared prompts."""
        fixed_s = self._iteration_s
        if self._curved:
            fixed_s += float(self._fitted.tokens_s(tokens))
        prompts_s = self._prompt_s * (tokens - sequences)
        return fixed_s + self._sequence_s * sequences + prompts_s

    def decode_s(self, batch: int) -> tuple[float, float, float]:
        """As `IterationTime.decode_s`."""
        return self.kernels_s(float(batch), batch), 0.0, 0.0

    def mixed_s(self, tokens: int, sequences: int, context: int, squares: int) -> float:
        """Seconds of an iteration with prompt tokens in it; arguments as in `Roofline.step_s`."""
        counted = tokens if tokens > self._floor else self._floor
        kernels_s = self.kernels_s(float(counted), sequences) + self.context_s * context
        return kernels_s + self._square_s * squares


def analytic_time(roofline: Roofline) -> IterationTime:
    """Iteration times of an analytic backend, dense or a mixture of experts."""
    return MoeIterationTime(roofline) if roofline.experts_s else IterationTime(roofline)


def iteration_time(profile: Profile) -> IterationTime | FittedIterationTime:
    """Iteration times of a backend: measured ones where the profile has points, else analytic."""
    times = profile.times
    return FittedIterationTime(times) if isinstance(times, Calibration) else analytic_time(times)


class DecodeRun:
    """`length` iterations from start_s on; iteration j lasts `max(first_s + rise_s·j, floor_s)`.

    last_s: when the last one ends.
    """

    __slots__ = ("_flat", "_floor_s", "_high_s", "_rise_s", "last_s", "length", "start_s")

    def __init__(
        self, start_s: float, first_s: float, rise_s: float, floor_s: float, length: int
    ) -> None:
        self.start_s = start_s
        self._rise_s = rise_s
        self._floor_s = floor_s
        self.length = length
        # The leading iterations at the floor: all, none, or up to where the rise crosses it.
        if first_s >= floor_s:
            self._flat = 0
        elif first_s + rise_s * (length - 1) <= floor_s:
            self._flat = length
        else:
            self._flat = math.ceil((floor_s - first_s) / rise_s)
        self._high_s = first_s + rise_s * self._flat
        if length == 1:
            self.last_s = start_s + (first_s if first_s > floor_s else floor_s)
        else:
            self.last_s = self.end_s(length)

    def cut(self, length: int) -> None:
        """End after the first `length` iterations."""
        self.length = length
        self.last_s = self.end_s(length)

    def end_s(self, count: int) -> float:
        """When the first `count` iterations have ended."""
        if count <= self._flat:
            return self.start_s + count * self._floor_s if count else self.start_s
        rest = count - self._flat
        risen_s = rest * self._high_s + self._rise_s * (rest * (rest - 1) / 2)
        return self.start_s + self._flat * self._floor_s + risen_s

    def ended(self, now_s: float) -> int:
        """How many iterations have ended at now_s: the root of a quadratic, rounding corrected."""
        if self.last_s <= now_s:
            return self.length
        rest_s = now_s - self.start_s - self._flat * self._floor_s
        if rest_s < 0:
            count = int((now_s - self.start_s) / self._floor_s)
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

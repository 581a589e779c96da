"""Measured points as rows of a regression: what each constant of the engine model counts in them.

`calibration` has the model, `prefill` how prompts share iterations; `fit` finds the constants.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.engine.calibration import CONSTANTS, LINE, Calibration, Curve
from planner.engine.points import Point
from planner.engine.prefill import Even, Iterations, Mix, PromptSchedule, added, decode_s, shared
from planner.engine.roofline import Number
from planner.sizes import FloatArray

ALONE = 2.0  # requests in flight; with fewer, TTFT contains no other prompt and no queue
TTFT_WEIGHT = 0.2  # of a TPOT: a TTFT contains the way to the client
LINEAR = 6  # constants of the model without a corner
EVEN = Even()


class Features:
    """`Calibration`'s model before its constants are known: what each of them counts, for the
    formulas of `prefill`. All answers have one row per constant."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve

    def step_s(
        self,
        tokens: Number,
        sequences: Number,
        context_tokens: Number = 0.0,
        prompt_squares: Number = 0.0,
        *,
        prefill: bool,
    ) -> FloatArray:
        """What one iteration counts; arguments as of `Roofline.step_s`."""
        counted = np.maximum(tokens, self._curve.floor) if prefill else tokens
        found = np.zeros((len(CONSTANTS), *np.broadcast(counted, sequences).shape))
        found[0], found[1], found[2] = 1.0, sequences, context_tokens
        found[4], found[5] = counted - sequences, prompt_squares
        found[6], found[7] = self._curve.corner(counted), self._curve.routed(counted)
        return found

    def prefill_s(self, inputs: FloatArray, count: Number = 1.0, parts: Number = 1.0) -> FloatArray:
        """What `count` prompts count that are prefilled together, in `parts` iterations."""
        tokens, squares = count * inputs / parts, count * inputs**2 / parts
        steps = parts * self.step_s(tokens, 0.0, 0.0, squares, prefill=True)
        return np.asarray(steps + count * self.request_s)

    @property
    def request_s(self) -> FloatArray:
        """What each request counts once."""
        return np.eye(len(CONSTANTS))[:, 3:4]


class Rows(NamedTuple):
    """The regression: matrix (N, 9), the measured seconds (N,), and how much each counts (N,)."""

    matrix: FloatArray
    values: FloatArray
    weights: FloatArray

    @property
    def linear(self) -> FloatArray:
        """The columns of the model without a corner."""
        return self.matrix[:, :LINEAR]


class Regression:
    """The points of one engine, as columns: `rows` for any curve.

    prompts: the engine's schedule and budget. guess: what a fit before said, by which prompts come
    together, and requests in flight follow from TPOT; `None`: all iterations take the same time.
    """

    def __init__(
        self, points: Sequence[Point], prompts: PromptSchedule, guess: Calibration | None = None
    ) -> None:
        self._prompts = prompts
        known = [point for point in points if point.in_flight is not None]
        paced = [p for p in known if p.tpot_s is not None and p.output_tokens >= 2]
        begun = [
            p for p in known if p.ttft_s is not None and (p.rate is None or _in_flight(p) < ALONE)
        ]
        inputs, outputs, batch, rate = _columns(paced)
        mix = Mix(batch=batch, inputs=inputs, outputs=outputs)
        if guess is not None:
            # A request is there while its own prompt is prefilled, too, which its TPOT lacks.
            prompt = added(guess, prompts, mix)
            stated = np.array([p.batch is not None for p in paced], dtype=bool)
            batch = batch + np.where(stated, 0.0, rate * prompt.together * prompt.seconds)
            mix = Mix(batch=batch, inputs=inputs, outputs=outputs)
        by: Iterations = EVEN if guess is None else guess
        self._mix, self._steady = mix, rate > 0
        self._sharing = shared(by, prompts, mix)
        self._inputs, _, self._together, rate = _columns(begun)
        self._together = np.where(rate > 0, 1.0, self._together)
        self.largest = max((_in_flight(point) for point in points), default=0.0)
        times = [p.tpot_s for p in paced] + [p.ttft_s for p in begun]
        self.values = np.array(times, dtype=float)
        alone = np.where(rate > 0, TTFT_WEIGHT, 1.0)
        self._weights = np.concatenate([np.ones(len(paced)), alone])

    def rows(self, curve: Curve = LINE, *, weighted: bool = False) -> Rows:
        """The rows for one curve. weighted: a TTFT counts less than a TPOT."""
        features, mix = Features(curve), self._mix
        prompt = added(features, self._prompts, mix, sharing=self._sharing)
        delaying = self._steady * np.maximum(mix.batch - prompt.together, 0.0)
        tpots = decode_s(features, mix.batch, mix.inputs + mix.outputs / 2)
        tpots = tpots + delaying / mix.outputs * prompt.seconds
        parts = np.maximum(np.ceil(self._together * self._inputs / self._prompts.budget), 1.0)
        ttfts = features.prefill_s(self._inputs, self._together, parts)
        ttfts[CONSTANTS.index("first_s")] = 1.0
        weights = self._weights if weighted else np.ones_like(self.values)
        return Rows(np.hstack([tpots, ttfts]).T, self.values, weights)


def _in_flight(point: Point) -> float:
    return point.in_flight or 0.0


def _columns(points: Sequence[Point]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Inputs, outputs, requests in flight and requests/s; 0/s where all prompts came at once."""
    rows = [(p.input_tokens, p.output_tokens, _in_flight(p), p.rate or 0.0) for p in points]
    inputs, outputs, batch, rate = np.array(rows, dtype=float).reshape(-1, 4).T
    return inputs, outputs, batch, rate

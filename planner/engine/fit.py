"""Measured points of one backend, and the linear engine model fitted to them.

Owns points at several loads, grids of best rates, and the fit. Knows engines through `Roofline`,
the prior; nothing of profile files, SLO classes or demand.

The model: an iteration with B sequences of mean context c takes `a + B·(β + κ·c)`, a prompt of i
tokens adds `ω + π·i + ρ·i²`. It is linear in its constants, so a ridge regression fits them: TPOT
on (1, B, B·c) and the prompts in between, TTFT on (1, i, i²). Enough points need no prior.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from planner.engine.roofline import Number, Roofline
from planner.errors import InvalidValue
from planner.files import outside, refuse
from planner.sizes import FloatArray

RIDGE = 0.01  # (5 % noise of a point / 50 % doubt about a constant)²
ENOUGH = 200  # values; with fewer, no constant moves by more than a factor of 2 from its prior
ALONE = 2.0  # requests in flight; with fewer, TTFT contains no other prompt and no queue
# Without a prior the six constants must follow from the points: two values for each of them, and
# columns of the regression that differ enough. Measured on simulated engines with 5 % noise: three
# sizes a factor of 4 apart with three loads each (12 values, smallest over largest singular value
# 0.17) gave TPOT within 3 % at the median and 10 % at most between the points; three sizes within
# 10 % of each other have 0.001 and missed a prefill by a factor of 3, two sizes have 0.
LEAST = 12
SPREAD = 0.02
SWEEPS = 500  # of coordinate descent over six constants; it stops earlier when nothing moves
# The grid on which the prior follows the roofline: what fits into memory of it.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (64, 256, 1024, 4096)
PROMPTS = (32, 128, 512, 1024, 2048, 4096, 8192)
# Bounds that a time in milliseconds, as most tools print it, does not keep: 2 s per token is half a
# word per second.
Tokens = Annotated[float, Meta(gt=0, le=1e8, description="in tokens, above 0")]
Load = Annotated[float, Meta(gt=0, le=1e6, description="above 0, at most a million")]
Tpot = Annotated[float, Meta(gt=0, le=2, description="in seconds, above 0 and at most 2")]
Ttft = Annotated[float, Meta(gt=0, le=600, description="in seconds, above 0 and at most 600")]


class Point(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One steady load on one backend, requests of one (mean) size.

    The load is `rate`, requests/s completed, or `batch`, sequences decoding at once. With a rate,
    prompts are prefilled between the decode steps and TPOT contains that. With a batch alone, all
    its prompts went in together at the start: TPOT is decode only, TTFT the prefill of them all.
    """

    input_tokens: Tokens
    output_tokens: Tokens
    batch: Load | None = None
    rate: Load | None = None
    tpot_s: Tpot | None = None
    ttft_s: Ttft | None = None

    @property
    def in_flight(self) -> float | None:
        """Sequences decoding at once: as stated, or by Little's law; `None` where unknown."""
        if self.batch is not None or self.rate is None or self.tpot_s is None:
            return self.batch
        return self.rate * self.output_tokens * self.tpot_s


def checked(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, each of them usable. Raises InvalidValue, a line for each point and its key."""
    refuse(unusable(points))
    return tuple(points)


def unusable(points: Sequence[Point]) -> list[str]:
    """A line for each fault of the points, with the point and its key; none: they can be used."""
    problems = [] if points else ["points: at least one is needed"]
    seen: dict[tuple[float | None, ...], int] = {}
    for number, point in enumerate(points):
        where = f"points[{number}]"
        problems += [f"{where}.{line}" for line in outside(point)]
        if point.batch is None and point.rate is None:
            problems.append(f"{where}: a hole: its load is missing, give rate or batch")
        if point.tpot_s is None and point.ttft_s is None:
            problems.append(f"{where}: a hole: give tpot_s, ttft_s or both")
        key = (point.input_tokens, point.output_tokens, point.batch, point.rate)
        if key in seen:
            problems.append(f"{where}: the same size and load as points[{seen[key]}]")
        seen.setdefault(key, number)
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The constants of the linear engine model, in seconds.

    iteration_s (a) per iteration; sequence_s (β) per decoding sequence; context_s (κ) per context
    token read; prompt_s (π) per prompt token; square_s (ρ) per squared prompt token; request_s (ω)
    per request. n: number of measured values behind the fit; error: the median of
    |fitted/measured − 1| over them; largest: the most sequences in flight in any of them, beyond
    which the model extrapolates.
    """

    iteration_s: float
    sequence_s: float
    context_s: float
    prompt_s: float
    square_s: float
    request_s: float
    n: int = 0
    error: float = 0.0
    largest: float = 0.0

    @property
    def constants(self) -> FloatArray:
        """a, β, κ, ω, π, ρ: the order of the regression's columns."""
        return np.array(
            [self.iteration_s, self.sequence_s, self.context_s,
             self.request_s, self.prompt_s, self.square_s]
        )  # fmt: skip

    def slowed(self, factor: float) -> "Calibration":
        """The same engine when everything takes `factor` times as long."""
        a, beta, kappa, omega, pi, rho = (self.constants * factor).tolist()
        return replace(
            self, iteration_s=a, sequence_s=beta, context_s=kappa,
            request_s=omega, prompt_s=pi, square_s=rho,
        )  # fmt: skip

    def decode_s(self, batch: Number, context: Number) -> Number:
        """Seconds of an iteration in which `batch` sequences of mean `context` decode."""
        return self.iteration_s + batch * (self.sequence_s + self.context_s * context)

    def prefill_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds of an iteration that prefills one prompt alone. cached: tokens of it that need
        not be computed (prefix hits), though attention reads them."""
        return self.iteration_s + self.prefill_share_s(input_tokens, cached)

    def prefill_share_s(self, input_tokens: Number, cached: Number = 0.0) -> Number:
        """Seconds that one prompt adds to the iterations that it shares with other sequences.
        cached: as in `prefill_s`."""
        tokens, squares = input_tokens - cached, input_tokens**2 - cached**2
        return self.request_s + self.prompt_s * tokens + self.square_s * squares

    def added_s(
        self,
        batch: Number,
        inputs: Number,
        outputs: Number,
        budget: int,
        cached: Number = 0.0,
    ) -> Number:
        """Seconds that each prompt adds to the answers beside it: the same at every load. cached:
        of the inputs, those that are not computed, though attention reads them."""
        tokens, squares = inputs - cached, inputs**2 - cached**2
        return self.request_s + self.prompt_s * tokens + self.square_s * squares


def prior(roofline: Roofline) -> Calibration:
    """The linear model nearest to the roofline, over batches, contexts and prompts that fit."""
    rows: list[tuple[float, ...]] = []
    times: list[Number] = []
    for batch in BATCHES:
        for context in CONTEXTS:
            if batch == 1 or batch * context <= roofline.kv_capacity:
                rows.append((1.0, batch, batch * context, 0, 0, 0))
                times.append(roofline.decode_s(float(batch), float(context)))
    for tokens in PROMPTS:
        rows.append((0, 0, 0, 1.0, tokens, tokens**2))
        times.append(roofline.prefill_share_s(float(tokens)))
    matrix, values = np.array(rows, dtype=float), np.array(times, dtype=float)
    return _calibration(_bounded(matrix / values[:, None], np.zeros(6), np.full(6, np.inf)))


def fit(points: Sequence[Point], roofline: Roofline) -> Calibration:
    """The linear model fitted to measured points, with the roofline's model as ridge prior.

    First the prior is scaled, its decode and its prefill constants each by the median ratio of
    measured to predicted times; then every constant moves as far as the points support it, within a
    factor of 2 unless there are at least 200 values. Raises InvalidValue without any value to fit.
    """
    matrix, values = _rows(points)
    if not len(values):
        raise InvalidValue("points: none has a TPOT, or a TTFT without a queue: nothing to fit")
    start = _scaled(prior(roofline).constants, matrix, values)
    # Columns in units of the prior: every constant is 1 a priori, every residual relative.
    relative = matrix * start / values[:, None]
    bound = 2.0 if len(values) < ENOUGH else math.inf
    moved = _bounded(relative, np.full(6, 1 / bound), np.full(6, bound), ridge=RIDGE)
    return _judged(start * moved, points)


def shortage(points: Sequence[Point]) -> str | None:
    """What points lack for a fit without a prior; `None`: nothing."""
    matrix, values = _rows(points)
    if len(values) < LEAST:
        return (
            f"points with at least {LEAST} values to fit, two per constant: there are {len(values)}"
        )
    relative = matrix / values[:, None]
    length = np.sqrt((relative**2).sum(axis=0))
    singular = np.linalg.svd(relative / np.where(length == 0, 1.0, length), compute_uv=False)
    if singular[-1] < SPREAD * singular[0]:
        return (
            "points that differ more: several loads at three prompt sizes or more, each size with "
            "a ttft_s at fewer than two requests in flight"
        )
    return None


def fit_alone(points: Sequence[Point]) -> Calibration:
    """The linear model that follows from points without a `shortage`: least relative squares.

    No constant is less than 0. Raises InvalidValue for points with a shortage.
    """
    lack = shortage(points)
    if lack is not None:
        raise InvalidValue(f"points: too few without a prior: it takes {lack}")
    matrix, values = _rows(points)
    constants = _bounded(matrix / values[:, None], np.zeros(6), np.full(6, np.inf))
    return _judged(constants, points)


def _judged(constants: FloatArray, points: Sequence[Point]) -> Calibration:
    """The constants as a calibration, with its distance from the points."""
    matrix, values = _rows(points)
    off = np.abs(matrix @ constants / values - 1)
    largest = max(point.in_flight or 0.0 for point in points)
    fitted = _calibration(constants)
    return replace(fitted, n=len(values), error=float(np.median(off)), largest=largest)


def _rows(points: Sequence[Point]) -> tuple[FloatArray, FloatArray]:
    """The regression's rows (N, 6) and the measured seconds (N,)."""
    rows: list[tuple[float, ...]] = []
    values: list[float] = []
    for point in points:
        inputs, outputs, batch = point.input_tokens, point.output_tokens, point.in_flight
        prompt = (1.0, inputs, inputs**2)
        if point.tpot_s is not None and batch is not None and outputs >= 2:
            share = 0.0 if point.rate is None else batch / outputs
            context = inputs + outputs / 2
            rows.append((1.0, batch, batch * context, *(share * part for part in prompt)))
            values.append(point.tpot_s)
        if point.ttft_s is not None and batch is not None:
            count = batch if point.rate is None else 1.0
            if point.rate is None or batch < ALONE:
                rows.append((1.0, 0.0, 0.0, *(count * part for part in prompt)))
                values.append(point.ttft_s)
    return np.array(rows, dtype=float).reshape(-1, 6), np.array(values)


def _scaled(start: FloatArray, matrix: FloatArray, values: FloatArray) -> FloatArray:
    """The prior, decode and prefill constants each brought to the level of the measurements."""
    ratio, decode = values / (matrix @ start), matrix[:, 1] > 0
    both = float(np.median(ratio))
    scale = [float(np.median(ratio[some])) if some.any() else both for some in (decode, ~decode)]
    return np.asarray(start * np.repeat(scale, 3))


def _bounded(
    matrix: FloatArray, low: FloatArray, high: FloatArray, *, ridge: float = 0.0
) -> FloatArray:
    """argmin `|M·x − 1|² + ridge·|x − 1|²` with low ≤ x ≤ high, by coordinate descent.

    Columns are scaled to length one first; without a ridge the start is the bound `low`.
    """
    length = np.sqrt((matrix**2).sum(axis=0) + ridge)
    length[length == 0] = 1.0
    gram = (matrix.T @ matrix + ridge * np.eye(len(low))) / np.outer(length, length)
    target = (matrix.sum(axis=0) + ridge) / length
    lower, upper = low * length, high * length
    x = np.clip(np.linalg.lstsq(gram, target, rcond=None)[0], lower, upper)
    for _ in range(SWEEPS):
        before = x.copy()
        for k in range(len(x)):
            if gram[k, k] > 0:
                free = x[k] + (target[k] - gram[k] @ x) / gram[k, k]
                x[k] = min(max(free, lower[k]), upper[k])
        if np.max(np.abs(x - before)) < 1e-12:
            break
    return np.asarray(x / length)


def _calibration(constants: FloatArray) -> Calibration:
    a, beta, kappa, omega, pi, rho = (float(value) for value in constants)
    return Calibration(
        iteration_s=a, sequence_s=beta, context_s=kappa,
        request_s=omega, prompt_s=pi, square_s=rho,
    )  # fmt: skip


class Rates(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The best rate by size, as another planner found it under an SLO that stays baked in.

    input_to, output_to: upper edges of the cells. rate: requests/s, a row per input cell, a column
    per output cell; 0 where that SLO could not be held.
    """

    input_to: tuple[int, ...]
    output_to: tuple[int, ...]
    rate: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name, edges in (("input_to", self.input_to), ("output_to", self.output_to)):
            if not edges or edges[0] < 1 or any(a >= b for a, b in pairwise(edges)):
                raise ValueError(f"{name}: must be ascending counts: {list(edges)}")
        if len(self.rate) != len(self.input_to):
            raise ValueError(f"rate: {len(self.rate)} rows for {len(self.input_to)} input_to")
        for i, row in enumerate(self.rate):
            if len(row) != len(self.output_to):
                count = f"{len(row)} values for {len(self.output_to)} output_to"
                raise ValueError(f"rate[{i}]: a hole: {count}")
            for o, value in enumerate(row):
                if not 0 <= value < math.inf:
                    raise ValueError(f"rate[{i}][{o}]: must be finite and not negative: {value}")
        if not any(any(row) for row in self.rate):
            raise ValueError("rate: all are zero")

    def of(self, inputs: FloatArray, outputs: FloatArray) -> FloatArray:
        """The rate of each size: that of the cell it falls into; 0 beyond the last edges."""
        row = np.searchsorted(self.input_to, inputs)
        column = np.searchsorted(self.output_to, outputs)
        padded = np.pad(np.array(self.rate, dtype=float), ((0, 1), (0, 1)))
        return np.asarray(padded[row, column])

"""Measured points of one backend, and the engine model fitted to them.

Owns points at several loads, and the fit. Knows engines through `Roofline`, the prior; nothing of
profile files, SLO classes or demand.

The model of `calibration` is linear in its constants, so a regression on relative errors fits them:
TPOT on (1, B, B·c) and the prompts in between, TTFT on (1, i, i²). With few points the roofline is
the ridge prior, enough points need none, and with many the corner is fitted too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from planner.engine.calibration import LINE, Calibration, Curve, others
from planner.engine.least_squares import bounded
from planner.engine.roofline import Number, Roofline
from planner.errors import InvalidValue
from planner.files import outside, refuse
from planner.sizes import FloatArray

RIDGE = 0.01  # (5 % noise of a point / 50 % doubt about a constant)²
MOST = 2.0  # the factor by which a constant may move from its prior
ALONE = 2.0  # requests in flight; with fewer, TTFT contains no other prompt and no queue
# Without a prior the six constants must follow from the points: two values for each of them, and
# columns of the regression that differ enough. Measured on simulated engines with 5 % noise: three
# sizes a factor of 4 apart with three loads each (12 values, smallest over largest singular value
# 0.17) gave TPOT within 3 % at the median and 10 % at most between the points; three sizes within
# 10 % of each other have 0.001 and missed a prefill by a factor of 3, two sizes have 0.
LEAST = 12
SPREAD = 0.02
# With so many values, three per constant, the corner is fitted too, and a TTFT counts for less than
# a TPOT: it contains the way to the client. Where `cuvee profile measure` was tried on emulated
# engines of dense models (docs/profiles.md), n* of other sizes was off by 3 to 23 % at most without
# the corner, and by 1 to 4 % with it.
CURVED = 24
TTFT_WEIGHT = 0.2
KNEES = tuple(float(2**k) for k in range(3, 12))
LINEAR = 6  # constants of the model without a corner
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
    return _calibration(bounded(matrix / values[:, None], np.zeros(6), np.full(6, np.inf)))


def fit(points: Sequence[Point], roofline: Roofline) -> Calibration:
    """The engine model fitted to measured points, with the roofline's model as ridge prior.

    First the prior is scaled, its decode and its prefill constants each by the median ratio of
    measured to predicted times; then every constant moves as far as the points support it, within a
    factor of 2. CURVED values that have no `shortage` are fitted as by `fit_alone`: the prior would
    only keep them from an engine of another kind. Raises InvalidValue without any value to fit.
    """
    rows = _rows(points)
    if not len(rows.values):
        raise InvalidValue("points: none has a TPOT, or a TTFT without a queue: nothing to fit")
    if len(rows.values) >= CURVED and shortage(points) is None:
        return fit_alone(points, idle_share=roofline.idle_share)
    start = _scaled(prior(roofline).constants[:LINEAR], rows.linear, rows.values)
    # Columns in units of the prior: every constant is 1 a priori, every residual relative.
    relative = rows.linear * start / rows.values[:, None]
    moved = bounded(relative, np.full(LINEAR, 1 / MOST), np.full(LINEAR, MOST), ridge=RIDGE)
    return _judged(_calibration(start * moved), rows, points)


def shortage(points: Sequence[Point]) -> str | None:
    """What points lack for a fit without a prior; `None`: nothing."""
    rows = _rows(points)
    if len(rows.values) < LEAST:
        count = len(rows.values)
        return f"points with at least {LEAST} values to fit, two per constant: there are {count}"
    relative = rows.linear / rows.values[:, None]
    length = np.sqrt((relative**2).sum(axis=0))
    singular = np.linalg.svd(relative / np.where(length == 0, 1.0, length), compute_uv=False)
    if singular[-1] < SPREAD * singular[0]:
        return (
            "points that differ more: several loads at three prompt sizes or more, each size with "
            "a ttft_s at fewer than two requests in flight"
        )
    return None


def fit_alone(points: Sequence[Point], *, idle_share: float = 0.0) -> Calibration:
    """The engine model that follows from points without a `shortage`: least relative squares.

    idle_share: of a mixture's routed experts, that one token passes by; 0: dense, or unknown. No
    constant is less than 0. Raises InvalidValue for points with a shortage.
    """
    lack = shortage(points)
    if lack is not None:
        raise InvalidValue(f"points: too few without a prior: it takes {lack}")
    if len(_rows(points).values) < CURVED:
        return _free(points, LINE)[1]

    def nearest(knees: Iterable[float]) -> tuple[float, Calibration]:
        curves = (Curve(knee=knee, idle_share=idle_share) for knee in knees)
        return min((_free(points, curve) for curve in curves), key=itemgetter(0))

    line, octave = _free(points, LINE), nearest(KNEES)
    finer = nearest(octave[1].curve.knee * 2 ** (step / 4) for step in range(-3, 4))
    return min(line, finer, key=itemgetter(0))[1]


def _free(points: Sequence[Point], curve: Curve) -> tuple[float, Calibration]:
    """The constants nearest to the points for one curve, and their distance."""
    rows = _rows(points, curve)
    size = LINEAR if curve == LINE else LINEAR + 1 + (curve.idle_share > 0)
    relative = rows.matrix[:, :size] * (rows.weights / rows.values)[:, None]
    constants = bounded(relative, np.zeros(size), np.full(size, np.inf), target=rows.weights)
    distance = float(((relative @ constants - rows.weights) ** 2).sum())
    return distance, _judged(_calibration(constants, curve), rows, points)


def _judged(fitted: Calibration, rows: "_Rows", points: Sequence[Point]) -> Calibration:
    """A calibration with its distance from the points."""
    off = np.abs(rows.matrix @ fitted.constants / rows.values - 1)
    largest = max(point.in_flight or 0.0 for point in points)
    return replace(fitted, n=len(off), error=float(np.median(off)), largest=largest)


class _Rows(NamedTuple):
    """The regression: matrix (N, 8), the measured seconds (N,), and how much each counts (N,)."""

    matrix: FloatArray
    values: FloatArray
    weights: FloatArray

    @property
    def linear(self) -> FloatArray:
        """The columns of the model without a corner."""
        return self.matrix[:, :LINEAR]


def _rows(points: Sequence[Point], curve: Curve = LINE) -> _Rows:
    """The regression's rows; with less than CURVED values all count alike."""
    rows: list[tuple[Number, ...]] = []
    values: list[float] = []
    weights: list[float] = []
    for point in points:
        inputs, outputs, batch = point.input_tokens, point.output_tokens, point.in_flight
        if batch is None:
            continue
        if point.tpot_s is not None and outputs >= 2:
            prompts = 0.0 if point.rate is None else others(batch, outputs)
            share = (prompts, prompts * inputs, prompts * inputs**2)
            curved = (
                of(batch) + prompts * curve.raised(of, inputs, batch, prompts)
                for of in (curve.corner, curve.routed)
            )
            rows.append((1.0, batch, batch * (inputs + outputs / 2), *share, *curved))
            values.append(point.tpot_s)
            weights.append(1.0)
        if point.ttft_s is not None and (point.rate is None or batch < ALONE):
            count = batch if point.rate is None else 1.0
            tokens = count * inputs
            curved = (of(tokens) for of in (curve.corner, curve.routed))
            rows.append((1.0, 0.0, 0.0, count, tokens, tokens * inputs, *curved))
            values.append(point.ttft_s)
            weights.append(1.0 if point.rate is None else TTFT_WEIGHT)
    counts = np.array(weights) if len(values) >= CURVED else np.ones(len(values))
    matrix = np.array(rows, dtype=float).reshape(-1, LINEAR + 2)
    return _Rows(matrix, np.array(values), counts)


def _scaled(start: FloatArray, matrix: FloatArray, values: FloatArray) -> FloatArray:
    """The prior, decode and prefill constants each brought to the level of the measurements."""
    ratio, decode = values / (matrix @ start), matrix[:, 1] > 0
    both = float(np.median(ratio))
    scale = [float(np.median(ratio[some])) if some.any() else both for some in (decode, ~decode)]
    return np.asarray(start * np.repeat(scale, 3))


def _calibration(constants: FloatArray, curve: Curve = LINE) -> Calibration:
    size = LINEAR + 2  # fewer constants: those of the curve are 0
    a, beta, kappa, omega, pi, rho, m, e = np.pad(constants, (0, size - len(constants))).tolist()
    return Calibration(
        iteration_s=a, sequence_s=beta, context_s=kappa, request_s=omega, prompt_s=pi,
        square_s=rho, weights_s=m, experts_s=e, curve=curve,
    )  # fmt: skip

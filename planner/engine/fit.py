"""The engine model that is nearest to measured points.

Knows engines through `Roofline`, the prior; nothing of profile files, SLO classes or demand.

The model of `calibration` is linear in its constants once its curve is known, so a regression on
relative errors fits them, for several curves. With few points the roofline is the ridge prior,
enough points need none, and with many the curve is fitted too.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from planner.engine.calibration import CONSTANTS, LINE, Calibration, Curve
from planner.engine.least_squares import bounded
from planner.engine.points import Point
from planner.engine.prefill import UNLIMITED, PromptSchedule, decode_s
from planner.engine.regression import LINEAR, Features, Regression, Rows
from planner.engine.roofline import Roofline
from planner.errors import InvalidValue
from planner.sizes import FloatArray

RIDGE = 0.01  # (5 % noise of a point / 50 % doubt about a constant)²
MOST = 2.0  # the factor by which a constant may move from its prior
# Without a prior the six constants must follow from the points: two values for each of them, and
# columns of the regression that differ enough. Measured on simulated engines with 5 % noise: three
# sizes a factor of 4 apart with three loads each (12 values, smallest over largest singular value
# 0.17) gave TPOT within 3 % at the median and 10 % at most between the points; three sizes within
# 10 % of each other have 0.001 and missed a prefill by a factor of 3, two sizes have 0.
LEAST = 12
SPREAD = 0.02
# With so many values the curve is fitted too. Where `cuvee profile measure` was tried on emulated
# engines (docs/profiles.md), n* of other sizes was off by 3 to 23 % at most without it.
CURVED = 24
KNEES = (8.0, 32.0, 128.0, 512.0, 2048.0, math.inf)
FLOORS = (0.0, 128.0, 512.0, 2048.0)
FINER = 2**0.25  # between two steps around the best of these
PASSES = 2  # with what the fit before says of how prompts come together
# The grid on which the prior follows the roofline: what fits into memory of it.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (64, 256, 1024, 4096)
PROMPTS = (32, 128, 512, 1024, 2048, 4096, 8192)


def prior(roofline: Roofline) -> Calibration:
    """The linear model nearest to the roofline, over batches, contexts and prompts that fit."""
    batches, contexts = (np.ravel(axis) for axis in np.meshgrid(BATCHES, CONTEXTS))
    fits = (batches == 1) | (batches * contexts <= roofline.kv_capacity)
    batches, contexts = batches[fits].astype(float), contexts[fits].astype(float)
    prompts = np.array(PROMPTS, dtype=float)
    linear = Features(LINE)
    rows = np.hstack([decode_s(linear, batches, contexts), linear.prefill_s(prompts)])[:LINEAR].T
    alone_s = roofline.prefill_s(prompts) + roofline.request_s
    values = np.concatenate([np.asarray(roofline.decode_s(batches, contexts)), alone_s])
    return _calibration(bounded(rows / values[:, None], np.zeros(6), np.full(6, np.inf)))


def fit(
    points: Sequence[Point], roofline: Roofline, prompts: PromptSchedule = UNLIMITED
) -> Calibration:
    """The engine model fitted to measured points, with the roofline's model as ridge prior.

    prompts: the engine's schedule and budget. First the prior is scaled, its decode and its prefill
    constants each by the median ratio of measured to predicted times; then every constant moves as
    far as the points support it, within a factor of 2. CURVED values that have no `shortage` are
    fitted as by `fit_alone`: the prior would only keep them from an engine of another kind. Raises
    InvalidValue without any value to fit.
    """
    regression = Regression(points, prompts)
    if not len(regression.values):
        raise InvalidValue("points: none has a TPOT, or a TTFT without a queue: nothing to fit")
    if len(regression.values) >= CURVED and shortage(points) is None:
        return fit_alone(points, prompts, idle_share=roofline.idle_share)
    start = prior(roofline).constants[:LINEAR]
    best = _moved(regression, start)
    for _ in range(PASSES):
        best = _moved(Regression(points, prompts, best), start)
    return best


def _moved(regression: Regression, start: FloatArray) -> Calibration:
    """The prior's constants, scaled and moved towards the points."""
    rows = regression.rows()
    start = _scaled(start, rows.linear, rows.values)
    # Columns in units of the prior: every constant is 1 a priori, every residual relative.
    relative = rows.linear * start / rows.values[:, None]
    moved = bounded(relative, np.full(LINEAR, 1 / MOST), np.full(LINEAR, MOST), ridge=RIDGE)
    return _judged(_calibration(start * moved), rows, regression.largest)


def shortage(points: Sequence[Point]) -> str | None:
    """What points lack for a fit without a prior; `None`: nothing."""
    rows = Regression(points, UNLIMITED).rows()
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


def fit_alone(
    points: Sequence[Point], prompts: PromptSchedule = UNLIMITED, *, idle_share: float = 0.0
) -> Calibration:
    """The engine model that follows from points without a `shortage`: least relative squares.

    prompts: the engine's schedule and budget. idle_share: of a mixture's routed experts, that one
    token passes by; 0: dense, or unknown. No constant is less than 0. Raises InvalidValue for
    points with a shortage.
    """
    lack = shortage(points)
    if lack is not None:
        raise InvalidValue(f"points: too few without a prior: it takes {lack}")
    regression = Regression(points, prompts)
    curved = len(regression.values) >= CURVED
    grid = [Curve(knee=k, floor=f, idle_share=idle_share) for k in KNEES for f in FLOORS]
    best = _nearest(regression, (LINE, *grid) if curved else (LINE,))
    for number in range(PASSES + 1):
        if number:
            regression = Regression(points, prompts, best)
        if curved:
            best = _finer(regression, best, reach=1 if number else 4)
        else:
            best = _constants(regression, LINE)[1]
    return best


def _finer(regression: Regression, best: Calibration, reach: int) -> Calibration:
    """The nearest calibration, of curves up to `reach` steps from that of another one."""
    for name in ("knee", "floor", "knee"):
        at = best.curve
        steps = (FINER**k for k in range(-reach, reach + 1))
        # Once each: 0 and infinity stay what they are.
        around = dict.fromkeys(replace(at, **{name: getattr(at, name) * step}) for step in steps)
        best = _nearest(regression, around)
    return best


def _nearest(regression: Regression, curves: Iterable[Curve]) -> Calibration:
    return min((_constants(regression, curve) for curve in curves), key=itemgetter(0))[1]


def _constants(regression: Regression, curve: Curve) -> tuple[float, Calibration]:
    """The constants nearest to the points for one curve, and their distance."""
    rows = regression.rows(curve, weighted=len(regression.values) >= CURVED)
    free = np.ones(len(CONSTANTS), dtype=bool)
    if curve == LINE:
        free[LINEAR:] = False
    free[6], free[7] = math.isfinite(curve.knee), curve.idle_share > 0
    relative = rows.matrix[:, free] * (rows.weights / rows.values)[:, None]
    constants, size = np.zeros(len(CONSTANTS)), int(free.sum())
    constants[free] = bounded(relative, np.zeros(size), np.full(size, np.inf), target=rows.weights)
    distance = float(((relative @ constants[free] - rows.weights) ** 2).sum())
    return distance, _judged(_calibration(constants, curve), rows, regression.largest)


def _judged(fitted: Calibration, rows: Rows, largest: float) -> Calibration:
    """A calibration with its distance from the points."""
    off = np.abs(rows.matrix @ fitted.constants / rows.values - 1)
    return replace(fitted, n=len(off), error=float(np.median(off)), largest=largest)


def _scaled(start: FloatArray, matrix: FloatArray, values: FloatArray) -> FloatArray:
    """The prior, decode and prefill constants each brought to the level of the measurements."""
    ratio, decode = values / (matrix @ start), matrix[:, 1] > 0
    both = float(np.median(ratio))
    scale = [float(np.median(ratio[some])) if some.any() else both for some in (decode, ~decode)]
    return np.asarray(start * np.repeat(scale, 3))


def _calibration(constants: FloatArray, curve: Curve = LINE) -> Calibration:
    known = dict(zip(CONSTANTS, np.asarray(constants).tolist(), strict=False))
    return Calibration(curve=curve, **known)

"""Arrival processes and the traces made with them. Chance is an argument: a NumPy generator.

Owns when requests come and which sizes come with them; knows nothing of pools, SLOs or engines.
"""

from math import floor, inf

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray, IntArray
from planner.traffic.trace import Trace

STEPS = 288  # pieces of a daily curve: five minutes each


def poisson(rate: float, count: int, rng: np.random.Generator) -> FloatArray:
    """(count,) arrival times in seconds of a Poisson process of `rate` requests/s."""
    return gamma(rate, 1.0, count, rng)


def gamma(rate: float, cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """(count,) arrival times with Gamma gaps of mean 1/rate and coefficient of variation `cv`.

    Shape 1/cv²: 1 is Poisson, 0 a clock. The first gap is a whole one.
    """
    return np.cumsum(_gaps(cv, count, rng)) / _positive("rate", rate)


def modulated(
    rates: FloatArray, period_s: float, count: int, rng: np.random.Generator, *, cv: float = 1.0
) -> FloatArray:
    """(count,) arrival times at a rate that is constant by pieces and repeats every period.

    rates: (K,) requests/s, in K equal pieces of the period. Gaps are Gamma of `cv` in operational
    time, the integral of the rate (its inverse maps a unit process to the modulated one), so cv 1
    is an inhomogeneous Poisson process.
    """
    rates = np.asarray(rates, dtype=float)
    if rates.ndim != 1 or not len(rates) or not np.all(np.isfinite(rates)) or np.any(rates < 0):
        raise InvalidValue(f"rates must be finite and not negative: {rates}")
    piece_s = _positive("period_s", period_s) / len(rates)
    # Pieces without arrivals take no operational time: a step of the inverse, taken at its end.
    busy = np.flatnonzero(rates > 0)
    ends = np.cumsum(rates[busy]) * piece_s
    if not len(busy):
        raise InvalidValue("rates must not all be zero")
    cycles, rest = np.divmod(np.cumsum(_gaps(cv, count, rng)), ends[-1])
    piece = np.minimum(np.searchsorted(ends, rest, side="right"), len(busy) - 1)
    into_s = (rest - (ends[piece] - rates[busy][piece] * piece_s)) / rates[busy][piece]
    return np.asarray(cycles * period_s + busy[piece] * piece_s + into_s)


def daily(mean: float, swing: float, *, peak: float = 0.5) -> FloatArray:
    """(STEPS,) a sinusoidal day for `modulated`: mean·(1 + swing·cos), highest at `peak` of it."""
    if not 0 <= swing <= 1:
        raise InvalidValue(f"swing must be from 0 to 1: {swing}")
    middle = (np.arange(STEPS) + 0.5) / STEPS
    return np.asarray(_positive("mean", mean) * (1 + swing * np.cos(2 * np.pi * (middle - peak))))


def resample(trace: Trace, arrival_s: FloatArray, rng: np.random.Generator) -> Trace:
    """The given arrivals with sizes and keys of the trace, row by row, with replacement.

    Sizes alone come as a trace whose arrival times nobody reads.
    """
    if not len(trace):
        raise InvalidValue("no requests to draw sizes from")
    return trace.take(rng.integers(len(trace), size=len(arrival_s)), arrival_s)


def superpose(trace: Trace, copies: int, rng: np.random.Generator) -> Trace:
    """That many copies at once, each shifted in a circle by a random time.

    The rate is `copies` times the trace's, and bursts keep their length in seconds: what stretching
    the time axis would not do.
    """
    if copies < 1:
        raise InvalidValue(f"copies must be at least 1: {copies}")
    return at_rate(trace, copies * _rate(trace), rng)


def at_rate(trace: Trace, rate: float, rng: np.random.Generator) -> Trace:
    """Superposed shifted copies of a trace, the last one thinned, so that `rate` is met on average.

    rate: requests/s, above or below the trace's own. The result lasts as long as the trace.
    """
    share = _positive("rate", rate) / _rate(trace)
    whole = floor(share + 1e-9)
    copies = [_shifted(trace, np.arange(len(trace)), rng) for _ in range(whole)]
    if share - whole > 1e-9:
        kept = np.flatnonzero(rng.random(len(trace)) < share - whole)
        copies.append(_shifted(trace, kept, rng))
    row = np.concatenate([rows for rows, _ in copies])
    arrival_s = np.concatenate([times_s for _, times_s in copies])
    order = np.argsort(arrival_s, kind="stable")
    return trace.take(row[order], arrival_s[order])


def _shifted(trace: Trace, rows: IntArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    shift_s = rng.random() * trace.duration_s
    return rows, (trace.arrival_s[rows] + shift_s) % trace.duration_s


def _rate(trace: Trace) -> float:
    if trace.rate is None:
        raise InvalidValue("the rate of a trace without duration is unknown")
    return trace.rate


def _gaps(cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """(count,) gaps of mean 1."""
    if not 0 <= cv < inf:
        raise InvalidValue(f"cv must be finite and not negative: {cv}")
    if count < 0:
        raise InvalidValue(f"count must not be negative: {count}")
    return np.ones(count) if cv == 0 else rng.gamma(1 / cv**2, cv**2, count)


def _positive(name: str, value: float) -> float:
    if not 0 < value < inf:
        raise InvalidValue(f"{name} must be positive and finite: {value}")
    return value

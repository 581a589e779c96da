"""Arrival processes, and traces made with them. Chance is an argument: a NumPy generator.

Owns the times at which requests arrive and the sizes drawn for them. Must not know pools, SLOs or
engines.
"""

from math import ceil, floor, inf

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray, IntArray
from planner.traffic.trace import Trace

# Requests of one drawn trace: a few GiB. More than these come of a file whose times are wrong.
MOST_DRAWN = 3 * 10**7
STEPS = 288  # pieces of a daily curve: five minutes each, little beside the swing of a day


def gamma(rate: float, cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """(count,) arrival times with Gamma gaps of mean 1/rate and coefficient of variation `cv`.

    The shape is 1/cv²: a cv of 1 is a Poisson process, 0 a clock. The first arrival comes a whole
    gap after 0. Gamma gaps fit arrivals of real LLM services better than exponential ones
    (ServeGen, arXiv 2505.09999).
    """
    return np.cumsum(_gaps(cv, count, rng)) / _positive("rate", rate)


def modulated(
    rates: FloatArray, period_s: float, count: int, rng: np.random.Generator, *, cv: float = 1.0
) -> FloatArray:
    """(count,) arrival times at a rate that is constant by pieces and repeats every period.

    rates: (K,) requests/s in K equal pieces of the period. Gaps are Gamma of `cv` in operational
    time, the integral of the rate; the inverse of that integral maps a process of unit rate to the
    modulated one. So a cv of 1 gives an inhomogeneous Poisson process.
    """
    rates = np.asarray(rates, dtype=float)
    if rates.ndim != 1 or not len(rates) or not np.all(np.isfinite(rates)) or np.any(rates < 0):
        raise InvalidValue(f"rates must be finite and not negative: {rates}")
    piece_s = _positive("period_s", period_s) / len(rates)
    # Pieces of rate 0 take no operational time. There the inverse jumps; it is taken after the
    # jump, so no arrival falls into such a piece.
    busy = np.flatnonzero(rates > 0)
    ends = np.cumsum(rates[busy]) * piece_s
    if not len(busy):
        raise InvalidValue("rates must not all be zero")
    cycles, rest = np.divmod(np.cumsum(_gaps(cv, count, rng)), ends[-1])
    # Rounding can leave a rest that equals the last end.
    piece = np.minimum(np.searchsorted(ends, rest, side="right"), len(busy) - 1)
    into_s = (rest - (ends[piece] - rates[busy][piece] * piece_s)) / rates[busy][piece]
    return np.asarray(cycles * period_s + busy[piece] * piece_s + into_s)


def daily(mean: float, swing: float, *, peak: float = 0.5) -> FloatArray:
    """(STEPS,) the rates of a sinusoidal day, for `modulated`: mean·(1 + swing·cos).

    peak: the part of the day at which the rate is highest.
    """
    if not 0 <= swing <= 1:
        raise InvalidValue(f"swing must be from 0 to 1: {swing}")
    middle = (np.arange(STEPS) + 0.5) / STEPS
    return np.asarray(_positive("mean", mean) * (1 + swing * np.cos(2 * np.pi * (middle - peak))))


def resample(trace: Trace, arrival_s: FloatArray, rng: np.random.Generator) -> Trace:
    """The given arrivals, each with size and key of a row drawn from the trace with replacement.

    Rows are drawn whole, because input and output lengths depend on each other. The trace's own
    arrival times are not used.
    """
    if not len(trace):
        raise InvalidValue("no requests to draw sizes from")
    return trace.take(rng.integers(len(trace), size=len(arrival_s)), arrival_s)


def at_rate(
    trace: Trace, rate: float, rng: np.random.Generator, *, stratum: tuple[int, int] | None = None
) -> Trace:
    """Shifted copies of a trace at once, the last copy thinned: `rate` requests/s on average.

    Each copy is shifted in a circle by a random time, and the result lasts as long as the trace. So
    bursts keep their length in seconds, which they would not if the time axis were stretched.
    stratum: the number of this draw, and of how many. Each copy then begins in a part of the trace
    in which it begins in no other of these draws (a Latin hypercube), so that together they begin
    in all parts alike; without it anywhere.
    """
    share = _positive("rate", rate) / _rate(trace)
    _check_count(rate * trace.duration_s, f"{rate:g} requests/s for {trace.duration_s:g} s")
    whole = floor(share + 1e-9)  # a multiple of the trace's rate needs no thinned copy
    kept = [np.arange(len(trace))] * whole
    if share - whole > 1e-9:
        kept.append(np.flatnonzero(rng.random(len(trace)) < share - whole))
    copies = [_shifted(trace, rows, _start(copy, rng, stratum)) for copy, rows in enumerate(kept)]
    row = np.concatenate([rows for rows, _ in copies])
    arrival_s = np.concatenate([times_s for _, times_s in copies])
    order = np.argsort(arrival_s, kind="stable")  # stable: the same seed gives the same trace
    return trace.take(row[order], arrival_s[order])


def window(
    trace: Trace,
    rate: float,
    length_s: float,
    rng: np.random.Generator,
    *,
    stratum: tuple[int, int] | None = None,
) -> Trace:
    """The first length_s seconds of `at_rate`, which begins anew where the trace is shorter."""
    drawn = at_rate(trace, rate, rng, stratum=stratum)
    rounds = ceil(length_s / trace.duration_s)
    _check_count(rounds * (len(drawn) + 1), f"{length_s:g} s of a trace of {trace.duration_s:g} s")
    if rounds > 1:
        rows = np.tile(np.arange(len(drawn)), rounds)
        later_s = np.repeat(np.arange(rounds) * trace.duration_s, len(drawn))
        drawn = drawn.take(rows, drawn.arrival_s[rows] + later_s)
    return drawn.slice(0.0, length_s)


def _start(copy: int, rng: np.random.Generator, stratum: tuple[int, int] | None) -> float:
    """Where in the trace a copy begins, as a share of its length."""
    if stratum is None:
        return float(rng.random())
    number, of = stratum
    part = int(np.random.default_rng(copy).permutation(of)[number])
    return (part + float(rng.random())) / of


def _shifted(trace: Trace, rows: IntArray, start: float) -> tuple[IntArray, FloatArray]:
    return rows, (trace.arrival_s[rows] - start * trace.duration_s) % trace.duration_s


def _rate(trace: Trace) -> float:
    if trace.rate is None:
        raise InvalidValue("the rate of a trace without duration is unknown")
    return trace.rate


def _check_count(count: float, what: str) -> None:
    """Refuse to draw more requests than fit into memory."""
    if count > MOST_DRAWN:
        raise InvalidValue(f"{what} are {count:.3g} requests, more than {MOST_DRAWN:.0e}")


def _gaps(cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """(count,) Gamma gaps of mean 1."""
    if not 0 <= cv < inf:
        raise InvalidValue(f"cv must be finite and not negative: {cv}")
    if count < 0:
        raise InvalidValue(f"count must not be negative: {count}")
    return np.ones(count) if cv == 0 else rng.gamma(1 / cv**2, cv**2, count)


def _positive(name: str, value: float) -> float:
    if not 0 < value < inf:
        raise InvalidValue(f"{name} must be positive and finite: {value}")
    return value

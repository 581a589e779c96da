"""Arrivals made to order: rates, burstiness, time scales, and the same seed twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InvalidValue
from planner.traffic import arrivals
from planner.traffic.trace import Trace, dispersion

COUNT = 40_000


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def make_trace(arrival_s):
    """Every request has a size and a key of its own."""
    count = len(arrival_s)
    return Trace(
        arrival_s=np.asarray(arrival_s, dtype=float),
        input_tokens=np.arange(count, dtype=float) + 1.0,
        output_tokens=np.arange(count, dtype=float) * 2 + 1.0,
        key=tuple(f"k{n}" for n in range(count)),
    )


def bursts(rng, every_s=100.0, lasts_s=5.0, count=40, size=60):
    """A trace of short bursts with silence between them."""
    starts = np.repeat(np.arange(count) * every_s, size)
    return make_trace(np.sort(starts + rng.random(count * size) * lasts_s))


def test_poisson_has_its_rate_and_no_memory(rng):
    """Gamma gaps of CV 1: mean gap 1/rate, dispersion of counts 1."""
    arrival_s = arrivals.gamma(8.0, 1.0, COUNT, rng)

    gaps = np.diff(arrival_s)
    assert 1 / gaps.mean() == pytest.approx(8.0, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert dispersion(arrival_s, 10.0, arrival_s[-1]) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("cv", [0.0, 0.5, 2.0, 4.0])
def test_gamma_has_its_rate_and_cv(cv, rng):
    """Mean gap 1/rate and the coefficient of variation asked for; 0 is a clock."""
    gaps = np.diff(arrivals.gamma(20.0, cv, COUNT, rng))

    assert 1 / gaps.mean() == pytest.approx(20.0, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05, abs=1e-9)


def test_modulated_follows_its_pieces(rng):
    """Each piece of the period gets its own rate, and one of rate 0 gets nothing."""
    arrival_s = arrivals.modulated(np.array([4.0, 0.0, 12.0, 0.0]), 400.0, COUNT, rng)

    cycles = int(arrival_s[-1] // 400.0)
    whole = arrival_s[arrival_s < cycles * 400.0]
    counts = np.bincount((whole % 400.0 // 100.0).astype(int), minlength=4)
    assert counts[[1, 3]].tolist() == [0, 0]
    assert counts[[0, 2]] / (cycles * 100.0) == pytest.approx([4.0, 12.0], rel=0.05)
    assert (np.diff(arrival_s) >= 0).all()


def test_a_constant_rate_is_not_modulated():
    """A flat curve is the plain process, draw by draw."""
    flat = arrivals.modulated(np.full(7, 3.0), 70.0, 500, np.random.default_rng(1), cv=2.0)

    assert flat == pytest.approx(arrivals.gamma(3.0, 2.0, 500, np.random.default_rng(1)))


def test_a_day_peaks_where_it_should(rng):
    """The sinusoid's mean, its height, and the hour of its peak."""
    curve = arrivals.daily(10.0, 0.6, peak=0.75)

    assert curve.mean() == pytest.approx(10.0)
    assert curve.max() == pytest.approx(16.0, rel=1e-3)
    assert curve.min() == pytest.approx(4.0, rel=1e-2)
    assert (curve.argmax() + 0.5) / len(curve) == pytest.approx(0.75, abs=0.01)
    times = arrivals.modulated(curve, 400.0, COUNT, rng) % 400.0
    early, late = (times < 200.0).mean(), (times >= 200.0).mean()
    # Half a day around the peak: (1 + 2·0.6/π)/2 of all requests.
    assert (early, late) == pytest.approx((0.309, 0.691), abs=0.02)


def test_resampled_rows_stay_whole(rng):
    """New arrivals, and each with the input, output and key of one request of the trace."""
    trace = make_trace(np.arange(50.0))

    drawn = arrivals.resample(trace, arrivals.gamma(100.0, 1.0, 5000, rng), rng)

    assert drawn.rate == pytest.approx(100.0, rel=0.05)
    assert (drawn.output_tokens == drawn.input_tokens * 2 - 1).all()
    assert all(
        key == f"k{int(i) - 1}" for key, i in zip(drawn.key, drawn.input_tokens, strict=True)
    )
    assert set(drawn.key) == set(trace.key)
    assert drawn.input_tokens.mean() == pytest.approx(trace.input_tokens.mean(), rel=0.05)


def test_superposed_copies_hold_every_request_as_often(rng):
    """×k is k times the rate in the same time, and every row k times."""
    trace = bursts(rng)

    tripled = arrivals.at_rate(trace, 3 * trace.rate, rng)

    assert len(tripled) == 3 * len(trace)
    assert (np.bincount(tripled.input_tokens.astype(int))[1:] == 3).all()
    assert 0 <= tripled.arrival_s[0] <= tripled.arrival_s[-1] <= trace.duration_s
    assert (np.diff(tripled.arrival_s) >= 0).all()


def test_superposed_bursts_keep_their_length(rng):
    """Gaps inside a shifted burst are the trace's own: time is not stretched."""
    trace = bursts(rng)

    shifted = arrivals.at_rate(trace, trace.rate, rng)

    by_row = np.argsort(shifted.input_tokens)
    gaps = np.diff(shifted.arrival_s[by_row])
    assert np.isclose(gaps, np.diff(trace.arrival_s), atol=1e-6).sum() >= len(gaps) - 1
    assert not np.isclose(shifted.arrival_s[by_row][0], trace.arrival_s[0])


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5.0), st.integers(0, 2**31))
def test_any_rate_can_be_had_of_a_trace(times, seed):
    """Whole copies and a thinned one meet any rate on average, in the trace's own time."""
    rng = np.random.default_rng(seed)
    trace = make_trace(np.sort(rng.random(3000)) * 1000.0)

    scaled = arrivals.at_rate(trace, times * trace.rate, rng)

    assert len(scaled) == pytest.approx(times * len(trace), abs=6 * len(trace) ** 0.5)
    assert scaled.arrival_s[-1] <= trace.duration_s


def test_the_same_seed_gives_the_same_arrivals():
    """Chance is the generator's alone."""
    trace = bursts(np.random.default_rng(0))
    makers = (
        lambda rng: arrivals.gamma(3.0, 2.0, 100, rng),
        lambda rng: arrivals.modulated(np.array([1.0, 2.0]), 10.0, 100, rng),
        lambda rng: arrivals.at_rate(trace, 2.5, rng).arrival_s,
        lambda rng: arrivals.resample(trace, np.arange(100.0), rng).input_tokens,
    )

    for make in makers:
        first, second, other = (make(np.random.default_rng(seed)) for seed in (5, 5, 6))
        assert first.tobytes() == second.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: arrivals.gamma(0.0, 1.0, 5, rng),
        lambda rng: arrivals.gamma(float("nan"), 1.0, 5, rng),
        lambda rng: arrivals.gamma(1.0, 1.0, -1, rng),
        lambda rng: arrivals.gamma(1.0, -1.0, 5, rng),
        lambda rng: arrivals.modulated(np.array([1.0, -1.0]), 9.0, 5, rng),
        lambda rng: arrivals.modulated(np.array([0.0]), 9.0, 5, rng),
        lambda rng: arrivals.modulated(np.array([1.0]), 0.0, 5, rng),
        lambda rng: arrivals.daily(1.0, 1.5),
        lambda rng: arrivals.at_rate(make_trace([0.0, 1.0]), 0.0, rng),
        lambda rng: arrivals.at_rate(make_trace([0.0, 0.0]), 1.0, rng),
        lambda rng: arrivals.resample(make_trace([]), np.arange(3.0), rng),
    ],
)
def test_nonsense_is_refused(make, rng):
    """Rates, periods and counts outside their domain are errors, not empty arrays."""
    with pytest.raises(InvalidValue):
        make(rng)


def test_no_trace_is_drawn_that_fits_no_memory(rng):
    """Few requests over years, or at one moment, are no reason to make a billion of them."""
    with pytest.raises(InvalidValue, match=r"40 requests/s for 6e\+07 s are 2.4e\+09 requests"):
        arrivals.at_rate(make_trace([0.0, 6e7]), 40, rng)
    with pytest.raises(InvalidValue, match="600 s of a trace of 1e-09 s are"):
        arrivals.window(make_trace([0.0, 1e-9]), 40, 600, rng)

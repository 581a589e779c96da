"""Learned output lengths: quantiles, shrinkage, caps, forgetting, and that learning pays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.codec import decode, encode
from gateway.routing.estimator_schema import LengthsState
from gateway.routing.lengths import (
    HISTORIES,
    PRIOR_MEDIAN,
    PRIOR_P90,
    SHRINKAGE,
    WINDOW,
    LengthHistory,
    OutputLengths,
)


def learned(*outputs, key="k", inputs=100, cap=None, into=None):
    into = into or OutputLengths()
    for output in outputs:
        into.learn("m", key, "chat", inputs, cap, output)
    return into


def median(into, key="k", inputs=100, cap=None, endpoint="chat"):
    return into.predict("m", key, endpoint, inputs, cap).median


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=400))
def test_quantiles_are_those_of_the_window(samples):
    """The smallest length that a half, or nine tenths, of the last samples do not exceed, as numpy
    says."""
    history = LengthHistory()
    for sample in samples:
        history.add(sample)
    now = LengthHistory(history.samples)  # its quantiles are taken anew
    expected = np.quantile(samples[-WINDOW:], [0.5, 0.9], method="inverted_cdf")

    assert len(history) == min(len(samples), WINDOW)
    assert (now.median, now.p90) == tuple(expected)


def test_nothing_learned_is_the_prior():
    """Before the first reply something plausible is believed."""
    length = OutputLengths().predict("m", "k", "chat", 100, None)

    assert (length.median, length.p90) == (round(PRIOR_MEDIAN), round(PRIOR_P90))


@given(st.integers(1, 10**6), st.lists(st.integers(1, 5000), max_size=30))
def test_the_clients_cap_bounds_the_belief(cap, outputs):
    """No answer is believed longer than `max_tokens`; the P90 is never under the median."""
    length = learned(*outputs, cap=cap).predict("m", "k", "chat", 100, cap)

    assert 1 <= length.median <= length.p90 <= cap


def test_few_samples_move_the_belief_part_of_the_way():
    """n samples count n/(n + 20) against the coarser history: at 20 half of the way."""
    into = learned(*[1000] * 200, key="others", inputs=5000)
    coarse = median(into, key="new")
    learned(*[100] * int(SHRINKAGE), key="new", inputs=100, into=into)

    # Half of the way at the route's history, then twice half of the rest at the key's own two.
    assert median(into, key="new") == pytest.approx(100 + (coarse - 100) / 8, abs=2)
    learned(*[100] * 280, key="new", inputs=100, into=into)
    assert median(into, key="new") == pytest.approx(100, abs=10)


def test_a_new_key_starts_at_what_its_size_gets():
    """Others' answers to prompts of that size are the first guess for somebody new."""
    into = learned(*[30] * 300, key="a", inputs=100)
    learned(*[700] * 300, key="a", inputs=3000, into=into)

    assert median(into, key="new", inputs=100) < 80
    assert median(into, key="new", inputs=3000) > 600


def test_keys_and_caps_are_told_apart():
    """A key that writes long does not lengthen the belief about one that writes short."""
    into = OutputLengths()
    for _ in range(300):
        learned(20, key="short", into=into)
        learned(600, key="long", into=into)

    assert median(into, key="short") < 60
    assert median(into, key="long") > 500


def test_the_window_forgets():
    """A key that changes its habits is believed anew after one window."""
    into = learned(*[1000] * WINDOW)
    learned(*[10] * WINDOW, into=into)

    assert median(into) < 25


def test_histories_are_bounded_and_the_busy_ones_stay():
    """Endless new keys neither fill the memory nor wipe out what the model's traffic taught."""
    into = OutputLengths()
    for n in range(HISTORIES + 5):
        learned(1000, key=str(n), into=into)

    assert repr(into) == f"<OutputLengths {HISTORIES} histories>"
    assert median(into, key="newest") > 900


def test_learning_beats_a_global_median():
    """On keys with habits of their own, predicting before learning each reply is clearly better
    than the best single number in hindsight."""
    rng = np.random.default_rng(7)
    habits = rng.lognormal(np.log(150), 1.0, 12)
    keys = rng.integers(0, 12, 4000)
    outputs = np.maximum(1, rng.lognormal(np.log(habits[keys]), 0.3)).astype(int)
    into, error = OutputLengths(), 0.0
    for key, output in zip(keys, outputs, strict=True):
        error += abs(np.log(median(into, key=str(key)) / output))
        learned(int(output), key=str(key), into=into)

    best = np.abs(np.log(np.median(outputs) / outputs)).sum()
    assert error < 0.6 * best


def test_what_was_learned_travels():
    """A worker that starts late is sent it, believes the same, and learns on."""
    into = learned(*[40] * 80, inputs=100)
    sent = OutputLengths()
    sent.restore(decode(encode(into.state()), LengthsState))

    for key, inputs in (("k", 100), ("k", 120), ("other", 100)):
        said = [lengths.predict("m", key, "chat", inputs, None) for lengths in (into, sent)]
        assert repr(said[0]) == repr(said[1])
    learned(*[1000] * WINDOW, inputs=100, into=sent)
    assert median(sent, key="other") > 500


def test_of_what_was_learned_the_last_travels():
    """As many histories of each kind as are asked for, with the coarser ones behind them."""
    into = OutputLengths()
    for n in range(20):
        into.learn("m", f"k{n}", "chat", 100, None, 10 * (n + 1))
    sent = OutputLengths()
    sent.restore(decode(encode(into.state(4)), LengthsState))

    assert len(sent.state().cells) == 4
    for key in ("k19", "k16"):
        said = [lengths.predict("m", key, "chat", 100, None) for lengths in (into, sent)]
        assert repr(said[0]) == repr(said[1])

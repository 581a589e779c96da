"""Who sends what in a closed loop, and which answers count."""

from statistics import fmean

import pytest

from loadtest.measure.closed_loop import LEAST, PAUSE, ClosedLoop
from loadtest.measure.load import Exchanged, Load, Unmeasurable


def looped(users: int, outputs: int = 100) -> ClosedLoop:
    return ClosedLoop(Load(input_tokens=50, output_tokens=outputs, users=users), 0.0)


def answer(tpot_s: float = 0.02, outputs: int = 100, ttft_s: float = 0.1) -> Exchanged:
    return Exchanged(
        sent_s=5.0,
        first_s=5.0 + ttft_s,
        last_s=5.0 + ttft_s + tpot_s * (outputs - 1),
        input_tokens=52,
        output_tokens=outputs,
    )


def test_first_answers_are_cut_anywhere():
    """So that users who begin together do not end together; none of these answers counts."""
    loop = looped(200)

    begun = [loop.begin() for _ in range(200)]

    assert not any(counts for _, _, counts in begun)
    outputs = [outputs for _, outputs, _ in begun]
    assert min(outputs) < 10
    assert max(outputs) > 90
    assert fmean(outputs) == pytest.approx(50, rel=0.15)


def test_several_users_send_lengths_around_those_asked_for():
    """A quarter to each side, the same in every run: no engine falls into step with them."""
    one, other = looped(16), looped(16)
    for loop in (one, other):
        for _ in range(16):
            loop.begin()
            loop.end(answer(), counts=False)

    sent = [one.begin() for _ in range(400)]

    assert sent == [other.begin() for _ in range(400)]
    for lengths, mean in (([i for i, _, _ in sent], 50), ([o for _, o, _ in sent], 100)):
        assert min(lengths) >= 0.75 * mean - 1
        assert max(lengths) <= 1.25 * mean + 1
        assert len(set(lengths)) > 10
        assert fmean(lengths) == pytest.approx(mean, rel=0.05)


def test_a_user_alone_sends_exactly_what_was_asked_for():
    """Without others there is nothing to be in step with, and no pause."""
    loop = looped(1)
    loop.begin()

    assert loop.end(answer(), counts=False) == 0.0
    assert loop.begin() == (50, 100, True)


def test_what_is_sent_after_half_of_the_first_answers_counts():
    """As many requests as there are users, and at least a few; then more do not count."""
    loop = looped(30)
    for _ in range(30):
        loop.begin()
    for _ in range(14):
        loop.end(answer(), counts=False)
    assert not loop.begin()[2]
    loop.end(answer(), counts=False)

    assert [loop.begin()[2] for _ in range(32)] == [True] * 30 + [False] * 2
    for _ in range(30):
        assert not loop.whole
        loop.end(answer(), counts=True)
    assert loop.whole


def test_users_pause_for_a_part_of_the_time_of_an_answer():
    """Prompts then come at any time and not only as iterations end; the rate counts the pauses."""
    loop = looped(20)
    for _ in range(20):
        loop.begin()
    for _ in range(10):
        loop.end(answer(), counts=False)
    stay_s = 0.1 + 0.02 * 99
    pauses_s = [loop.end(answer(), counts=loop.begin()[2]) for _ in range(20)]

    assert 0 <= min(pauses_s) < max(pauses_s) <= PAUSE * stay_s
    assert loop.result(9.0).rate == pytest.approx(20 / (stay_s + fmean(pauses_s)))


def test_one_user_is_counted_more_than_once():
    """A single answer would be a single draw of chance."""
    loop = looped(1)
    loop.end(answer(), loop.begin()[2])
    for _ in range(LEAST):
        loop.end(answer(), loop.begin()[2])

    assert loop.whole


def test_the_result_is_the_mean_of_what_counted():
    """Rate by Little's law from users and the time of a request; sizes as the backend counted."""
    loop = looped(1)
    loop.end(answer(tpot_s=9.0), loop.begin()[2])
    for tpot_s in (0.02, 0.03, 0.04, 0.03):
        loop.end(answer(tpot_s=tpot_s), loop.begin()[2])

    found = loop.result(12.0)

    assert found.tpot_s == pytest.approx(0.03)
    assert found.ttft_s == pytest.approx(0.1)
    assert found.rate == pytest.approx(1 / (0.1 + 0.03 * 99))
    assert found.spread == pytest.approx(2.0)
    assert (found.input_tokens, found.output_tokens, found.seconds) == (52, 100, 12.0)
    assert found.decoding == pytest.approx(found.rate * 100 * 0.03)


def test_an_engine_that_stops_at_once_cannot_be_measured():
    """It does not do what `ignore_eos` says, and one token has no time per token."""
    loop = looped(1)
    loop.end(answer(), loop.begin()[2])

    with pytest.raises(Unmeasurable, match="ignore_eos"):
        loop.end(answer(outputs=1), loop.begin()[2])

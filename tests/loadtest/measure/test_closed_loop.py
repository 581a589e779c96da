"""Who sends what in a closed loop, and which answers count."""

import pytest

from loadtest.measure.closed_loop import LEAST, ClosedLoop
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


def test_first_answers_are_of_all_lengths():
    """So that users who begin together do not end together; none of these answers counts."""
    loop = looped(4)

    assert [loop.begin() for _ in range(4)] == [(25, False), (50, False), (75, False), (100, False)]
    assert loop.begin() == (100, False)


def test_what_is_sent_after_half_of_the_first_answers_counts():
    """As many requests as there are users; then the load goes on, and more do not count."""
    loop = looped(6)
    for _ in range(6):
        loop.begin()
    loop.end(answer(), counts=False)
    loop.end(answer(), counts=False)
    assert loop.begin() == (100, False)
    loop.end(answer(), counts=False)

    assert [loop.begin()[1] for _ in range(8)] == [True] * 6 + [False] * 2
    for _ in range(6):
        assert not loop.whole
        loop.end(answer(), counts=True)
    assert loop.whole


def test_one_user_is_counted_more_than_once():
    """A single answer would be a single draw of chance."""
    loop = looped(1)
    loop.end(answer(), loop.begin()[1])
    for _ in range(LEAST):
        loop.end(answer(), loop.begin()[1])

    assert loop.whole


def test_the_result_is_the_mean_of_what_counted():
    """Rate by Little's law from users and the time of a request; sizes as the backend counted."""
    loop = looped(1)
    loop.end(answer(tpot_s=9.0), loop.begin()[1])
    for tpot_s in (0.02, 0.03, 0.04, 0.03):
        loop.end(answer(tpot_s=tpot_s), loop.begin()[1])

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
    loop.end(answer(), loop.begin()[1])

    with pytest.raises(Unmeasurable, match="ignore_eos"):
        loop.end(answer(outputs=1), loop.begin()[1])

"""How many answers failed lately."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.failure_rate import WINDOW_S, FailureRate, stands_out


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), max_size=40))
def test_what_is_older_than_the_window_is_forgotten(steps):
    """And what is younger than it counts in full, or in part where it was before this window."""
    rate, now_s, answers = FailureRate(), 0.0, []
    for failed, gap_s in steps:
        now_s += gap_s
        rate.add(int(failed), now_s)
        answers.append((now_s, failed))
    failed, counted = rate.counts(now_s)

    start_s = WINDOW_S * (now_s // WINDOW_S)
    assert counted >= sum(at_s >= start_s for at_s, _ in answers)
    assert counted <= sum(at_s >= start_s - WINDOW_S for at_s, _ in answers)
    assert 0.0 <= failed <= counted
    assert rate.counts(now_s + 2 * WINDOW_S) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("failed", "answers", "peers", "out"),
    [
        (5, 5, (0, 5), True),
        (5, 25, (0, 5), True),
        (5, 26, (0, 5), False),  # most are well
        (4, 4, (0, 90), False),  # too few to tell
        (5, 5, (0, 4), False),  # nobody to compare with
        (50, 50, (10, 30), True),
        (50, 50, (11, 30), False),
    ],
)
def test_a_backend_is_compared_with_its_peers(failed, answers, peers, out):
    """Bad requests do the same to all; a bad backend fails alone."""
    assert stands_out(failed, answers, peers) is out

"""When a dead worker is replaced."""

from gateway.workers.slot import DEATHS, LONGEST_PAUSE_S, Backoff


def test_a_death_now_and_then_is_replaced_at_once():
    """Workers may die as often as they like, if not in a row."""
    pauses = Backoff()

    assert [pauses.after(3.0 * n) for n in range(50)] == [0.0] * 50


def test_a_worker_that_keeps_dying_is_replaced_ever_later():
    """After some deaths in seconds: 1 s, 2 s, 4 s … up to the longest, and at once again when it
    has lived for a while."""
    pauses, now_s, found = Backoff(), 0.0, []
    for _ in range(DEATHS + 8):
        found.append(pauses.after(now_s))
        now_s += found[-1] + 0.1
    later = pauses.after(now_s + 1000.0)

    assert found[:DEATHS] == [0.0] * DEATHS
    assert found[DEATHS:] == [1.0, 2.0, 4.0, 8.0, 16.0, *[LONGEST_PAUSE_S] * 3]
    assert later == 0.0

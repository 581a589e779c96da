"""The retry budget: retries follow requests and never storm."""

from gateway.proxy.retry import RESERVE, SHARE, RetryBudget


def test_the_reserve_is_all_there_is_without_requests():
    """An outage in silence costs a hundred retries, not more."""
    budget = RetryBudget()

    assert [budget.spend() for _ in range(1000)].count(True) == int(RESERVE)


def test_in_the_long_run_retries_are_a_share_of_requests():
    """With every request failing, one in five is tried again."""
    budget, spent = RetryBudget(), 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()

    assert abs(spent - (RESERVE + 1000 * SHARE)) <= 1


def test_quiet_times_save_nothing_up():
    """A day of good requests does not pay for a storm."""
    budget = RetryBudget()
    for _ in range(100_000):
        budget.earn()

    assert [budget.spend() for _ in range(1000)].count(True) == int(RESERVE)

"""What a key has spent in a day is what the bill says."""

from gateway.journal.entry import CallerBill, Entry, Happened
from gateway.journal.spending import DAY_S, DaySpending

DAY = 20_000


class Clock:
    """Unix time that stands still until it is set."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def test_the_cost_of_a_pool_is_shared_by_time_in_it():
    """By all callers, here and at other gateways, as the journal does; and the hours are added."""
    clock = Clock(DAY * DAY_S)
    spending = DaySpending(clock)
    for _ in range(2):
        spending.add({("a", "m", "p"): (1, 1, 1, 30.0), ("b", "m", "p"): (1, 1, 1, 10.0)})
        spending.beside({"p": 40.0})
        clock.now_s += 3600.0
        spending.spend({"p": 8.0})

    assert spending.usd() == {"a": 6.0, "b": 2.0}


def test_a_day_begins_with_nothing():
    """At midnight, UTC."""
    clock = Clock((DAY + 1) * DAY_S - 3600.0)
    spending = DaySpending(clock)
    spending.add({("a", "m", "p"): (1, 1, 1, 1.0)})
    clock.now_s += 3600.0
    spending.spend({"p": 8.0})

    assert (spending.usd(), spending.day) == ({}, DAY + 1)


def test_a_restart_forgets_nothing_that_the_journal_has():
    """Its hours of this day; those of the day before are over, its last one too."""
    clock = Clock(DAY * DAY_S + 3 * 3600.0)
    spending = DaySpending(clock)
    spent = Happened(seconds=1, requests=1, callers={"a": CallerBill(usd=1.5)})
    moments = ("2024-10-03T23:00:00Z", "2024-10-04T00:00:00Z", "2024-10-04T01:00:00Z",
               "2024-10-04T02:10:00Z")  # fmt: skip
    spending.recall([Entry(at=at, kind="hour", happened=spent) for at in moments])
    spending.recall([Entry(at=moments[-1], kind="stop", happened=spent)])

    assert spending.usd() == {"a": 3.0}

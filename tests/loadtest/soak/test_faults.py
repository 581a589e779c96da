"""Which engines are bad, and when."""

from itertools import islice

from loadtest.soak.faults import EngineFault, periods


def test_the_same_seed_gives_the_same_faults():
    """A run can be made again."""
    assert list(islice(periods(1, 6, tuple(EngineFault)), 50)) == list(
        islice(periods(1, 6, tuple(EngineFault)), 50)
    )


def test_every_fault_comes_and_engines_are_left():
    """All kinds in a few hundred periods; mostly at most two engines are bad, sometimes all."""
    drawn = list(islice(periods(1, 6, tuple(EngineFault)), 500))

    assert {fault for period in drawn for fault in period.faults if fault} == set(EngineFault)
    assert {period.well for period in drawn} == {0, 4, 5, 6}
    assert sum(period.well == 0 for period in drawn) < 50

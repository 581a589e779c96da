"""Which engines are bad, and when."""

from itertools import islice

from loadtest.soak.faults import SHIELDED, EngineFault, periods


def test_the_same_seed_gives_the_same_faults():
    """A run can be made again."""
    assert list(islice(periods(1, 6, SHIELDED), 50)) == list(islice(periods(1, 6, SHIELDED), 50))


def test_every_fault_comes_and_engines_are_left():
    """All kinds in a few hundred periods; mostly at most two engines are bad, sometimes all."""
    drawn = list(islice(periods(1, 6, SHIELDED), 500))

    assert {fault for period in drawn for fault in period.faults if fault} == set(SHIELDED)
    assert {period.well for period in drawn} == {0, 4, 5, 6}
    assert sum(period.well == 0 for period in drawn) < 50


def test_faults_that_look_like_answers_are_not_done_by_default():
    """They are for those who ask for them."""
    assert set(EngineFault) - set(SHIELDED) == {EngineFault.PAGE, EngineFault.ABORTED}

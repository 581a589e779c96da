"""A link that is down is said once, and tried less and less often."""

from math import inf

from gateway.cluster.link import LONGEST_S, Link


def test_only_a_change_is_news():
    """Each way; the first failure is news too."""
    link = Link()
    news = [link.failed("x", 0.0), link.failed("x", 1.0), link.works(2.0), link.works(3.0)]
    news += [link.failed("y", 4.0), link.failed("y", 5.0)]

    assert news == [True, False, True, False, True, False]
    assert link.failures == 4
    assert link.error == "y"


def test_attempts_become_rarer_until_one_is_good():
    """From the interval to `LONGEST_S`, and back."""
    link = Link()
    pauses = []
    for n in range(12):
        link.failed("x", float(n))
        pauses.append(link.pause_s(0.1))
    link.works(20.0)

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, LONGEST_S)
    assert link.pause_s(0.1) == 0.1


def test_it_is_known_for_how_long_nothing_was_heard():
    """Since the last good attempt; for ever, before the first one."""
    link = Link()
    link.failed("x", 5.0)
    assert link.down_s(5.0) == inf
    link.works(10.0)
    assert link.down_s(11.0) == 0.0
    link.failed("x", 12.0)
    assert link.down_s(13.0) == 3.0

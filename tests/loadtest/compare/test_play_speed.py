"""The timed play."""

from loadtest.compare.play_speed import play_speed


def test_the_timed_play_is_one_of_a_fleet_that_holds():
    """What is timed is serving: the fleet is large enough for most requests, so few are shed."""
    timed = play_speed(2000, seed=3)

    assert timed.backends > 1
    assert timed.attainment > 0.95
    assert timed.requests_per_cpu_s > 0

"""Simulated worlds: short ones keep every promise, spoiled ones show that one can be broken."""

import pytest

from loadtest.torture.world import Sabotage, play

STORMY_S, NEVER_S = 20.0, 1e6  # mean time between two storms of faults


@pytest.mark.parametrize(
    "seed", [11, *(pytest.param(seed, marks=pytest.mark.long) for seed in (12, 13))]
)
def test_a_world_keeps_its_promises(seed):
    """Minutes of faults break no promise: nothing leaks, nothing hangs, nobody fails in vain."""
    result = play(seed, 0.05, calm_s=STORMY_S)

    assert result.broken is None, "\n".join(result.events[-40:])
    assert result.counts["requests"] > 20
    assert result.counts["faults"] > 0


@pytest.mark.long
def test_a_seed_is_a_world():
    """The same seed gives the same events, so that a failure can be played again."""
    first, second = (play(14, 0.03, calm_s=STORMY_S) for _ in range(2))

    assert first.events == second.events
    assert first.counts == second.counts


@pytest.mark.long
def test_a_lease_that_nobody_releases_is_found():
    """The balance of leases can fail."""
    result = play(15, 0.03, calm_s=NEVER_S, sabotage=Sabotage(leak=True))

    assert "leases on" in (result.broken or "")


@pytest.mark.long
def test_engines_that_are_slow_in_secret_break_the_promise():
    """What is promised to admitted requests is measured at the clients, in calm times."""
    result = play(21, 0.1, calm_s=NEVER_S, sabotage=Sabotage(slow=True))

    assert "kept the promise" in (result.broken or "")


def test_a_failure_without_a_fault_is_found():
    """A request must not fail while the world says that all engines are well."""
    result = play(17, 0.05, calm_s=NEVER_S, sabotage=Sabotage(fail=True))

    assert "failed for no reason" in (result.broken or "")

"""A short run of the whole benchmark, and the rate of its open loops."""

from pathlib import Path

import pytest

from loadtest.overhead import rounds, setups, stacks
from loadtest.overhead.results import DIRECT, Measurement
from loadtest.overhead.scenarios import OverheadOptions, Scenario
from loadtest.overhead.setups import Setup

SHORT = OverheadOptions(
    peers=(),
    rounds=1,
    warmup_s=0.2,
    window_s=0.3,
    connections=(3,),
    rates=(),
    streams=(10_000_000, 4),
    chunks=5,
    interval_s=0.01,
)


@pytest.mark.long
def test_a_short_run_measures_everything_and_says_what_it_left_out(tmp_path: Path):
    """Each set-up works without errors in each scenario, with cost, memory and a profile."""
    result = rounds.run_benchmark(SHORT, profiles=tmp_path / "stacks")

    possible = SHORT.scenarios()[1:]
    assert [s.name for s in result.setups] == [DIRECT, setups.GATEWAY]
    assert [m.setup for m in result.measurements] == [
        name for name in (DIRECT, setups.GATEWAY) for _ in possible
    ]
    assert all(m.errors == {} and m.units > 0 for m in result.measurements)
    assert all(m.p50_s is not None for m in result.measurements)
    own = [m for m in result.measurements if m.setup == setups.GATEWAY]
    assert sum(m.cpu_s or 0.0 for m in own) > 0
    assert all((m.memory_mib or 0.0) > 10 for m in own)
    assert all(m.cpu_s is None for m in result.measurements if m.setup == DIRECT)
    assert "files" in result.skipped[SHORT.scenarios()[0].name]
    assert result.profiles.keys() == {s.name for s in possible if s.load is None}
    kept = sorted((tmp_path / "stacks").iterdir())
    assert sum(stacks.read_stacks(path).total() for path in kept) > 0


def test_half_load_is_half_of_what_the_set_up_did_in_this_round():
    """Each proxy at its own half; the direct connection at a fixed moderate rate."""
    closed = Scenario(name="c", connections=64, body_bytes=1024)
    half = Scenario(name="h", connections=64, body_bytes=1024, load=0.5)

    def did(setup: str, turn: int, units: int) -> Measurement:
        return Measurement(
            setup=setup, scenario=closed, turn=turn, units=units, window_s=2.0,
            cpu_s=None, p50_s=None, p99_s=None, errors={},
        )  # fmt: skip

    measurements = [
        did("a", 0, 9_000),
        did("a", 1, 8_000),
        did("b", 1, 2_000),
        did(DIRECT, 1, 99_000),
    ]

    rate = {
        name: rounds.open_loop_rate(half, Setup(name=name, port=1, pid=None), 1, measurements)
        for name in ("a", "b", DIRECT)
    }
    assert rate == {"a": 2_000.0, "b": 500.0, DIRECT: rounds.DIRECT_RATE}
    assert rounds.open_loop_rate(closed, Setup(name="a", port=1, pid=None), 1, measurements) is None

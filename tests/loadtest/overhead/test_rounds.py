from pathlib import Path

from loadtest.overhead import rounds, setups, stacks
from loadtest.overhead.measure import DIRECT, Measure
from loadtest.overhead.scenarios import Options, Scenario
from loadtest.overhead.setups import Setup

SHORT = Options(
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


def test_a_short_run_measures_everything_and_says_what_it_left_out(tmp_path: Path):
    """Each set-up works without errors in each scenario, with cost, memory and a profile."""
    found = rounds.bench(SHORT, profiles=tmp_path / "stacks")

    possible = SHORT.scenarios()[1:]
    assert [s.name for s in found.setups] == [DIRECT, setups.GATEWAY]
    assert [m.setup for m in found.measures] == [
        name for name in (DIRECT, setups.GATEWAY) for _ in possible
    ]
    assert all(m.errors == {} and m.units > 0 for m in found.measures)
    assert all(m.p50_s is not None for m in found.measures)
    own = [m for m in found.measures if m.setup == setups.GATEWAY]
    assert sum(m.cpu_s or 0.0 for m in own) > 0
    assert all((m.memory_mib or 0.0) > 10 for m in own)
    assert all(m.cpu_s is None for m in found.measures if m.setup == DIRECT)
    assert "files" in found.skipped[SHORT.scenarios()[0].name]
    assert found.profiles.keys() == {s.name for s in possible if s.load is None}
    kept = sorted((tmp_path / "stacks").iterdir())
    assert sum(stacks.read_stacks(path).total() for path in kept) > 0


def test_half_load_is_half_of_what_the_set_up_did_in_this_round():
    """Each proxy at its own half; the direct connection at a rate that troubles nobody."""
    closed = Scenario(name="c", connections=64, body_bytes=1024)
    half = Scenario(name="h", connections=64, body_bytes=1024, load=0.5)

    def did(setup: str, turn: int, units: int) -> Measure:
        return Measure(
            setup=setup, scenario=closed, turn=turn, units=units, window_s=2.0,
            cpu_s=None, p50_s=None, p99_s=None, errors={},
        )  # fmt: skip

    taken = [did("a", 0, 9_000), did("a", 1, 8_000), did("b", 1, 2_000), did(DIRECT, 1, 99_000)]

    rate = {
        name: rounds._rate(half, Setup(name=name, port=1, pid=None), 1, taken)
        for name in ("a", "b", DIRECT)
    }
    assert rate == {"a": 2_000.0, "b": 500.0, DIRECT: rounds.BASE_RATE}
    assert rounds._rate(closed, Setup(name="a", port=1, pid=None), 1, taken) is None

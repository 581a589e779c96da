"""Every decision has its line, with its cause, and later with what came of it."""

import json
from dataclasses import replace

import pytest

from gateway.journal.entry import OTHERS, entries, line
from gateway.journal.file import JournalFile, read
from gateway.journal.journal import KEPT_ENTRIES, LOOKS_S, DecisionJournal
from gateway.journal.tally import CALLERS
from gateway.telemetry.stats_schema import PoolStats
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Certificate, Plan, SingleType
from planner.sizes import Grid
from planner.slo import Slo

NOON_S = 1_795_867_200.0  # 2026-11-28 12:00 UTC
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.1)),),
    grid=Grid(input_edges=(0, 8192), output_edges=(0, 8192)),
)
SMALL = Plan(
    plan_id="00000001", objective="provision", buckets=BUCKETS, pools=("a", "b"), backends=(2, 0),
    weights=((1.0, 0.0),), rate=(3.0,), seconds=((0.1, 0.1),), slots=((0.1, 0.1),),
    load=(0.5, 0.0), tail=(0.1, 0.0), usd_per_hour=2.0, lower_bound_usd_per_hour=1.0, gap=0.0,
    solve_s=0.1,
)  # fmt: skip
LARGE = replace(SMALL, plan_id="00000002", backends=(2, 1), usd_per_hour=7.0, rate=(9.0,))


class World:
    """A clock, and a journal that reads it."""

    def __init__(self, path=None, file_bytes=1 << 20):
        self.now_s = 0.0
        file = None if path is None else JournalFile(path, file_bytes)
        self.journal = DecisionJournal(
            clock=lambda: self.now_s, wall_clock=lambda: NOON_S + self.now_s, file=file
        )

    def wait(self, seconds, running=2.0):
        self.now_s += seconds
        self.journal.spend({"a": running})

    @property
    def kinds(self):
        return [entry.kind for entry in self.journal.entries]


def ended(yes=0, no=0, refused=0, unpromised=0, tokens=0):
    stats = PoolStats.none()
    ends = {"yes": yes, "no": no, "refused": refused, "": unpromised}
    stats.ends = {("ok", 200, met, "planned"): n for met, n in ends.items() if n}
    stats.output_tokens = tokens
    return {("m", "default", "a"): stats}


@pytest.fixture
def world():
    made = World()
    made.journal.started(SMALL, {"a": 2, "b": 0})
    return made


def test_a_plan_has_its_cause_and_the_one_before_what_came_of_it(world):
    world.journal.add(ended(yes=97, no=2, refused=1, unpromised=5, tokens=400), {})
    world.wait(1800)
    world.journal.planned(LARGE, "the plan no longer holds")

    start, result, plan = world.journal.entries
    assert start.plan.backends == {"a": 2}
    assert (result.kind, result.before.plan_id) == ("result", "00000001")
    assert (result.happened.requests, result.happened.attainment) == (105, 0.97)
    assert result.happened.seconds == 1800
    assert result.happened.usd_running == pytest.approx(1.0)
    assert result.happened.models["m"].output_tokens == 400
    assert (plan.cause, plan.plan.usd_per_hour) == ("the plan no longer holds", 7.0)
    assert (plan.plan.requests_per_s, plan.before.usd_per_hour) == (9.0, 2.0)
    assert plan.at == "2026-11-28T12:30:00Z"


def test_what_comes_after_a_plan_is_its_own(world):
    world.journal.add(ended(no=9), {})
    world.journal.planned(LARGE, "more")
    world.journal.add(ended(yes=4), {})
    world.wait(60)
    world.journal.planned(SMALL, "less")

    assert [e.happened.attainment for e in world.journal.entries if e.happened] == [0.0, 1.0]


def test_a_certificate_that_comes_later_is_in_what_came_of_the_plan(world):
    certificate = Certificate(
        attainment=0.995, low=0.99, high=1.0, worst=0.98, target=0.99, seeds=8, requests=9_000
    )
    single = SingleType(gpu="A100", usd_per_hour=3.5, backends=(("b", 1),))
    partial = replace(single, gpu="L4", usd_per_hour=0.5, unserved_share=0.2)
    world.journal.certified(replace(SMALL, certificate=certificate, singles=(partial, single)))
    world.journal.certified(replace(LARGE, certificate=certificate))  # not the one in force
    world.wait(3600)
    world.journal.planned(LARGE, "more")

    result = next(e for e in world.journal.entries if e.kind == "result")
    assert (result.before.attainment, result.before.target) == (0.995, 0.99)
    assert (result.before.single_gpu, result.happened.usd_single) == ("A100", 3.5)


def test_looks_that_changed_nothing_are_one_line_for_each_reason(world):
    for _ in range(5):
        world.journal.looked("kept", "it is the best one")
        world.wait(10)
    assert world.kinds == ["start", "looks"]  # also while they go on
    world.journal.looked("idle", "too few requests came to tell")
    world.journal.looked("replaced", "more")
    world.journal.planned(LARGE, "more")

    looks = [e for e in world.journal.entries if e.kind == "looks"]
    assert [(e.cause, e.looks) for e in looks] == [
        ("kept: it is the best one", 5), ("idle: too few requests came to tell", 1),
    ]  # fmt: skip
    assert (looks[0].since, looks[0].at) == ("2026-11-28T12:00:00Z", "2026-11-28T12:00:50Z")


def test_looks_of_hours_are_a_few_lines(world):
    for _ in range(600):
        world.journal.looked("kept", "it is the best one")
        world.wait(10)

    lines = [e for e in world.journal.entries if e.kind == "looks"]
    assert sum(e.looks for e in lines) == 600
    assert len(lines) == 6000 / LOOKS_S


def test_a_fleet_that_changes_has_a_line_and_one_that_stays_none(world):
    world.journal.fleet({"a": 2, "b": 0})
    world.journal.fleet({"a": 2, "b": 1})
    world.journal.fleet({"a": 2, "b": 1})

    assert [e.backends for e in world.journal.entries if e.kind == "backends"] == [{"a": 2, "b": 1}]


def test_every_hour_of_the_clock_has_its_bill(world):
    for minute in range(150):
        world.journal.add(ended(yes=1), {})
        world.wait(60, running=3.0 if minute < 60 else 6.0)

    hours = [e.happened for e in world.journal.entries if e.kind == "hour"]
    assert [round(h.usd_running, 6) for h in hours] == [3.0, 6.0]
    assert [round(h.usd_planned, 6) for h in hours] == [2.0, 2.0]
    assert [h.requests for h in hours] == [60, 60]


def test_what_sleeps_is_planned_too(world):
    """No plan has it, so its price is added to the plan's, also at the end."""
    world.journal.started(SMALL, {"a": 2})
    world.now_s += 1800.0
    world.journal.spend({"a": 2.5}, 0.5)
    world.now_s += 1800.0
    world.journal.close()
    (happened,) = [e.happened for e in world.journal.entries if e.kind == "stop"]

    assert (happened.usd_planned, happened.usd_running) == (2.5, 2.5)


def test_nothing_is_saved_while_no_single_type_is_known(world):
    """What ran then counts for what one GPU type would have cost, not nothing."""
    single = SingleType(gpu="x", usd_per_hour=10.0, backends=(("a", 5),))
    world.wait(1800.0)
    world.journal.planned(replace(LARGE, singles=(single,)), "requests came")
    world.wait(1800.0, running=7.0)
    world.wait(1.0)
    (hour,) = [e.happened for e in world.journal.entries if e.kind == "hour"]

    assert (hour.usd_running, hour.usd_single) == (4.5, 6.0)


def test_the_memory_is_bounded(world):
    for number in range(KEPT_ENTRIES + 50):
        world.journal.fleet({"a": number})

    assert len(world.journal.entries) == KEPT_ENTRIES


def test_the_file_survives_a_restart(tmp_path):
    path = tmp_path / "journal.jsonl"
    world = World(path)
    world.journal.started(SMALL, {"a": 2})
    world.journal.planned(LARGE, "more")
    world.journal.close()

    again = World(path)
    assert again.kinds == ["start", "result", "plan", "stop", "hour"]
    again.journal.started(LARGE, {"a": 3})
    again.journal.close()
    assert [e.kind for e in read(path)].count("start") == 2


def test_a_line_that_a_crash_has_cut_loses_itself_only(tmp_path):
    path = tmp_path / "journal.jsonl"
    world = World(path)
    world.journal.started(SMALL, {"a": 2})
    world.journal.close()
    whole = len(read(path))
    path.write_bytes(path.read_bytes() + b'{"at":"2026-11-28T12:0\n{}\n')
    assert len(read(path)) == whole
    path.write_bytes(path.read_bytes() + b'{"at":"2026-11-28T12:0')
    again = World(path)
    again.journal.started(SMALL, {"a": 2})
    again.journal.close()
    assert len(read(path)) == whole + 3  # the start, the stop and the hour


def test_the_file_is_bounded(tmp_path):
    path = tmp_path / "journal.jsonl"
    world = World(path, file_bytes=4096)
    for number in range(500):
        world.journal.fleet({"a": number})
    world.journal.close()

    assert sorted(p.name for p in tmp_path.iterdir()) == ["journal.jsonl", "journal.jsonl.1"]
    assert all(p.stat().st_size <= 4096 for p in tmp_path.iterdir())
    assert read(path)[-3].backends == {"a": 499}  # before the stop and the hour


def test_a_file_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    world = World(tmp_path / "none" / "journal.jsonl")
    world.journal.fleet({"a": 1})
    world.journal.fleet({"a": 2})
    world.journal.close()

    assert [r.getMessage() for r in caplog.records].count(
        f"the journal {tmp_path}/none/journal.jsonl cannot be written: No such file or directory"
    ) == 1
    assert "backends" in world.kinds


def test_a_line_is_json_that_others_can_read(world):
    world.journal.planned(LARGE, "more")
    plan = json.loads(line(world.journal.entries[-1]))
    assert (plan["kind"], plan["plan"]["backends"]) == ("plan", {"a": 2, "b": 1})
    assert list(entries(line(world.journal.entries[-1]))) == world.journal.entries[-1:]


def test_another_path_is_another_file(tmp_path):
    one, other = JournalFile(tmp_path / "a", 4096), JournalFile(tmp_path / "b", 4096)
    assert one == JournalFile(tmp_path / "a", 4096)
    assert one != other


def test_the_bill_of_the_pools_belongs_to_models_and_callers(world):
    """Callers pay by the time that their requests were in the backends; a pool without a request is
    nobody's; each bill with what is idle comes to what ran."""
    uses = {
        ("ann", "m", "a"): (3, 300, 30, 6.0),
        ("bob", "m", "a"): (1, 900, 90, 2.0),
    }
    world.journal.add(ended(yes=4), uses)
    world.now_s += 1800
    world.journal.spend({"a": 4.0, "b": 1.0})
    world.journal.planned(LARGE, "why")

    happened = world.journal.entries[1].happened
    assert happened.usd_running == pytest.approx(2.5)
    assert happened.usd_idle == pytest.approx(0.5)
    assert happened.models["m"].usd == pytest.approx(2.0)
    assert happened.callers["ann"].usd == pytest.approx(1.5)
    assert (happened.callers["bob"].requests, happened.callers["bob"].usd) == (1, 0.5)


def test_callers_with_small_bills_are_one_line(world):
    """A line of the journal stays short however many callers there were, and no dollar is lost."""
    uses = {(f"caller-{n}", "m", "a"): (1, 10, 1, float(n)) for n in range(1, 101)}
    world.journal.add(ended(yes=100), uses)
    world.now_s += 3600
    world.journal.spend({"a": 50.5})
    world.journal.planned(LARGE, "why")

    callers = world.journal.entries[1].happened.callers
    assert len(callers) == CALLERS + 1
    assert next(iter(callers)) == "caller-100"
    assert callers[OTHERS].requests == 100 - CALLERS
    assert sum(bill.usd for bill in callers.values()) == pytest.approx(50.5, abs=1e-4)


def test_what_is_ordered_has_a_line():
    """With its cause and what is wished."""
    world = World()
    world.journal.scaled("pool a: 3 backends are ordered", {"a": 3})
    world.journal.scaled("a-2 is ready", {})
    ordered, came = world.journal.entries

    assert (ordered.kind, ordered.backends) == ("scale", {"a": 3})
    assert (came.cause, came.backends) == ("a-2 is ready", None)
    assert list(entries(line(ordered))) == [ordered]

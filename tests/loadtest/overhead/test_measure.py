import json
from dataclasses import replace

import pytest

from loadtest.overhead import measure
from loadtest.overhead.measure import Figure, Measure, MeasureRow
from loadtest.overhead.scenarios import Scenario

UNARY = Scenario(name="unary", connections=1, body_bytes=1024)
STREAMS = Scenario(name="streams", connections=100, body_bytes=1024, interval_s=0.02)


def taken(setup: str, turn: int = 0, scenario: Scenario = UNARY, **fields: object) -> Measure:
    given = {
        "units": 1000,
        "window_s": 2.0,
        "cpu_s": None,
        "p50_s": 0.001,
        "p99_s": 0.002,
        "errors": {},
    }
    return Measure(setup=setup, turn=turn, scenario=scenario, **(given | fields))  # type: ignore[arg-type]


def row(rows: tuple[MeasureRow, ...], setup: str, scenario: str = "unary") -> MeasureRow:
    (found,) = [r for r in rows if (r.setup, r.scenario) == (setup, scenario)]
    return found


def test_cpu_is_per_unit_of_work():
    """One CPU-second over a thousand requests is 1000 µs; without a proxy or work there is none."""
    assert taken("cuvee", cpu_s=1.0).cpu_us == pytest.approx(1000.0)
    assert taken("direct").cpu_us is None
    assert taken("cuvee", cpu_s=1.0, units=0).cpu_us is None
    assert taken("cuvee").rate == 500.0


def test_rows_are_medians_with_their_range():
    """One wild round moves the range and not the figure; ratios are to HAProxy's median."""
    measures = [
        taken(setup, turn, cpu_s=cpu_s)
        for setup, all_cpu_s in (("haproxy", (0.01, 0.02, 0.03)), ("cuvee", (0.05, 0.04, 9.0)))
        for turn, cpu_s in enumerate(all_cpu_s)
    ]

    rows = measure.summarise(measures)

    cpu = row(rows, "cuvee").cpu_us
    assert cpu is not None
    assert (cpu.median, cpu.low, cpu.high) == pytest.approx((50.0, 40.0, 9000.0))
    assert row(rows, "cuvee").ratio == pytest.approx(2.5)
    assert row(rows, "haproxy").ratio == 1.0
    assert row(rows, "cuvee").rounds == 3


def test_added_latency_is_against_the_same_round():
    """A machine that slows down between rounds slows the direct connection with it."""
    measures = [
        *(taken("direct", turn, p50_s=p50_s) for turn, p50_s in enumerate((0.001, 0.101))),
        *(taken("cuvee", turn, p50_s=p50_s) for turn, p50_s in enumerate((0.002, 0.103))),
    ]

    rows = measure.summarise(measures)

    added = row(rows, "cuvee").added_p50_ms
    assert added is not None
    assert (added.low, added.high) == pytest.approx((1.0, 2.0))
    assert row(rows, "direct").added_p50_ms is None


def test_scenarios_are_kept_apart_and_in_order():
    """Chunks are never averaged with requests."""
    measures = [
        taken("direct"),
        taken("haproxy", cpu_s=0.02),
        taken("direct", scenario=STREAMS),
        taken("haproxy", scenario=STREAMS, cpu_s=0.04),
    ]

    rows = measure.summarise(measures)

    assert [(r.scenario, r.setup, r.unit) for r in rows] == [
        ("unary", "direct", "request"),
        ("unary", "haproxy", "request"),
        ("streams", "direct", "chunk"),
        ("streams", "haproxy", "chunk"),
    ]
    assert row(rows, "haproxy").cpu_us == Figure(median=20.0, low=20.0, high=20.0)
    assert row(rows, "haproxy", "streams").cpu_us == Figure(median=40.0, low=40.0, high=40.0)


def test_without_haproxy_there_is_no_ratio():
    """What was not measured is not compared with."""
    rows = measure.summarise([taken("direct"), taken("cuvee", cpu_s=0.1)])

    assert row(rows, "cuvee").ratio is None


def test_ratios_refer_to_whom_they_are_asked_for():
    """Any set-up can be the measure of the others, and each peer is put in times of ours."""
    measures = [taken(n, cpu_s=c) for n, c in (("haproxy", 0.01), ("nginx", 0.02), ("cuvee", 0.04))]

    rows = measure.summarise(measures, against="nginx")

    assert [r.ratio for r in rows] == [0.5, 1.0, 2.0]
    assert measure.ratios(rows, "cuvee") == {"unary": {"haproxy": 0.25, "nginx": 0.5}}
    assert measure.ratios(rows, "direct") == {}


def test_memory_per_stream_is_what_is_held_above_idle():
    """At its least: later rounds find what earlier ones left. Unary traffic has no such figure."""
    measures = [
        taken("cuvee", memory_mib=50.0),
        taken("cuvee", scenario=STREAMS, memory_mib=51.0),
        taken("cuvee", 1, scenario=STREAMS, memory_mib=99.0),
        taken("direct", scenario=STREAMS),
    ]

    rows = measure.summarise(measures, idle_mib={"cuvee": 41.0})

    assert row(rows, "cuvee", "streams").kib_per_stream == pytest.approx(102.4)
    assert row(rows, "cuvee").kib_per_stream is None
    assert row(rows, "direct", "streams").kib_per_stream is None


def test_a_rate_near_the_direct_one_is_marked():
    """What the bench could not outrun by a quarter was measured on the bench."""
    busy = replace(UNARY, connections=64)
    measures = [
        taken(n, scenario=busy, units=u) for n, u in (("direct", 120), ("a", 90), ("b", 100))
    ]

    assert [r.limited for r in measure.summarise(measures)] == [False, False, True]
    lone = [replace(m, scenario=UNARY) for m in measures]
    assert not any(r.limited for r in measure.summarise(lone))


def test_the_kernels_share_is_of_the_cpu_time():
    """User and system time together are the cost; the kernel's part of it is said."""
    kernel = row(measure.summarise([taken("cuvee", cpu_s=0.4, system_s=0.1)]), "cuvee").kernel

    assert kernel == Figure(median=0.25, low=0.25, high=0.25)


def test_errors_of_all_rounds_are_added_and_shown():
    """A wrong reply in any round is in the row and in the JSON."""
    measures = [
        taken("cuvee", 0, cpu_s=0.1, errors={"status 503": 2}),
        taken("cuvee", 1, cpu_s=0.1, errors={"status 503": 1, "no [DONE]": 4}),
    ]
    rows = measure.summarise(measures)
    plain = json.loads(json.dumps(measure.to_json(rows, measures)))

    assert row(rows, "cuvee").errors == {"status 503": 3, "no [DONE]": 4}
    assert plain["rows"][0]["errors"]["status 503"] == 3
    assert plain["measures"][1]["cpu_us"] == pytest.approx(100.0)

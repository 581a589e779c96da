"""Measurements become rows: medians, added latency, ratios, memory and errors."""

import json
from dataclasses import replace
from typing import Any

import pytest

from loadtest.overhead import results
from loadtest.overhead.results import Measurement, MedianRange, ResultRow
from loadtest.overhead.scenarios import Scenario

UNARY = Scenario(name="unary", connections=1, body_bytes=1024)
STREAMS = Scenario(name="streams", connections=100, body_bytes=1024, interval_s=0.02)


def measured(setup: str, turn: int = 0, scenario: Scenario = UNARY, **fields: Any) -> Measurement:
    defaults: dict[str, Any] = {
        "units": 1000,
        "window_s": 2.0,
        "cpu_s": None,
        "p50_s": 0.001,
        "p99_s": 0.002,
        "errors": {},
    }
    return Measurement(setup=setup, turn=turn, scenario=scenario, **(defaults | fields))


def row(rows: tuple[ResultRow, ...], setup: str, scenario: str = "unary") -> ResultRow:
    (own,) = [r for r in rows if (r.setup, r.scenario) == (setup, scenario)]
    return own


def test_cpu_is_per_unit_of_work():
    """One CPU-second over a thousand requests is 1000 µs; without a proxy or work there is none."""
    assert measured("cuvee", cpu_s=1.0).cpu_us == pytest.approx(1000.0)
    assert measured("direct").cpu_us is None
    assert measured("cuvee", cpu_s=1.0, units=0).cpu_us is None
    assert measured("cuvee").rate == 500.0


def test_rows_are_medians_with_their_range():
    """One wild round moves the range and not the figure; ratios are to HAProxy's median."""
    measurements = [
        measured(setup, turn, cpu_s=cpu_s)
        for setup, all_cpu_s in (("haproxy", (0.01, 0.02, 0.03)), ("cuvee", (0.05, 0.04, 9.0)))
        for turn, cpu_s in enumerate(all_cpu_s)
    ]

    rows = results.summarise(measurements)

    cpu = row(rows, "cuvee").cpu_us
    assert cpu is not None
    assert (cpu.median, cpu.low, cpu.high) == pytest.approx((50.0, 40.0, 9000.0))
    assert row(rows, "cuvee").ratio == pytest.approx(2.5)
    assert row(rows, "haproxy").ratio == 1.0
    assert row(rows, "cuvee").rounds == 3


def test_added_latency_is_against_the_same_round():
    """A machine that slows down between rounds slows the direct connection with it."""
    measurements = [
        *(measured("direct", turn, p50_s=p50_s) for turn, p50_s in enumerate((0.001, 0.101))),
        *(measured("cuvee", turn, p50_s=p50_s) for turn, p50_s in enumerate((0.002, 0.103))),
    ]

    rows = results.summarise(measurements)

    added = row(rows, "cuvee").added_p50_ms
    assert added is not None
    assert (added.low, added.high) == pytest.approx((1.0, 2.0))
    assert row(rows, "direct").added_p50_ms is None


def test_scenarios_are_kept_apart_and_in_order():
    """Chunks are never averaged with requests."""
    measurements = [
        measured("direct"),
        measured("haproxy", cpu_s=0.02),
        measured("direct", scenario=STREAMS),
        measured("haproxy", scenario=STREAMS, cpu_s=0.04),
    ]

    rows = results.summarise(measurements)

    assert [(r.scenario, r.setup, r.unit) for r in rows] == [
        ("unary", "direct", "request"),
        ("unary", "haproxy", "request"),
        ("streams", "direct", "chunk"),
        ("streams", "haproxy", "chunk"),
    ]
    assert row(rows, "haproxy").cpu_us == MedianRange(median=20.0, low=20.0, high=20.0)
    assert row(rows, "haproxy", "streams").cpu_us == MedianRange(median=40.0, low=40.0, high=40.0)


def test_without_haproxy_there_is_no_ratio():
    """What was not measured is not compared with."""
    rows = results.summarise([measured("direct"), measured("cuvee", cpu_s=0.1)])

    assert row(rows, "cuvee").ratio is None


def test_ratios_refer_to_the_set_up_that_is_named():
    """Any set-up can be the measure of the others, and each peer is put in times of ours."""
    measurements = [
        measured(n, cpu_s=c) for n, c in (("haproxy", 0.01), ("nginx", 0.02), ("cuvee", 0.04))
    ]

    rows = results.summarise(measurements, against="nginx")

    assert [r.ratio for r in rows] == [0.5, 1.0, 2.0]
    assert results.cpu_ratios(rows, "cuvee") == {"unary": {"haproxy": 0.25, "nginx": 0.5}}
    assert results.cpu_ratios(rows, "direct") == {}


def test_memory_per_stream_is_what_is_held_above_idle():
    """At its least: later rounds find what earlier ones left. Unary traffic has no such figure."""
    measurements = [
        measured("cuvee", memory_mib=50.0),
        measured("cuvee", scenario=STREAMS, memory_mib=51.0),
        measured("cuvee", 1, scenario=STREAMS, memory_mib=99.0),
        measured("direct", scenario=STREAMS),
    ]

    rows = results.summarise(measurements, idle_mib={"cuvee": 41.0})

    assert row(rows, "cuvee", "streams").kib_per_stream == pytest.approx(102.4)
    assert row(rows, "cuvee").kib_per_stream is None
    assert row(rows, "direct", "streams").kib_per_stream is None


def test_a_rate_near_the_direct_one_is_marked():
    """What the bench could not outrun by a quarter was measured on the bench."""
    busy = replace(UNARY, connections=64)
    measurements = [
        measured(n, scenario=busy, units=u) for n, u in (("direct", 120), ("a", 90), ("b", 100))
    ]

    assert [r.limited for r in results.summarise(measurements)] == [False, False, True]
    lone = [replace(m, scenario=UNARY) for m in measurements]
    assert not any(r.limited for r in results.summarise(lone))


def test_the_kernels_share_is_of_the_cpu_time():
    """User and system time together are the cost; the kernel's part of it is said."""
    kernel = row(results.summarise([measured("cuvee", cpu_s=0.4, system_s=0.1)]), "cuvee").kernel

    assert kernel == MedianRange(median=0.25, low=0.25, high=0.25)


def test_errors_of_all_rounds_are_added_and_shown():
    """A wrong reply in any round is in the row and in the JSON."""
    measurements = [
        measured("cuvee", 0, cpu_s=0.1, errors={"status 503": 2}),
        measured("cuvee", 1, cpu_s=0.1, errors={"status 503": 1, "no [DONE]": 4}),
    ]
    rows = results.summarise(measurements)
    plain = json.loads(json.dumps(results.to_json(rows, measurements)))

    assert row(rows, "cuvee").errors == {"status 503": 3, "no [DONE]": 4}
    assert plain["rows"][0]["errors"]["status 503"] == 3
    assert plain["measures"][1]["cpu_us"] == pytest.approx(100.0)


def test_what_ran_between_is_named_and_not_charged():
    """The most that nicer processes took in any round is said once for each set-up."""
    quiet = measured("cuvee", cpu_s=1.0, background_s=0.0)
    busy = measured("cuvee", 1, cpu_s=1.0, background_s=0.5)

    rows = results.summarise([quiet, busy, measured("direct")])

    cpu = row(rows, "cuvee").cpu_us
    assert cpu is not None
    assert cpu.high == pytest.approx(1000.0)
    (note,) = results.background_notes(rows)
    assert note.startswith("cuvee: ")
    assert "0.25 cores" in note
    assert results.background_notes(results.summarise([quiet])) == []

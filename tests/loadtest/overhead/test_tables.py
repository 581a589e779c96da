"""The tables for a terminal."""

import io
import re
from dataclasses import replace

from rich.console import Console, RenderableType

from loadtest.overhead import tables
from loadtest.overhead.results import MedianRange, ResultRow
from loadtest.overhead.stacks import ModuleShare, StackProfile

TEN = MedianRange(median=10.0, low=9.0, high=11.0)
ROW = ResultRow(
    scenario="1 KiB × 64",
    unit="request",
    setup="cuvee",
    rounds=3,
    cpu_us=TEN,
    kernel=None,
    background=None,
    ratio=0.5,
    rate=MedianRange(median=12_345.0, low=1.0, high=99_999.0),
    added_p50_ms=TEN,
    added_p99_ms=MedianRange(median=20.0, low=19.0, high=21.0),
    memory_mib=None,
    kib_per_stream=None,
    limited=False,
    errors={},
)
STREAMS = replace(ROW, scenario="100 streams", unit="chunk", memory_mib=TEN, kib_per_stream=10.0)


def shown(table: RenderableType) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return text.getvalue()


def test_a_row_shows_every_figure_and_every_error():
    """Cost with its range, ratio, rate, added latency; a wrong reply cannot be overlooked."""
    text = shown(
        tables.results_table([ROW, replace(ROW, setup="a", errors={"status 503": 3})], "nginx")
    )

    for part in ("10.0 (9.0–11.0)", "× nginx", "0.50", "12,345", "10.00 / 20.00"):
        assert part in text
    assert "3 × status 503" in text


def test_capacity_is_what_a_core_carries_without_being_full():
    """10 µs of a request: 60,000 of them take 60 % of a core; of a chunk: 1,500 streams of 40."""
    other = replace(ROW, setup="nginx", scenario="of another")
    text = shown(tables.capacity_table([ROW, STREAMS, other], "cuvee"))

    assert re.search(r"1 KiB × 64 +│? *10\.0 +│? *60,000", text)
    assert re.search(r"100 streams +│? *10\.0 +│? *– +│? *1,500", text)
    assert "of another" not in text


def test_a_rate_that_the_bench_limited_is_marked():
    """It is no figure of the proxy."""
    assert "< 12,345" in shown(tables.results_table([replace(ROW, limited=True)], "haproxy"))


def test_memory_is_shown_idle_and_under_streams():
    """Set-ups that did not run under some number of streams have a gap there."""
    text = shown(tables.memory_table([ROW, STREAMS], {"cuvee": 41.0, "nginx": 12.0}))

    assert "10 (10.0)" in text
    assert "41" in text
    assert "–" in text


def test_the_summary_puts_peers_in_times_of_ours():
    """One line per scenario, one column per peer."""
    text = shown(tables.ratios_table({"a": {"haproxy": 0.25}, "b": {"litellm": 80.0}}, "cuvee"))

    assert "0.25" in text
    assert "80.00" in text


def test_a_profile_says_how_much_it_rests_on():
    """Modules with their functions, the kernel's share, and the number of samples."""
    module = ModuleShare(name="gateway/x", share=0.5, us=20.0, functions=(("f", 0.25),))
    profile = StackProfile(unit="request", samples=77, cpu_us=40.0, kernel=0.3, stages=(module,))

    text = shown(tables.profile_table(profile, "1 KiB × 64"))

    for part in ("gateway/x", "50.0%", "20.0", "25.0%", "10.0", "30% of it", "77 samples"):
        assert part in text

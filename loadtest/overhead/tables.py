"""The overhead benchmark's results as tables for a terminal. Pure output."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from loadtest.overhead.hold import HoldRow
from loadtest.overhead.results import MedianRange, ResultRow
from loadtest.overhead.stacks import StackProfile

PROFILE_COLUMNS = 72
BUSY = 0.6  # of a core: with more, requests wait for one another (docs/capacity.md)
TOKENS_PER_S = 40  # of a stream, one in each chunk: a TPOT of 25 ms


def results_table(rows: Sequence[ResultRow], against: str) -> Table:
    """Medians over rounds, the CPU with its range; `<` marks a rate that the bench limited."""
    table = _table("Overhead: medians over rounds (min–max)", "set-up")
    for heading in ("CPU µs", f"× {against}", "per second", "added ms p50/p99", "errors"):
        table.add_column(heading, justify="right", no_wrap=heading != "errors")
    scenario = None
    for row in rows:
        if row.scenario != scenario:
            table.add_section()
            table.add_row(f"[bold]{row.scenario}[/bold]", f"per {row.unit}")
            scenario = row.scenario
        added = (row.added_p50_ms, row.added_p99_ms)
        table.add_row(
            f"  {row.setup}",
            _range(row.cpu_us),
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            f"{'< ' if row.limited else ''}{row.rate.median:,.0f}",
            "–" if None in added else " / ".join(f"{ms.median:.2f}" for ms in added if ms),
            ", ".join(f"{count} × {error}" for error, count in row.errors.items()) or "0",
        )
    return table


def memory_table(rows: Sequence[ResultRow], idle_mib: Mapping[str, float]) -> Table:
    """Memory of each set-up, idle and under each number of streams."""
    table = _table("Memory, MiB (KiB per stream above idle)", "set-up")
    streams = dict.fromkeys(row.scenario for row in rows if row.unit == "chunk")
    for heading in ("idle", *streams):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, idle in idle_mib.items():
        own = {row.scenario: row for row in rows if row.setup == name}
        table.add_row(name, f"{idle:.0f}", *(_memory(own.get(scenario)) for scenario in streams))
    return table


def ratios_table(ratios: Mapping[str, Mapping[str, float]], setup: str) -> Table:
    """CPU of each peer in times that of `setup`, by scenario."""
    table = _table(f"CPU of each, in times that of {setup}", "scenario")
    names = dict.fromkeys(name for others in ratios.values() for name in others)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for scenario, others in ratios.items():
        table.add_row(scenario, *(f"{others[n]:.2f}" if n in others else "–" for n in names))
    return table


def capacity_table(rows: Sequence[ResultRow], setup: str) -> Table:
    """What one core of a set-up carries, by scenario: requests per second, or streams that get
    `TOKENS_PER_S` each, while it is busy for `BUSY` of the time."""
    table = _table(f"One core of {setup}, {BUSY:.0%} busy", "scenario")
    for heading in ("CPU µs", "requests/s", f"streams of {TOKENS_PER_S} tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.setup == setup and row.cpu_us is not None:
            units = BUSY * 1e6 / row.cpu_us.median  # per second
            streamed = row.unit == "chunk"
            cells = ("–", f"{units / TOKENS_PER_S:,.0f}") if streamed else (f"{units:,.0f}", "–")
            table.add_row(row.scenario, f"{row.cpu_us.median:.1f}", *cells)
    return table


def hold_table(rows: Sequence[HoldRow]) -> Table:
    """Latency of small requests beside large ones. CPU ms: of the longest step of reading one."""
    table = _table(
        "Latency of small requests, ms, beside one large request after another", "beside"
    )
    for heading in ("KiB", "CPU ms", "answered", "small", "p50", "p99", "most", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        latencies = [f"{1e3 * s:.1f}" for s in (row.p50_s, row.p99_s, row.most_s)]
        size = f"{row.body_bytes / 1024:,.0f}"
        table.add_row(
            row.kind,
            size,
            f"{1e3 * row.step_s:.1f}",
            f"{row.large:,}",
            f"{row.small:,}",
            *latencies,
            f"{row.errors}",
        )
    return table


def profile_table(profile: StackProfile, scenario: str) -> Table:
    """Where the CPU time goes: modules, and the functions in them that take most."""
    table = _table(f"Where the time goes: {scenario}, per {profile.unit}", "stage")
    table.caption = (
        f"{profile.cpu_us:.1f} µs, {profile.kernel:.0%} of it in the kernel; "
        f"{profile.samples} samples"
    )
    table.min_width = PROFILE_COLUMNS
    for heading in ("share", "µs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for module in profile.stages:
        table.add_row(f"[bold]{module.name}[/bold]", f"{module.share:.1%}", f"{module.us:.1f}")
        for name, share in module.functions:
            table.add_row(f"  {name}", f"{share:.1%}", f"{module.us * share / module.share:.1f}")
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    return table


def _memory(row: ResultRow | None) -> str:
    if row is None or row.memory_mib is None:
        return "–"
    per_stream = "" if row.kib_per_stream is None else f" ({row.kib_per_stream:.1f})"
    return f"{row.memory_mib.median:.0f}{per_stream}"


def _range(value: MedianRange | None) -> str:
    return "–" if value is None else f"{value.median:.1f} ({value.low:.1f}–{value.high:.1f})"

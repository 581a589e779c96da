"""What the overhead benchmark found, for a terminal."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from loadtest.overhead.measure import Figure, MeasureRow
from loadtest.overhead.stacks import StackProfile

PROFILE_COLUMNS = 72


def figures(rows: Sequence[MeasureRow], against: str) -> Table:
    """Medians over rounds, the CPU with its range; `<` marks a rate that the bench limited."""
    shown = _table("Overhead: medians over rounds (min–max)", "set-up")
    for heading in ("CPU µs", f"× {against}", "per second", "added ms p50/p99", "errors"):
        shown.add_column(heading, justify="right", no_wrap=heading != "errors")
    last = None
    for row in rows:
        if row.scenario != last:
            shown.add_section()
            shown.add_row(f"[bold]{row.scenario}[/bold]", f"per {row.unit}")
            last = row.scenario
        added = (row.added_p50_ms, row.added_p99_ms)
        shown.add_row(
            f"  {row.setup}",
            _text(row.cpu_us),
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            f"{'< ' if row.limited else ''}{row.rate.median:,.0f}",
            "–" if None in added else " / ".join(f"{f.median:.2f}" for f in added if f),
            ", ".join(f"{count} × {kind}" for kind, count in row.errors.items()) or "0",
        )
    return shown


def memory(rows: Sequence[MeasureRow], idle_mib: Mapping[str, float]) -> Table:
    """Memory idle and under each number of streams."""
    shown = _table("Memory, MiB (KiB per stream above idle)", "set-up")
    streams = dict.fromkeys(row.scenario for row in rows if row.unit == "chunk")
    for heading in ("idle", *streams):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, idle in idle_mib.items():
        under = {row.scenario: row for row in rows if row.setup == name}
        shown.add_row(name, f"{idle:.0f}", *(_held(under.get(scenario)) for scenario in streams))
    return shown


def summary(ratios: Mapping[str, Mapping[str, float]], setup: str) -> Table:
    """How many times our CPU each peer uses."""
    shown = _table(f"CPU of each, in times that of {setup}", "scenario")
    names = dict.fromkeys(name for others in ratios.values() for name in others)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    for scenario, others in ratios.items():
        shown.add_row(scenario, *(f"{others[n]:.2f}" if n in others else "–" for n in names))
    return shown


def profile(found: StackProfile, scenario: str) -> Table:
    """Where the time goes: modules, and the functions in them that take most."""
    shown = _table(f"Where the time goes: {scenario}, per {found.unit}", "stage")
    shown.caption = (
        f"{found.cpu_us:.1f} µs, {found.kernel:.0%} of it in the kernel; {found.samples} samples"
    )
    shown.min_width = PROFILE_COLUMNS
    for heading in ("share", "µs"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for stage in found.stages:
        shown.add_row(f"[bold]{stage.name}[/bold]", f"{stage.share:.1%}", f"{stage.us:.1f}")
        for name, share in stage.functions:
            shown.add_row(f"  {name}", f"{share:.1%}", f"{stage.us * share / stage.share:.1f}")
    return shown


def _table(title: str, first: str) -> Table:
    shown = Table(title=title, title_justify="left")
    shown.add_column(first, no_wrap=True)
    return shown


def _held(row: MeasureRow | None) -> str:
    if row is None or row.memory_mib is None:
        return "–"
    each = "" if row.kib_per_stream is None else f" ({row.kib_per_stream:.1f})"
    return f"{row.memory_mib.median:.0f}{each}"


def _text(value: Figure | None) -> str:
    return "–" if value is None else f"{value.median:.1f} ({value.low:.1f}–{value.high:.1f})"

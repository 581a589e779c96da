"""The overhead benchmark's results as Markdown: one table per figure, a column per set-up.

These are the tables of docs/performance.md. Pure output.
"""

from collections.abc import Callable, Mapping, Sequence

from loadtest.overhead.results import DIRECT, MedianRange, ResultRow, background_notes

WRONG = "†"  # marks the figures of a run with a wrong reply


def to_markdown(
    rows: Sequence[ResultRow], idle_mib: Mapping[str, float], versions: Mapping[str, str]
) -> str:
    """The tables, and under them the errors and the versions. idle_mib, versions: by set-up."""
    names = list(dict.fromkeys(row.setup for row in rows))
    proxies = [name for name in names if name != DIRECT]
    streams = [row for row in rows if row.unit == "chunk"]
    tables = (
        ("CPU µs per request or chunk: median (min–max)", _grid(rows, proxies, _cpu)),
        ("Times the reference", _grid(rows, proxies, _ratio)),
        (
            "Added milliseconds, p50 / p99 (streams: to the first event)",
            _grid(rows, proxies, _added),
        ),
        ("Per second; < where the bench set the rate", _grid(rows, names, _rate)),
        ("MiB (KiB per stream above idle)", _memory_grid(streams, proxies, idle_mib)),
    )
    text = "\n".join(f"**{title}**\n\n" + "\n".join(lines) + "\n" for title, lines in tables)
    wrong = {(row.setup, row.scenario): row.errors for row in rows if row.errors}
    notes = [
        f"{WRONG} {setup}, {scenario}: "
        + ", ".join(f"{n} × {error}" for error, n in errors.items())
        for (setup, scenario), errors in wrong.items()
    ]
    notes += [f"{note[0].upper()}{note[1:]}." for note in background_notes(rows)]
    stated = "; ".join(f"{name} {version}" for name, version in versions.items() if version)
    return "\n\n".join((text, *notes, f"Versions: {stated}.")) + "\n"


def _grid(
    rows: Sequence[ResultRow], names: Sequence[str], cell: Callable[[ResultRow], str]
) -> list[str]:
    """A line per scenario, a column per set-up."""
    lines = [_line(["", *names]), "|---|" + "---:|" * len(names)]
    for scenario in dict.fromkeys(row.scenario for row in rows):
        by_setup = {row.setup: row for row in rows if row.scenario == scenario}
        cells = [
            cell(by_setup[name]) + (WRONG if by_setup[name].errors else "")
            if name in by_setup
            else "–"
            for name in names
        ]
        lines.append(_line([scenario, *cells]))
    return lines


def _memory_grid(
    streams: Sequence[ResultRow], names: Sequence[str], idle_mib: Mapping[str, float]
) -> list[str]:
    """A line for idle memory, then one per number of streams."""
    idle = [f"{idle_mib[name]:.0f}" if name in idle_mib else "–" for name in names]
    head, rule, *lines = _grid(streams, names, _memory)
    return [head, rule, _line(["idle", *idle]), *lines]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cpu(row: ResultRow) -> str:
    return "–" if row.cpu_us is None else _range(row.cpu_us)


def _ratio(row: ResultRow) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}"


def _added(row: ResultRow) -> str:
    if row.added_p50_ms is None or row.added_p99_ms is None:
        return "–"
    return f"{row.added_p50_ms.median:.2f} / {row.added_p99_ms.median:.2f}"


def _rate(row: ResultRow) -> str:
    return f"{'< ' if row.limited else ''}{row.rate.median:,.0f}"


def _memory(row: ResultRow) -> str:
    if row.memory_mib is None:
        return "–"
    per_stream = "" if row.kib_per_stream is None else f" ({row.kib_per_stream:.1f})"
    return f"{row.memory_mib.median:.0f}{per_stream}"


def _range(value: MedianRange) -> str:
    digits = 1 if value.median < 1000 else 0
    if value.low == value.high:
        return f"{value.median:,.{digits}f}"
    return f"{value.median:,.{digits}f} ({value.low:,.{digits}f}–{value.high:,.{digits}f})"

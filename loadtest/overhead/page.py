"""What the overhead benchmark found, as Markdown: one table per figure, a column per set-up."""

from collections.abc import Callable, Mapping, Sequence

from loadtest.overhead.measure import DIRECT, Figure, MeasureRow

WRONG = "†"


def page(
    rows: Sequence[MeasureRow], idle_mib: Mapping[str, float], versions: Mapping[str, str]
) -> str:
    """The tables that docs/performance.md shows. versions: by set-up."""
    names = list(dict.fromkeys(row.setup for row in rows))
    proxies = [name for name in names if name != DIRECT]
    streams = [row for row in rows if row.unit == "chunk"]
    parts = (
        ("CPU µs per request or chunk: median (min–max)", _grid(rows, proxies, _cpu)),
        (
            "Times the reference",
            _grid(rows, proxies, _ratio),
        ),
        (
            "Added milliseconds, p50 / p99 (streams: to the first event)",
            _grid(rows, proxies, _added),
        ),
        ("Per second; < where the bench set the rate", _grid(rows, names, _rate)),
        ("MiB (KiB per stream above idle)", _held(streams, proxies, idle_mib)),
    )
    text = "\n".join(f"**{title}**\n\n" + "\n".join(lines) + "\n" for title, lines in parts)
    wrong = {(row.setup, row.scenario): row.errors for row in rows if row.errors}
    notes = [
        f"{WRONG} {setup}, {scenario}: " + ", ".join(f"{n} × {kind}" for kind, n in errors.items())
        for (setup, scenario), errors in wrong.items()
    ]
    said = "; ".join(f"{name} {version}" for name, version in versions.items() if version)
    return "\n\n".join((text, *notes, f"Versions: {said}.")) + "\n"


def _grid(
    rows: Sequence[MeasureRow], names: Sequence[str], cell: Callable[[MeasureRow], str]
) -> list[str]:
    """A line per scenario, a column per set-up."""
    lines = [_line(["", *names]), "|---|" + "---:|" * len(names)]
    for scenario in dict.fromkeys(row.scenario for row in rows):
        found = {row.setup: row for row in rows if row.scenario == scenario}
        cells = [
            cell(found[name]) + (WRONG if found[name].errors else "") if name in found else "–"
            for name in names
        ]
        lines.append(_line([scenario, *cells]))
    return lines


def _held(
    streams: Sequence[MeasureRow], names: Sequence[str], idle_mib: Mapping[str, float]
) -> list[str]:
    idle = [f"{idle_mib[name]:.0f}" if name in idle_mib else "–" for name in names]
    head, rule, *lines = _grid(streams, names, _memory)
    return [head, rule, _line(["idle", *idle]), *lines]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cpu(row: MeasureRow) -> str:
    return "–" if row.cpu_us is None else _figure(row.cpu_us)


def _ratio(row: MeasureRow) -> str:
    return "–" if row.ratio is None else f"{row.ratio:.2f}"


def _added(row: MeasureRow) -> str:
    if row.added_p50_ms is None or row.added_p99_ms is None:
        return "–"
    return f"{row.added_p50_ms.median:.2f} / {row.added_p99_ms.median:.2f}"


def _rate(row: MeasureRow) -> str:
    return f"{'< ' if row.limited else ''}{row.rate.median:,.0f}"


def _memory(row: MeasureRow) -> str:
    if row.memory_mib is None:
        return "–"
    each = "" if row.kib_per_stream is None else f" ({row.kib_per_stream:.1f})"
    return f"{row.memory_mib.median:.0f}{each}"


def _figure(value: Figure) -> str:
    digits = 1 if value.median < 1000 else 0
    if value.low == value.high:
        return f"{value.median:,.{digits}f}"
    return f"{value.median:,.{digits}f} ({value.low:,.{digits}f}–{value.high:,.{digits}f})"

"""The arithmetic of the overhead benchmark: measures in, rows of a table out. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich.table import Table

DIRECT = "direct"
REFERENCE = "haproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of traffic. interval_s: between the chunks of a stream, `None` for unary replies."""

    name: str
    connections: int
    body_bytes: int
    interval_s: float | None = None

    @property
    def unit(self) -> str:
        return "request" if self.interval_s is None else "chunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One set-up under one scenario in one round.

    units: requests or chunks completed within window_s. cpu_s: of the proxy's process tree in that
    time, `None` without a proxy. p50_s, p99_s: of a whole unary exchange, or to a stream's first
    event. errors: by kind.
    """

    setup: str
    scenario: Scenario
    turn: int
    units: int
    window_s: float
    cpu_s: float | None
    p50_s: float | None
    p99_s: float | None
    errors: dict[str, int]

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds per unit."""
        return 1e6 * self.cpu_s / self.units if self.cpu_s is not None and self.units else None

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Median and range over rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One set-up under one scenario over all rounds; `None` where there is nothing to say.

    ratio: its median CPU over HAProxy's. added_p50_ms, added_p99_ms: latency less the direct one of
    the same round. errors: by kind, over all rounds.
    """

    scenario: str
    unit: str
    setup: str
    rounds: int
    cpu_us: Figure | None
    ratio: float | None
    rate: Figure
    added_p50_ms: Figure | None
    added_p99_ms: Figure | None
    errors: dict[str, int]


def figure(values: Sequence[float | None]) -> Figure | None:
    """Over the values that are known; `None` if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Figure(median=median(known), low=min(known), high=max(known))


def summarise(measures: Sequence[Measure]) -> tuple[Row, ...]:
    """One row per scenario and set-up, in the order in which they first appear."""
    scenarios = dict.fromkeys(measure.scenario for measure in measures)
    setups = dict.fromkeys(measure.setup for measure in measures)
    return tuple(
        _row([m for m in measures if m.scenario == scenario], setup)
        for scenario in scenarios
        for setup in setups
    )


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal: medians over rounds, the CPU with its range."""
    shown = Table(title="Overhead: medians over rounds (min–max)", title_justify="left")
    shown.add_column("set-up", no_wrap=True)
    for heading in ("CPU µs", "× HAProxy", "per second", "added ms p50/p99", "errors"):
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
            f"{row.rate.median:,.0f}",
            "–" if None in added else " / ".join(f"{f.median:.2f}" for f in added if f),
            ", ".join(f"{count} × {kind}" for kind, count in row.errors.items()) or "0",
        )
    return shown


def to_json(rows: Sequence[Row], measures: Sequence[Measure]) -> dict[str, object]:
    """Rows, and the single measures under them, as plain JSON values."""
    return {
        "rows": [asdict(row) for row in rows],
        "measures": [asdict(measure) | {"cpu_us": measure.cpu_us} for measure in measures],
    }


def _row(measures: Sequence[Measure], setup: str) -> Row:
    """measures: of one scenario, every set-up."""
    own = [measure for measure in measures if measure.setup == setup]
    cpu = figure([measure.cpu_us for measure in own])
    other = figure([measure.cpu_us for measure in measures if measure.setup == REFERENCE])
    rate = figure([measure.rate for measure in own])
    direct = {measure.turn: measure for measure in measures if measure.setup == DIRECT}
    errors: Counter[str] = Counter()
    for measure in own:
        errors.update(measure.errors)
    return Row(
        scenario=measures[0].scenario.name,
        unit=measures[0].scenario.unit,
        setup=setup,
        rounds=len(own),
        cpu_us=cpu,
        ratio=cpu.median / other.median if cpu and other and other.median else None,
        rate=rate or Figure(median=0.0, low=0.0, high=0.0),
        added_p50_ms=_added(own, direct, lambda measure: measure.p50_s),
        added_p99_ms=_added(own, direct, lambda measure: measure.p99_s),
        errors=dict(errors),
    )


def _added(
    own: Sequence[Measure],
    direct: dict[int, Measure],
    value: Callable[[Measure], float | None],
) -> Figure | None:
    added = []
    for measure in own:
        base = direct.get(measure.turn)
        if base is None or base is measure:
            continue
        mine, theirs = value(measure), value(base)
        if mine is not None and theirs is not None:
            added.append(1e3 * (mine - theirs))
    return figure(added)


def _text(value: Figure | None) -> str:
    return "–" if value is None else f"{value.median:.1f} ({value.low:.1f}–{value.high:.1f})"

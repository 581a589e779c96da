"""The arithmetic of the overhead benchmark: measures in, rows out. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from loadtest.overhead.scenarios import Scenario

DIRECT = "direct"
REFERENCE = "haproxy"
CLEARLY_MORE = 1.25  # direct must do so many times what a proxy does, or the bench was the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One set-up under one scenario in one round.

    units: requests or chunks completed within window_s. cpu_s: of the proxy's process tree in that
    time, system_s of it in the kernel, memory_mib: at its beginning; `None` without a proxy. p50_s,
    p99_s: of a whole unary exchange, or to a stream's first event. errors: by kind.
    """

    setup: str
    scenario: Scenario
    turn: int
    units: int
    window_s: float
    cpu_s: float | None
    system_s: float | None = None
    memory_mib: float | None = None
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
class MeasureRow:
    """One set-up under one scenario over all rounds; `None` where there is nothing to say.

    kernel: the share of its CPU spent in the kernel. ratio: its median CPU over the reference's.
    added_p50_ms, added_p99_ms: latency less the direct one of the same round. kib_per_stream: above
    its idle memory, in the round where that is least: allocators keep what they once had. limited:
    it did nearly what a direct connection did, so its rate is not its own. errors: by kind, over
    all rounds.
    """

    scenario: str
    unit: str
    setup: str
    rounds: int
    cpu_us: Figure | None
    kernel: Figure | None
    ratio: float | None
    rate: Figure
    added_p50_ms: Figure | None
    added_p99_ms: Figure | None
    memory_mib: Figure | None
    kib_per_stream: float | None
    limited: bool
    errors: dict[str, int]


def figure(values: Sequence[float | None]) -> Figure | None:
    """Over the values that are known; `None` if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Figure(median=median(known), low=min(known), high=max(known))


def summarise(
    measures: Sequence[Measure],
    *,
    against: str = REFERENCE,
    idle_mib: Mapping[str, float] | None = None,
) -> tuple[MeasureRow, ...]:
    """One row per scenario and set-up, in the order in which they first appear.

    against: the set-up that ratios refer to. idle_mib: memory by set-up before any load.
    """
    scenarios = dict.fromkeys(measure.scenario for measure in measures)
    setups = dict.fromkeys(measure.setup for measure in measures)
    return tuple(
        _row(taken, setup, against, (idle_mib or {}).get(setup))
        for scenario in scenarios
        for setup in setups
        if (taken := [m for m in measures if m.scenario == scenario])
        and any(m.setup == setup for m in taken)
    )


def ratios(rows: Sequence[MeasureRow], setup: str) -> dict[str, dict[str, float]]:
    """How many times the CPU of `setup` each other one used, by scenario and name."""
    found: dict[str, dict[str, float]] = {}
    for own in rows:
        if own.setup != setup or own.cpu_us is None or not own.cpu_us.median:
            continue
        found[own.scenario] = {
            row.setup: row.cpu_us.median / own.cpu_us.median
            for row in rows
            if row.scenario == own.scenario and row.setup != setup and row.cpu_us
        }
    return found


def to_json(rows: Sequence[MeasureRow], measures: Sequence[Measure]) -> dict[str, object]:
    """Rows, and the single measures under them, as plain JSON values."""
    return {
        "rows": [asdict(row) for row in rows],
        "measures": [asdict(measure) | {"cpu_us": measure.cpu_us} for measure in measures],
    }


def _row(
    measures: Sequence[Measure], setup: str, against: str, idle_mib: float | None
) -> MeasureRow:
    """measures: of one scenario, every set-up."""
    own = [measure for measure in measures if measure.setup == setup]
    direct = {measure.turn: measure for measure in measures if measure.setup == DIRECT}
    scenario = own[0].scenario
    cpu = figure([measure.cpu_us for measure in own])
    other = figure([measure.cpu_us for measure in measures if measure.setup == against])
    rate = figure([measure.rate for measure in own]) or Figure(median=0.0, low=0.0, high=0.0)
    best = figure([measure.rate for measure in direct.values()])
    errors: Counter[str] = Counter()
    for measure in own:
        errors.update(measure.errors)
    return MeasureRow(
        scenario=scenario.name,
        unit=scenario.unit,
        setup=setup,
        rounds=len(own),
        cpu_us=cpu,
        kernel=figure([m.system_s / m.cpu_s if m.system_s and m.cpu_s else None for m in own]),
        ratio=cpu.median / other.median if cpu and other and other.median else None,
        rate=rate,
        added_p50_ms=_added(own, direct, lambda measure: measure.p50_s),
        added_p99_ms=_added(own, direct, lambda measure: measure.p99_s),
        memory_mib=figure([measure.memory_mib for measure in own]),
        kib_per_stream=_per_stream(own, idle_mib),
        limited=(
            scenario.saturating
            and setup != DIRECT
            and best is not None
            and best.median < CLEARLY_MORE * rate.median
        ),
        errors=dict(errors),
    )


def _per_stream(own: Sequence[Measure], idle_mib: float | None) -> float | None:
    held_mib = [m.memory_mib for m in own if m.scenario.streamed and m.memory_mib is not None]
    if idle_mib is None or not held_mib:
        return None
    return 1024 * (min(held_mib) - idle_mib) / own[0].scenario.connections


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

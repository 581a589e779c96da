"""The arithmetic of the overhead benchmark: measurements in, rows out. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from loadtest.overhead.scenarios import Scenario

DIRECT = "direct"
REFERENCE = "haproxy"
# Where direct does less than so many times what a proxy does, the load generator or the mock was
# the limit: the proxy waited now and then, and its cost per request is that of a proxy that waits.
DIRECT_MARGIN = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One set-up under one scenario in one round.

    turn: the round, from 0. units: requests or chunks completed within window_s.
    cpu_s, system_s: of the proxy's process tree in that time, all of it and in the kernel, but
    without background_s: that of nicer processes, our planner's, which run between the others.
    memory_mib: just before that time. All are `None` without a proxy.
    p50_s, p99_s: of a whole unary exchange, or to a stream's first event. errors: by kind.
    """

    setup: str
    scenario: Scenario
    turn: int
    units: int
    window_s: float
    cpu_s: float | None
    system_s: float | None = None
    background_s: float | None = None
    memory_mib: float | None = None
    p50_s: float | None
    p99_s: float | None
    errors: dict[str, int]

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds per unit. Those of a chunk contain its part of the request around it."""
        return 1e6 * self.cpu_s / self.units if self.cpu_s is not None and self.units else None

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianRange:
    """Median, least and largest value over rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One set-up under one scenario over all rounds; `None` where nothing was measured.

    kernel: share of its CPU time spent in the kernel. background: cores that its nicer processes
    took beside it. ratio: its median CPU over the reference's.
    added_p50_ms, added_p99_ms: latency less the direct one of the same round.
    kib_per_stream: above its idle memory, in the round where that is least: allocators keep what
    they once had. limited: it did nearly what a direct connection did, so its rate is not its own.
    errors: by kind, over all rounds.
    """

    scenario: str
    unit: str
    setup: str
    rounds: int
    cpu_us: MedianRange | None
    kernel: MedianRange | None
    background: MedianRange | None
    ratio: float | None
    rate: MedianRange
    added_p50_ms: MedianRange | None
    added_p99_ms: MedianRange | None
    memory_mib: MedianRange | None
    kib_per_stream: float | None
    limited: bool
    errors: dict[str, int]


def median_range(values: Sequence[float | None]) -> MedianRange | None:
    """Median and range of the known values; `None` if none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return MedianRange(median=median(known), low=min(known), high=max(known))


def summarise(
    measurements: Sequence[Measurement],
    *,
    against: str = REFERENCE,
    idle_mib: Mapping[str, float] | None = None,
) -> tuple[ResultRow, ...]:
    """One row per scenario and set-up, in the order in which they first appear.

    against: the set-up that ratios refer to. idle_mib: memory by set-up before any load.
    """
    scenarios = dict.fromkeys(measurement.scenario for measurement in measurements)
    setups = dict.fromkeys(measurement.setup for measurement in measurements)
    return tuple(
        _row(of_scenario, setup, against, (idle_mib or {}).get(setup))
        for scenario in scenarios
        for setup in setups
        if (of_scenario := [m for m in measurements if m.scenario == scenario])
        and any(m.setup == setup for m in of_scenario)
    )


def cpu_ratios(rows: Sequence[ResultRow], setup: str) -> dict[str, dict[str, float]]:
    """CPU of every other set-up divided by that of `setup`, by scenario and name."""
    ratios: dict[str, dict[str, float]] = {}
    for own in rows:
        if own.setup != setup or own.cpu_us is None or not own.cpu_us.median:
            continue
        ratios[own.scenario] = {
            row.setup: row.cpu_us.median / own.cpu_us.median
            for row in rows
            if row.scenario == own.scenario and row.setup != setup and row.cpu_us
        }
    return ratios


def background_notes(rows: Sequence[ResultRow]) -> list[str]:
    """A sentence for each set-up with nicer processes: what they took beside the figures."""
    most: dict[str, float] = {}
    for row in rows:
        if row.background and row.background.high:
            most[row.setup] = max(row.background.high, most.get(row.setup, 0.0))
    return [
        f"{setup}: processes at a lower priority (its planner) took up to {cores:.2f} cores "
        "between; they are not in its CPU"
        for setup, cores in most.items()
    ]


def to_json(rows: Sequence[ResultRow], measurements: Sequence[Measurement]) -> dict[str, object]:
    """Rows, and the single measurements under them, as plain JSON values."""
    return {
        "rows": [asdict(row) for row in rows],
        "measures": [asdict(m) | {"cpu_us": m.cpu_us} for m in measurements],
    }


def _row(
    measurements: Sequence[Measurement], setup: str, against: str, idle_mib: float | None
) -> ResultRow:
    """The row of `setup`. measurements: of one scenario, every set-up."""
    own = [m for m in measurements if m.setup == setup]
    direct = {m.turn: m for m in measurements if m.setup == DIRECT}
    scenario = own[0].scenario
    cpu = median_range([m.cpu_us for m in own])
    reference = median_range([m.cpu_us for m in measurements if m.setup == against])
    rate = median_range([m.rate for m in own]) or MedianRange(median=0.0, low=0.0, high=0.0)
    direct_rate = median_range([m.rate for m in direct.values()])
    errors: Counter[str] = Counter()
    for measurement in own:
        errors.update(measurement.errors)
    return ResultRow(
        scenario=scenario.name,
        unit=scenario.unit,
        setup=setup,
        rounds=len(own),
        cpu_us=cpu,
        kernel=median_range(
            [m.system_s / m.cpu_s if m.system_s and m.cpu_s else None for m in own]
        ),
        background=median_range(
            [None if m.background_s is None else m.background_s / m.window_s for m in own]
        ),
        ratio=cpu.median / reference.median if cpu and reference and reference.median else None,
        rate=rate,
        added_p50_ms=_added_ms(own, direct, lambda m: m.p50_s),
        added_p99_ms=_added_ms(own, direct, lambda m: m.p99_s),
        memory_mib=median_range([m.memory_mib for m in own]),
        kib_per_stream=_kib_per_stream(own, idle_mib),
        limited=(
            scenario.saturating
            and setup != DIRECT
            and direct_rate is not None
            and direct_rate.median < DIRECT_MARGIN * rate.median
        ),
        errors=dict(errors),
    )


def _kib_per_stream(own: Sequence[Measurement], idle_mib: float | None) -> float | None:
    loaded_mib = [m.memory_mib for m in own if m.scenario.streamed and m.memory_mib is not None]
    if idle_mib is None or not loaded_mib:
        return None
    return 1024 * (min(loaded_mib) - idle_mib) / own[0].scenario.connections


def _added_ms(
    own: Sequence[Measurement],
    direct: dict[int, Measurement],
    latency_s: Callable[[Measurement], float | None],
) -> MedianRange | None:
    """Latency above the direct connection's of the same round.

    A machine that slows down between two rounds slows the direct connection with the proxies.
    """
    added = []
    for measurement in own:
        base = direct.get(measurement.turn)
        if base is None or base is measurement:
            continue
        through_s, direct_s = latency_s(measurement), latency_s(base)
        if through_s is not None and direct_s is not None:
            added.append(1e3 * (through_s - direct_s))
    return median_range(added)

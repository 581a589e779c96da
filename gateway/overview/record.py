"""The last hour in samples, so that a page shows it from its first moment on.

Kept whether a page is open or not: a sample is some dozen numbers, six times a minute.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.overview.promises import Kept

SAMPLE_S = 10.0  # between two samples
SAMPLES = 360  # kept: one hour
RECENT_S = 300.0  # what "now" means where a moment would be noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted since the gateway started. classes: by model and SLO class. pools: requests
    by model and pool. refusals: by reason."""

    classes: Mapping[tuple[str, str], Kept] = field(default_factory=dict)
    pools: Mapping[tuple[str, str], int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)

    def minus(self, before: "Counts") -> "Counts":
        """What came since another moment."""
        return Counts(
            classes={k: v.minus(before.classes.get(k, Kept())) for k, v in self.classes.items()},
            pools={key: n - before.pools.get(key, 0) for key, n in self.pools.items()},
            refusals={
                reason: number - before.refusals.get(reason, 0)
                for reason, number in self.refusals.items()
                if number > before.refusals.get(reason, 0)
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentGauges:
    """The state of one moment: dollars per hour that the plan costs, that the backends cost that
    run, and that the cheapest fleet of one GPU type would; requests that wait; sequences that
    backends hold."""

    usd_planned: float
    usd_running: float
    usd_single: float | None
    queued: int
    in_flight: int


class HourRecord:
    """The samples of the last hour. number: of the last one."""

    def __init__(self) -> None:
        self.number = 0
        self._samples: deque[dict[str, object]] = deque(maxlen=SAMPLES)
        # What was counted until each sample, for as long as `recent` looks back.
        self._marks: deque[tuple[float, Counts]] = deque(maxlen=1 + int(RECENT_S / SAMPLE_S))

    def __repr__(self) -> str:
        return f"<HourRecord of {len(self._samples)} samples>"

    def sample(self, at_s: float, counts: Counts, gauges: MomentGauges) -> None:
        """Take a sample. at_s: seconds since 1970."""
        if self._marks:
            since_s, before = self._marks[-1]
            self.number += 1
            self._samples.append(_row(at_s, at_s - since_s, counts.minus(before), gauges))
        self._marks.append((at_s, counts))

    def recent(self, at_s: float, counts: Counts) -> tuple[float, Counts]:
        """What came in the last five minutes, or since the first sample; and how many seconds
        these are."""
        if not self._marks:
            return 0.0, Counts()
        since_s, before = self._marks[0]
        return max(0.0, at_s - since_s), counts.minus(before)

    @property
    def rows(self) -> list[dict[str, object]]:
        """All samples, the oldest first."""
        return list(self._samples)

    @property
    def last(self) -> dict[str, object] | None:
        """The newest sample; `None` before the first."""
        return self._samples[-1] if self._samples else None


def _row(at_s: float, seconds: float, came: Counts, gauges: MomentGauges) -> dict[str, object]:
    """A sample in JSON. Names are short: an hour of them is sent to each page that is opened."""
    each = 1.0 / max(0.001, seconds)
    total = Kept()
    for kept in came.classes.values():
        total = total.plus(kept)
    return {
        "t": round(at_s),
        "classes": {
            name_of(*key): [kept.kept, kept.missed, kept.refused]
            for key, kept in came.classes.items()
            if kept.requests
        },
        "rate": round(total.requests * each, 3),
        "tokens": round((total.input_tokens + total.output_tokens) * each, 1),
        "refused": sum(came.refusals.values()),
        "planned": round(gauges.usd_planned, 4),
        "running": round(gauges.usd_running, 4),
        "single": None if gauges.usd_single is None else round(gauges.usd_single, 4),
        "queued": gauges.queued,
        "in_flight": gauges.in_flight,
    }


def name_of(model: str, slo_class: str) -> str:
    """A class as the page names it."""
    return f"{model} · {slo_class}"

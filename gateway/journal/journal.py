"""Keeps the journal: gives every decision its line, and sums up what came of it.

Knows no fleet, no plan's making and no disk but by what it is told.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from gateway.config.load import Loaded
from gateway.journal.entry import Entry, Happened, Kind, PlanNote, counted, note
from gateway.journal.file import JournalFile, read
from gateway.journal.tally import HOUR_S, Tally
from gateway.telemetry.stats_schema import PoolStats, Use
from planner.model.plan import Plan

KEPT_ENTRIES = 1_000  # in memory
LOOKS_S = 600.0  # for so long looks of one kind are one line


def opened(loaded: Loaded) -> "DecisionJournal":
    """The journal of a gateway with this configuration."""
    return DecisionJournal(clock=time.monotonic, wall_clock=time.time, file=file_of(loaded))


def file_of(loaded: Loaded) -> JournalFile | None:
    """Where the configuration wants it; `None`: nowhere."""
    section, path = loaded.config.gateway.journal, loaded.journal
    return None if section is None or path is None else JournalFile(path, section.file_bytes)


class Looks:
    """Looks in a row of which the same came."""

    def __init__(self, cause: str, at: str, now_s: float) -> None:
        self.cause, self.since, self.since_s = cause, at, now_s
        self.number = 0


class DecisionJournal:
    """The journal of one gateway. written: entries since it was opened. plan: in force; `None`
    before the gateway serves."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        file: JournalFile | None = None,
    ) -> None:
        """clock: goes on evenly. wall_clock: Unix time. file: where lines go; `None`: they are kept
        in memory only."""
        self._clock, self._wall_clock = clock, wall_clock
        self._file = file
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self.written = 0
        if file is not None:
            self._entries.extend(read(file.path))
        self.plan: PlanNote | None = None
        self._backends: dict[str, int] = {}
        self._looks: Looks | None = None
        now_s = clock()
        self._spent_s = now_s
        self._running: Mapping[str, float] = {}
        self._asleep_usd = 0.0
        self._under, self._hourly = Tally(now_s), Tally(now_s)
        self._hour = self._hour_now()

    def __repr__(self) -> str:
        return f"<DecisionJournal of {len(self._entries)} entries>"

    @property
    def entries(self) -> list[Entry]:
        """The last ones, oldest first; with looks that have no line yet."""
        pending = self._pending()
        return [*self._entries] + ([] if pending is None else [pending])

    @property
    def pending(self) -> Entry | None:
        """The looks that have no line yet: what came of the last ones, and why."""
        return self._pending()

    @property
    def under(self) -> Happened:
        """What has happened under the plan in force."""
        return self._under.happened(self._clock())

    @property
    def hour(self) -> Happened:
        """What has happened in this hour of the clock."""
        return self._hourly.happened(self._clock())

    def configure(self, loaded: Loaded) -> None:
        """Write where this configuration says from now on."""
        wanted = file_of(loaded)
        if wanted == self._file:
            return
        if self._file is not None:
            self._file.close()
        self._file = wanted

    def started(self, plan: Plan, backends: Mapping[str, int]) -> None:
        """The gateway serves."""
        self.plan, self._backends = note(plan), dict(backends)
        self._write("start", plan=self.plan, backends=self._backends)

    def planned(self, plan: Plan, cause: str) -> None:
        """Another plan is in force."""
        now_s, before = self._clock(), self.plan
        self.spend(self._running, self._asleep_usd)
        self._end_looks()
        if before is not None:
            happened = self._under.happened(now_s)
            self._write("result", before=before, happened=happened)
        self._under = Tally(now_s)
        self.plan = note(plan)
        self._write("plan", cause, plan=self.plan, before=before)

    def certified(self, plan: Plan) -> None:
        """The plan in force has its certificate."""
        if self.plan is not None and self.plan.plan_id == plan.plan_id:
            self.plan = note(plan)

    def looked(self, result: str, why: str) -> None:
        """A look at the demand; one that replaced the plan has its line already."""
        if result == "replaced":
            return
        now_s, cause = self._clock(), f"{result}: {why}" if why else result
        looks = self._looks
        if looks is None or looks.cause != cause or now_s - looks.since_s >= LOOKS_S:
            self._end_looks()
            looks = self._looks = Looks(cause, self._now(), now_s)
        looks.number += 1

    def fleet(self, backends: Mapping[str, int]) -> None:
        """The backends by pool as they are now; a line if they are others than before."""
        if dict(backends) == self._backends:
            return
        cause = f"the fleet was {counted(self._backends)}"
        self._backends = dict(backends)
        self._write("backends", cause, backends=self._backends)

    def scaled(self, cause: str, backends: Mapping[str, int]) -> None:
        """Backends are started or stopped, or not. backends: by pool, that are wished."""
        self._write("scale", cause, backends=dict(backends) or None)

    def add(
        self,
        by_pool: Mapping[tuple[str, str, str], PoolStats],
        uses: Mapping[tuple[str, str, str], Use],
    ) -> None:
        """Requests that ended, by model, SLO class and pool; and by caller, model and pool."""
        self._under.add(by_pool, uses)
        self._hourly.add(by_pool, uses)

    def spend(self, running: Mapping[str, float], asleep_usd: float = 0.0) -> None:
        """What the backends cost per hour that run now, by pool, and what those of them that sleep
        add to the plan's cost; called often. Ends the hour when the clock's has ended."""
        now_s, plan = self._clock(), self.plan
        seconds, self._spent_s = now_s - self._spent_s, now_s
        self._running, self._asleep_usd = running, asleep_usd
        if plan is not None:
            for tally in (self._under, self._hourly):
                tally.spend(
                    seconds,
                    planned=plan.usd_per_hour + asleep_usd,
                    running=running,
                    single=plan.single_usd_per_hour,
                )
        if self._hour_now() != self._hour:
            self._hour = self._hour_now()
            self._write("hour", happened=self._hourly.happened(now_s))
            self._hourly = Tally(now_s)

    def close(self) -> None:
        """The gateway ends: what happened since the last lines."""
        self.spend(self._running, self._asleep_usd)
        self._end_looks()
        happened = self._under.happened(self._clock())
        self._write("stop", before=self.plan, happened=happened)
        self._write("hour", happened=self._hourly.happened(self._clock()))
        if self._file is not None:
            self._file.close()

    def _end_looks(self) -> None:
        pending, self._looks = self._pending(), None
        if pending is not None:
            self._keep(pending)

    def _pending(self) -> Entry | None:
        looks = self._looks
        if looks is None:
            return None
        return Entry(
            at=self._now(), kind="looks", cause=looks.cause, looks=looks.number, since=looks.since
        )

    def _write(self, kind: Kind, cause: str = "", **more: object) -> None:
        self._keep(Entry(at=self._now(), kind=kind, cause=cause, **more))  # type: ignore[arg-type]

    def _keep(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.written += 1
        if self._file is not None:
            self._file.add(entry)

    def _now(self) -> str:
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        return now.isoformat(timespec="seconds").replace("+00:00", "Z")

    def _hour_now(self) -> int:
        return int(self._wall_clock() // HOUR_S)

"""What callers have cost in the present day of UTC, as the bill has it. Pure.

The hours of the day are added, each by a tally of its own as the journal's lines have them. What
other gateways have of the pools is beside it, so that what a pool costs is shared by all.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from gateway.journal.entry import Entry
from gateway.journal.tally import HOUR_S, Tally
from gateway.telemetry.stats_schema import Use

DAY_S = 86_400.0
MOST_USES = 50_000  # keys and pools that are told apart
ELSEWHERE = ""  # the caller in whose name the other gateways are billed


class DaySpending:
    """Dollars by caller."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        """wall_clock: Unix time."""
        self._wall_clock = wall_clock
        now_s = wall_clock()
        self._spent_s, self._hour, self._day = now_s, now_s // HOUR_S, now_s // DAY_S
        self._done: dict[str, float] = {}
        self._tally = Tally(now_s, MOST_USES)

    def __repr__(self) -> str:
        return f"<DaySpending of day {self._day:.0f}>"

    @property
    def day(self) -> float:
        """Days since 1970."""
        return self._day

    def recall(self, entries: Iterable[Entry]) -> None:
        """Begin with what a journal has of this day, from before a restart."""
        for entry in entries:
            if entry.kind != "hour" or entry.happened is None:
                continue
            ended_s = datetime.fromisoformat(entry.at).timestamp()
            if (ended_s - 1.0) // DAY_S == self._day:  # the last hour ends at midnight
                for caller, bill in entry.happened.callers.items():
                    self._done[caller] = self._done.get(caller, 0.0) + bill.usd

    def add(self, uses: Mapping[tuple[str, str, str], Use]) -> None:
        """Add what was used here, by caller, model and pool."""
        self._tally.add({}, uses)

    def beside(self, busy: Mapping[str, float]) -> None:
        """Add seconds that other gateways had backends busy, by pool."""
        uses = {(ELSEWHERE, "", pool): (0, 0, 0, seconds) for pool, seconds in busy.items()}
        self._tally.add({}, uses)

    def spend(self, running: Mapping[str, float]) -> None:
        """What the backends cost per hour that run now, by pool; called often."""
        now_s = self._wall_clock()
        seconds, self._spent_s = max(0.0, now_s - self._spent_s), now_s
        self._tally.spend(seconds, planned=0.0, running=running, single=None)
        if now_s // HOUR_S == self._hour:
            return
        self._done, self._hour = self.usd(), now_s // HOUR_S
        self._tally = Tally(now_s, MOST_USES)
        if now_s // DAY_S != self._day:
            self._done, self._day = {}, now_s // DAY_S

    def usd(self) -> dict[str, float]:
        """Dollars of the day, by caller, until now."""
        usd = dict(self._done)
        for caller, spent in self._tally.usd_by_caller().items():
            if caller != ELSEWHERE:
                usd[caller] = usd.get(caller, 0.0) + spent
        return usd

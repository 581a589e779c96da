"""Sums up what happens between two moments: requests, promises and dollars. Pure."""

from collections.abc import Mapping

from gateway.journal.entry import Happened, ModelBill
from gateway.telemetry.stats_schema import PoolStats

HOUR_S = 3600.0
KEPT, MISSED, REFUSED = "yes", "no", "refused"  # as `Observation.met` says


class Tally:
    """The sums since one moment."""

    def __init__(self, now_s: float) -> None:
        """now_s: on any clock that goes on evenly."""
        self.since_s = now_s
        self._requests = self._kept = self._missed = self._refused = 0
        self._planned = self._running = 0.0
        self._single: float | None = None
        self._models: dict[str, ModelBill] = {}

    def __repr__(self) -> str:
        return f"<Tally of {self._requests} requests>"

    def add(self, by_pool: Mapping[tuple[str, str, str], PoolStats]) -> None:
        """Add requests that ended, by model, SLO class and pool."""
        for (model, _, _), stats in by_pool.items():
            bill = self._models.setdefault(model, ModelBill())
            bill.input_tokens += stats.input_tokens
            bill.output_tokens += stats.output_tokens
            for (_, _, met, _), number in stats.ends.items():
                bill.requests += number
                self._requests += number
                self._kept += number * (met == KEPT)
                self._missed += number * (met == MISSED)
                self._refused += number * (met == REFUSED)

    def spend(
        self, seconds: float, *, planned: float, running: float, single: float | None
    ) -> None:
        """Add dollars per hour for so many seconds."""
        self._planned += planned * seconds / HOUR_S
        self._running += running * seconds / HOUR_S
        if single is not None:
            self._single = (self._single or 0.0) + single * seconds / HOUR_S

    def happened(self, now_s: float) -> Happened:
        """The sums until now."""
        return Happened(
            seconds=round(max(0.0, now_s - self.since_s), 1),
            requests=self._requests,
            kept=self._kept,
            missed=self._missed,
            refused=self._refused,
            usd_planned=round(self._planned, 6),
            usd_running=round(self._running, 6),
            usd_single=None if self._single is None else round(self._single, 6),
            models={name: bill for name, bill in self._models.items() if bill.requests},
        )

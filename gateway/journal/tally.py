"""Sums up what happens between two moments: requests, promises and dollars. Pure.

The bill of a pool, of its backends that ran, belongs to its model, and to its callers by the time
that their requests were in its backends, each beside how many others.
"""

from collections.abc import Mapping

from gateway.journal.entry import OTHERS, CallerBill, Happened, ModelBill
from gateway.telemetry.stats_schema import UNUSED, PoolStats, Use, add_uses

HOUR_S = 3600.0
KEPT, MISSED, REFUSED = "yes", "no", "refused"  # as `Observation.met` says
CALLERS = 20  # that have a bill of their own in one line
MOST_USES = 5_000  # callers and pools that are told apart; those who come later are `OTHERS`


class Tally:
    """The sums since one moment."""

    def __init__(self, now_s: float, most_uses: int = MOST_USES) -> None:
        """now_s: on any clock that goes on evenly. most_uses: callers and pools told apart."""
        self.since_s = now_s
        self._most_uses = most_uses
        self._requests = self._kept = self._missed = self._refused = 0
        self._planned = 0.0
        self._single: float | None = None
        self._unknown = 0.0
        self._models: dict[str, ModelBill] = {}
        self._running: dict[str, float] = {}  # $ by pool
        self._uses: dict[tuple[str, str, str], Use] = {}

    def __repr__(self) -> str:
        return f"<Tally of {self._requests} requests>"

    def add(
        self,
        by_pool: Mapping[tuple[str, str, str], PoolStats],
        uses: Mapping[tuple[str, str, str], Use],
    ) -> None:
        """Add requests that ended, by model, SLO class and pool; and by caller, model and pool."""
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
        for key, use in uses.items():
            if key not in self._uses and len(self._uses) >= self._most_uses:
                key = OTHERS, key[1], key[2]
            self._uses[key] = add_uses(self._uses.get(key, UNUSED), use)

    def spend(
        self,
        seconds: float,
        *,
        planned: float,
        running: Mapping[str, float],
        single: float | None,
    ) -> None:
        """Add dollars per hour for so many seconds. running: by pool."""
        self._planned += planned * seconds / HOUR_S
        for pool, usd in running.items():
            self._running[pool] = self._running.get(pool, 0.0) + usd * seconds / HOUR_S
        if single is None:  # nothing is said to have been saved
            self._unknown += sum(running.values()) * seconds / HOUR_S
        else:
            self._single = (self._single or 0.0) + single * seconds / HOUR_S

    def happened(self, now_s: float) -> Happened:
        """The sums until now."""
        models, callers, idle = self._bills()
        return Happened(
            seconds=round(max(0.0, now_s - self.since_s), 1),
            requests=self._requests,
            kept=self._kept,
            missed=self._missed,
            refused=self._refused,
            usd_planned=round(self._planned, 6),
            usd_running=round(sum(self._running.values()), 6),
            usd_single=None if self._single is None else round(self._single + self._unknown, 6),
            usd_idle=round(idle, 6),
            models={name: bill for name, bill in models.items() if bill.requests},
            callers=_foremost(callers),
        )

    def usd_by_caller(self) -> dict[str, float]:
        """Dollars until now, by caller."""
        return {caller: bill.usd for caller, bill in self._bills()[1].items()}

    def _bills(self) -> tuple[dict[str, ModelBill], dict[str, CallerBill], float]:
        """By model and by caller, and the dollars that belong to none."""
        models = {
            name: ModelBill(
                requests=bill.requests,
                input_tokens=bill.input_tokens,
                output_tokens=bill.output_tokens,
            )
            for name, bill in self._models.items()
        }
        callers: dict[str, CallerBill] = {}
        busy: dict[str, float] = {}
        for (_, _, pool), use in self._uses.items():
            busy[pool] = busy.get(pool, 0.0) + use[3]
        for (caller, model, pool), (requests, inputs, outputs, backend_s) in self._uses.items():
            bill = callers.setdefault(caller, CallerBill())
            bill.requests += requests
            bill.input_tokens += inputs
            bill.output_tokens += outputs
            if backend_s:
                usd = self._running.get(pool, 0.0) * backend_s / busy[pool]
                bill.usd += usd
                models.setdefault(model, ModelBill()).usd += usd
        idle = sum(usd for pool, usd in self._running.items() if not busy.get(pool))
        for one in models.values():
            one.usd = round(one.usd, 6)
        for own in callers.values():
            own.usd = round(own.usd, 6)
        return models, callers, idle


def _foremost(callers: Mapping[str, CallerBill]) -> dict[str, CallerBill]:
    """The callers with the largest bills, largest first, and the others as one."""
    ordered = sorted(callers, key=lambda caller: (-callers[caller].usd, caller))
    shown = {caller: callers[caller] for caller in ordered[:CALLERS] if caller != OTHERS}
    rest = [callers[caller] for caller in ordered if caller not in shown]
    if rest:
        shown[OTHERS] = CallerBill(
            requests=sum(bill.requests for bill in rest),
            input_tokens=sum(bill.input_tokens for bill in rest),
            output_tokens=sum(bill.output_tokens for bill in rest),
            usd=round(sum(bill.usd for bill in rest), 6),
        )
    return shown

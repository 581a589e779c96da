"""What a person sees while the demo runs: the lanes of the race, and each plan that comes.

Owns the counts and their looks. Sends nothing and plays nothing.
"""

from collections import Counter

from rich.console import Console
from rich.table import Table

from loadtest.demo import headline
from loadtest.demo.race import CUVEE, FleetInForce, Lane, Race, fleet_of
from loadtest.demo.summary import PlanSeen
from loadtest.replay import report
from loadtest.replay.record import Record
from planner.slo import Slo
from planner.traffic.trace import Trace


class DemoProgress:
    """Records and plans, added up as they come."""

    def __init__(
        self,
        console: Console,
        slo: Slo,
        trace: Trace,
        race: Race,
        gpus: dict[str, str],
        turn_s: float,
    ) -> None:
        """gpus: the GPU type of each pool. turn_s: when the traffic turns."""
        self.console = console
        self.plans: list[PlanSeen] = []
        self._slo = slo
        self._race = race
        self._gpus = gpus
        self._turn_s = turn_s
        self._fleets: list[FleetInForce] = []
        self._mixes = [
            _mix(half, seconds)
            for half, seconds in (
                (trace.slice(0.0, turn_s), turn_s),
                (trace.slice(turn_s, trace.duration_s), trace.duration_s - turn_s),
            )
        ]
        self._of, self._duration_s = len(trace), trace.duration_s
        self._done = self._failed = self._met = 0  # requests

    def on_record(self, record: Record) -> None:
        """Count a request that has ended."""
        self._done += 1
        self._failed += record.error is not None
        self._met += report.met_slo(record, self._slo)

    def on_plan(self, plan: PlanSeen) -> None:
        """Print a plan that has come into force, with the reason for every plan but the first."""
        fleet = fleet_of(plan.body, plan.at_s)
        why = f": {plan.body['reason']}" if self.plans else ": safe at once"
        self.console.print(
            f"[{plan.at_s:5.1f} s] plan {plan.name}: {headline.described(fleet, self._gpus)}, "
            f"${fleet.usd_per_hour:.2f}/h{why}",
            highlight=False,
        )
        self.plans.append(plan)
        self._fleets.append(fleet)

    def line(self, at_s: float) -> str:
        """The state in one line."""
        lanes = " · ".join(f"{name} {usd} {kept}" for name, _, usd, _, kept in self._rows(at_s))
        return f"{self._status(at_s)} · {lanes}"

    def panel(self, at_s: float) -> Table:
        """The state as a table with a line for each lane."""
        table = Table(title=self._status(at_s), title_justify="left")
        for heading in ("", "fleet", "$/h", "spent", "kept"):
            table.add_column(heading, justify="left" if heading in ("", "fleet") else "right")
        for row in self._rows(at_s):
            table.add_row(*row)
        table.caption = (
            f"kept: {self._slo.ttft_s:g} s TTFT and {self._slo.tpot_s * 1e3:g} ms TPOT; "
        )
        table.caption += "all lanes but the first are played in virtual time on the same requests"
        return table

    def _status(self, at_s: float) -> str:
        mix = self._mixes[at_s >= self._turn_s]
        left_s = max(0.0, self._duration_s - at_s)
        return (
            f"[{at_s:5.1f} s, about {left_s:.0f} s left] {mix}: {self._done} of {self._of} done, "
            f"{self._failed} failed"
        )

    def _rows(self, at_s: float) -> list[tuple[str, str, str, str, str]]:
        """Name, fleet, $/h, dollars spent, share kept of each lane that has a fleet."""
        own = Lane(name=CUVEE, fleets=tuple(self._fleets), requests=(), played=False)
        kept = self._met / self._done if self._done else None
        rows = [_row(own, at_s, kept, self._gpus)]
        others = [lane for lane in (self._race.single, self._race.round_robin) if lane.fleets]
        rows += [_row(lane, at_s, lane.kept(until_s=at_s), self._gpus) for lane in others]
        return rows


def _row(
    lane: Lane, at_s: float, kept: float | None, gpus: dict[str, str]
) -> tuple[str, str, str, str, str]:
    fleet = lane.fleet(at_s) or lane.fleets[-1]
    return (
        f"{fleet.gpu} only" if fleet.gpu else lane.name,
        headline.described(fleet, gpus),
        f"${fleet.usd_per_hour:.2f}/h",
        f"${lane.spent_usd(at_s):.3f}",
        "–" if kept is None else f"{kept:.1%}",
    )


def _mix(trace: Trace, seconds: float) -> str:
    """What arrives, by the keys of its senders: 14.8 req/s, 57% conv, 43% code."""
    shares = ", ".join(
        f"{n / len(trace):.0%} {key or 'other'}" for key, n in Counter(trace.key).most_common()
    )
    return f"{len(trace) / seconds if seconds > 0 else len(trace):.0f} req/s, {shares}"

"""What the page on the admin port is told: reads the objects of the control plane, changes none.

Each answer is made at most once in a second, or once until it changes, for all pages together, and
only when somebody asks. Only the samples of the last hour are taken without a page.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.actuation.wiring import Actuation
from gateway.alliance import Alliance
from gateway.counting import Counting
from gateway.journal.entry import PlanNote, note
from gateway.journal.journal import DecisionJournal
from gateway.overview.bill import bill_view
from gateway.overview.decisions import decisions
from gateway.overview.fleet_state import Witness, backend_rows, pool_counts, states
from gateway.overview.plan_view import gpu_of, plan_view, planned_shares, sizes_view
from gateway.overview.promises import promises, refusals, served_by_pool
from gateway.overview.record import RECENT_S, SAMPLE_S, Counts, HourRecord, MomentGauges
from gateway.overview.recorded import recorded_view
from gateway.overview.request_memory import RequestMemory
from gateway.overview.requests_view import request_row
from gateway.overview.summary import class_rows, loop_rows, pool_rows
from gateway.planning import Planning
from gateway.routing.fleet import Fleet
from gateway.runtime import build
from gateway.solitary import Solitary
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.seen_request import LONGEST_ID
from planner.model.plan import Plan

log = logging.getLogger("cuvee")

LOOP = "page"
NOW, SERIES, SAMPLE = "now", "series", "sample"  # names of events
LAST_SHOWN, SLOWEST_SHOWN = 60, 30  # requests
VIEWS = "/cuvee/view/"  # paths of what a view of the page shows


class PageFeed:
    """The `Feed` of all pages of one gateway; samples are taken while it is open.

    counting: `None` until there is a data plane.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        metrics: Metrics,
        planning: Planning,
        journal: DecisionJournal,
        alliance: Alliance | Solitary,
        actuation: Actuation,
        status: Callable[[], str],
        reason: Callable[[], str],
    ) -> None:
        """status: of the gateway, as `/readyz` tells it. reason: why the plan in force is."""
        self._fleet, self._metrics, self._planning = fleet, metrics, planning
        self._journal, self._alliance, self._actuation = journal, alliance, actuation
        self._status, self._reason = status, reason
        self._version = build()["version"]  # read once: it takes a millisecond
        self._clock = asyncio.get_running_loop().time
        self._record = HourRecord()
        self._requests = RequestMemory()
        self._told = 0  # the number of the sample that pages were told last
        self._made: dict[str, tuple[object, bytes]] = {}  # by name of the view: its mark, its JSON
        self._noted: tuple[Plan, PlanNote] | None = None
        self.counting: Counting | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<PageFeed {self._record!r}>"

    async def __aenter__(self) -> "PageFeed":
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def opening(self) -> bytes:
        """The last hour, and how everything is now."""
        mark = self._record.number
        series = self._once(SERIES, mark, lambda: {"every_s": SAMPLE_S, "rows": self._record.rows})
        return _event(SERIES, series) + self._now()

    def news(self) -> bytes:
        """How everything is now, and the newest sample if there is one."""
        if self._told == self._record.number:
            return self._now()
        self._told = self._record.number
        return _event(SAMPLE, msgspec.json.encode(self._record.last)) + self._now()

    def views(self) -> Mapping[str, Callable[[], bytes]]:
        """What single views of the page show, in JSON, by path."""
        return {
            VIEWS + "now": lambda: self._once(NOW, self._second, self._everything),
            VIEWS + "plan": lambda: self._once("plan", self._plan_mark, self._plan),
            VIEWS + "sizes": lambda: self._once("sizes", self._second, self._sizes),
            VIEWS + "history": lambda: self._once("history", self._second, self._history),
            VIEWS + "backends": lambda: self._once("backends", self._second, self._backends),
            VIEWS + "requests": lambda: self._once("requests", self._second, self._lately),
            VIEWS + "bill": lambda: self._once("bill", self._second, self._bill),
        }

    async def _run(self) -> None:
        while True:
            try:
                self._record.sample(time.time(), self._counts(), self._gauges())
                self._take_requests()
                self._metrics.loops.good(LOOP, time.time())
            except Exception as error:
                log.exception("a sample for the page could not be taken")
                self._metrics.loops.failed(LOOP, repr(error))
            await asyncio.sleep(SAMPLE_S)

    def _once(self, name: str, mark: object, make: Callable[[], Any]) -> bytes:
        """A view in JSON, made if it has another mark than the last time."""
        made = self._made.get(name)
        if made is None or made[0] != mark:
            made = self._made[name] = mark, msgspec.json.encode(make())
        return made[1]

    @property
    def _second(self) -> int:
        return int(self._clock())

    @property
    def _plan_mark(self) -> object:
        plan = self._planning.plan
        return plan.plan_id, plan.certificate, self._reason(), len(plan.singles)

    def _now(self) -> bytes:
        return _event(NOW, self._once(NOW, self._second, self._everything))

    def _note(self) -> PlanNote:
        """The plan in force in few words."""
        plan = self._planning.plan
        if self._noted is None or self._noted[0] is not plan:
            self._noted = plan, note(plan)
        return self._noted[1]

    def _counts(self) -> Counts:
        metrics = self._metrics
        return Counts(
            classes=promises(metrics.by_class),
            pools=served_by_pool(metrics.by_class),
            refusals=refusals(metrics.by_class, metrics.totals.refusals),
        )

    def _gauges(self) -> MomentGauges:
        brief = self._note()
        return MomentGauges(
            usd_planned=brief.usd_per_hour,
            usd_running=sum(self._planning.bill[0].values()),
            usd_single=brief.single_usd_per_hour,
            queued=sum(gauges.queued for gauges in self._metrics.workers.values()),
            in_flight=sum({b.url: b.in_flight for b in self._fleet.backends}.values()),
        )

    def _everything(self) -> dict[str, Any]:
        now_s, planning, metrics = time.time(), self._planning, self._metrics
        plan, brief, gauges = planning.plan, self._note(), self._gauges()
        seconds, came = self._record.recent(now_s, self._counts())
        found = states(self._fleet, self._clock(), metrics.workers)
        paces = {one.pool: one.pace for one in planning.paces.found}
        looks, scaling = self._journal.pending, self._actuation.figures()
        cluster = self._alliance.figures()
        pools = planning.pools
        return {
            "at_s": round(now_s, 1),
            "status": self._status(),
            "version": self._version,
            "workers": max(1, len(metrics.workers)),
            "recent_s": round(seconds, 1),
            "plan": {
                "id": plan.plan_id,
                "why": self._reason(),
                "rate": brief.requests_per_s,
                "unserved": brief.unserved_per_s,
                "mark": hash(self._plan_mark) & 0xFFFFFFFF,
            },
            "dollars": {
                "planned": brief.usd_per_hour,
                "running": round(gauges.usd_running, 4),
                "single": brief.single_usd_per_hour,
                "single_gpu": brief.single_gpu,
            },
            "pools": pool_rows(
                plan,
                [(pool, gpu_of(pool)) for pool in pools],
                counts=pool_counts(self._fleet, found),
                running=planning.backends,
                shares=planned_shares(plan, pools),
                served=came.pools,
                paces=paces,
            ),
            "classes": class_rows(plan.buckets.classes, came.classes, seconds),
            "queued": gauges.queued,
            "queued_tokens": sum(one.queued_tokens for one in metrics.workers.values()),
            "in_flight": gauges.in_flight,
            "rate": round(float(planning.recent(RECENT_S).sum()), 3),
            "refusals": dict(sorted(came.refusals.items(), key=lambda item: -item[1])),
            "loops": loop_rows(metrics.loops.figures(), now_s),
            "looks": None if looks is None else [looks.cause, looks.looks, looks.since],
            "scaling": scaling if scaling["pools"] else None,
            "cluster": None if cluster is None else msgspec.to_builtins(cluster),
            "history": self._journal.written,
        }

    def _plan(self) -> dict[str, Any]:
        return plan_view(self._planning.plan, self._planning.pools, self._reason())

    def _sizes(self) -> Any:
        planning = self._planning
        self._take_requests()
        return sizes_view(
            planning.plan,
            planning.pools,
            planning.recent(RECENT_S),
            self._requests.shares(time.time()),
            seconds=min(RECENT_S, planning.window_s),
        )

    def _take_requests(self) -> None:
        """Note the requests that workers have told since."""
        if self.counting is not None:
            self._requests.add(
                self.counting.take_seen(),
                at_s=time.time(),
                now_s=self._clock(),
                buckets=self._planning.plan.buckets,
            )

    def _lately(self) -> dict[str, Any]:
        self._take_requests()
        plan, memory = self._planning.plan, self._requests
        return {
            "last": [request_row(one, plan) for one in memory.last[:LAST_SHOWN]],
            "slowest": [request_row(one, plan) for one in memory.slowest[:SLOWEST_SHOWN]],
        }

    def recorded(self, request_id: str) -> dict[str, Any] | None:
        """A request that was served, by its id; `None` if it is not kept."""
        self._take_requests()
        found = self._requests.find(request_id[:LONGEST_ID])
        return None if found is None else recorded_view(found, self._planning.plan)

    def _history(self) -> dict[str, Any]:
        journal = self._journal
        return {"decisions": decisions(journal.entries, journal.plan, journal.under)}

    def _backends(self) -> dict[str, Any]:
        metrics, planning = self._metrics, self._planning
        paces = {n: pace for one in planning.paces.found for n, pace in one.backends.items()}
        scaling = self._actuation.figures()
        witness = Witness(
            drains=scaling["drained"],
            engines=() if self.counting is None else self.counting.engines,
            paces=paces,
            failures=metrics.totals.failures,
        )
        found = states(self._fleet, self._clock(), metrics.workers)
        return {
            "backends": backend_rows(self._fleet, found, witness),
            "gpus": {pool.name: gpu_of(pool) for pool in planning.pools},
            "pending": {name: own["pending"] for name, own in scaling["pools"].items()},
        }

    def _bill(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        journal = self._journal
        return bill_view(journal.entries, journal.hour, now, self._metrics.hits.figures())


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

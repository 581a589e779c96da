"""This gateway among those of its cluster: one plans for all, and each knows what all have.

Owns who plans, which plan is in force, and what is told and heard. Nothing here is on the way of a
request: where Redis is slow or gone, the gateway serves on with its last plan and its own view.
"""

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from gateway.cluster.caller_tokens import tokens_of
from gateway.cluster.codec import encode
from gateway.cluster.leadership import Leadership
from gateway.cluster.link import Link
from gateway.cluster.load_frame import zone_key
from gateway.cluster.messages import PlanNews, WhatWasLearned, decoded
from gateway.cluster.origin import made_from
from gateway.cluster.reports import Reports
from gateway.cluster.roster import FRESH_S
from gateway.cluster.store import LEARNED, PLAN, STAMP, Store, StoreError
from gateway.cluster.views import Views
from gateway.cluster.zones import ZonePreference
from gateway.config.cluster_schema import ClusterSection
from gateway.config.load import Loaded
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import GatewayLoad
from gateway.telemetry.cluster_metrics import ClusterFigures
from gateway.telemetry.loops import Loops
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.plane import DataPlane
from planner.model.plan import Plan

log = logging.getLogger("cuvee.cluster")

LEARNED_REPORTS = 10  # so many, until what was learned is kept again for those that join
MOST_HISTORIES = 500  # of what was learned: to encode more would stall streams
JOIN_S = 2.0  # that a start waits for what others have learned
EXCHANGE, LEASE, REPORTS = "cluster", "lease", "reports"


class Alliance:
    """One gateway's part in its cluster; an async context manager. tokens, drains: over all."""

    def __init__(
        self,
        section: ClusterSection,
        loaded: Loaded,
        *,
        fleet: Fleet,
        estimator: Estimator,
        planning: Planning,
        loops: Loops,
        put: Callable[[Plan, str], None],
        certified: Callable[[Plan], None],
    ) -> None:
        """put: puts the plan of another gateway in force, with the reason. certified: called with
        one in force that has its certificate now."""
        self._section = section
        self._estimator, self._planning = estimator, planning
        self._loops, self._put, self._certified = loops, put, certified
        self._clock = asyncio.get_running_loop().time
        self.gateway = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        self._store = Store(section, loaded.root, self.gateway)
        self._link = Link()
        self._leadership = Leadership(section.lease_s)
        self._views = Views(fleet, zone=zone_key(section.zone), view_s=section.view_s)
        self._reports = Reports(
            self._store, self.gateway, fleet=fleet, estimator=estimator, take=self._take
        )
        self.tokens, self.drains = self._reports.tokens, self._reports.drains
        self._zone = ZonePreference(section.zone, self._views)
        self._print = made_from(loaded)
        self._plane: DataPlane | None = None
        self._number, self._reason = 0, "the gateway started"
        self._news: PlanNews | None = None
        self._leader, self._problem = "", ""
        self._leading = self._leaving = False
        self._learned: WhatWasLearned | None = None
        self._left_behind: PlanNews | None = None
        self._unusable: PlanNews | None = None
        self._stack = AsyncExitStack()
        planning.lead(False)  # until it has the lease

    def __repr__(self) -> str:
        return f"<Alliance {self.gateway}, {self._leadership!r}, {self._views!r}>"

    async def __aenter__(self) -> "Alliance":
        """Take over what others have learned, if they can be asked."""
        self._stack.push_async_callback(self._leave)
        try:
            async with asyncio.timeout(JOIN_S):
                self._learned = decoded(await self._store.said(LEARNED), WhatWasLearned)
                self._left_behind = decoded(await self._store.said(PLAN), PlanNews)
        except (StoreError, TimeoutError) as error:
            self._link.failed(str(error) or "no answer in time", self._clock())
            log.warning("starting without the other gateways: %s", self._link.error)
        if self._learned is not None:
            self._estimator.restore(self._learned.estimator)
            self.tokens.join(self._learned.tokens)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def begin(self, plane: DataPlane, load: GatewayLoad | None) -> None:
        """The gateway serves: speak with the others from now on. load: what it holds."""
        self._plane = plane
        self._views.of(load)
        if self._learned is not None and self._learned.print == self._print:
            self._planning.recall(self._learned.sizes)
        if self._left_behind is not None and self._left_behind.print == self._print:
            self._put_in_force(self._left_behind)
        self._learned = self._left_behind = None
        section = self._section
        for name, step, interval_s in (
            (EXCHANGE, self._exchange, section.view_s),
            (LEASE, self._hold, self._leadership.renewal_s),
            (REPORTS, self._report, section.report_s),
            (REPORTS, self._tell_learned, LEARNED_REPORTS * section.report_s),
        ):
            task = asyncio.get_running_loop().create_task(self._repeat(name, step, interval_s))
            self._stack.callback(task.cancel)

    def leads(self) -> bool:
        """Whether this gateway plans at this moment."""
        return self._leading and self._leadership.leads(self._clock())

    def leave(self) -> None:
        """The gateway is about to end: another one is to plan."""
        self._leaving = True
        self._end_leading("this gateway ends")

    def configure(self, loaded: Loaded) -> None:
        """Another configuration is in force here."""
        print_ = made_from(loaded)
        if print_ != self._print:
            self._print, self._news = print_, None
            self._reports.forget_buckets()

    def planned(self, reason: str) -> None:
        """Another plan is in force here."""
        self._number += 1
        self._reason = reason

    def sealed(self) -> None:
        """The plan in force has its certificate now: it is told again."""
        self._number += 1

    def add(self, delta: StatsDelta, seen: float) -> None:
        """Take what happened here, for the plan. seen: the share of the workers that report."""
        now_s = self._clock()
        self.tokens.add(tokens_of(delta.uses))
        self._views.arrived(sum(delta.arrivals.values()), now_s)
        if self._link.down_s(now_s) >= FRESH_S:
            # Of all requests only these can be seen: what is known of the demand stays.
            self._planning.add(StatsDelta(sizes=delta.sizes, stays=delta.stays), seen=0.0)
            return
        self._planning.add(delta, seen=seen * self._views.roster.seen(now_s))
        self._reports.add(delta, seen)

    def figures(self) -> ClusterFigures:
        """How the cluster is, as this gateway sees it."""
        now_s, news, roster = self._clock(), self._news, self._views.roster
        return ClusterFigures(
            gateway=self.gateway,
            zone=self._section.zone,
            up=self._link.up,
            error=self._link.error,
            failures=self._link.failures,
            leads=self.leads(),
            leader=self._leader,
            token=self._leadership.token,
            gateways={name: round(roster.age_s(name, now_s), 3) for name in roster.names},
            plan=self._planning.plan.plan_id,
            plan_from=self.gateway if news is None else news.gateway,
            problem=self._problem,
        )

    async def _repeat(self, name: str, step: Callable[[], Any], interval_s: float) -> None:
        """Take a step at this interval, for ever; only the exchange tries where Redis is gone."""
        while True:
            if name == EXCHANGE or self._link.up:
                try:
                    await step()
                except StoreError as error:
                    self._failed(name, str(error))
                except Exception as error:
                    log.exception("a step of the loop %s failed", name)
                    self._loops.failed(name, type(error).__name__)
                else:
                    self._loops.good(name, time.time())
            pause_s = self._link.pause_s(interval_s) if name == EXCHANGE else interval_s
            await asyncio.sleep(pause_s)

    def _failed(self, name: str, why: str) -> None:
        self._loops.failed(name, why)
        if self._link.failed(why, self._clock()):
            log.warning("the other gateways cannot be heard: %s; serving on alone", why)
        self._reports.interrupted()
        self._views.lend(bytes.fromhex(self._print), self._clock())

    async def _exchange(self) -> None:
        """Tell and hear what is in flight; follow the plan of the one that plans, or tell it."""
        told, stamp = await self._store.exchange(
            self._views.frame(bytes.fromhex(self._print), self._clock())
        )
        now_s = self._clock()
        if self._link.works(now_s):
            log.info("the other gateways can be heard: %s", ", ".join(told) or "there are none")
        strange = self._views.hear(told, bytes.fromhex(self._print), now_s)
        self._note(f"of another version: {', '.join(strange)}" if strange else "")
        self._views.lend(bytes.fromhex(self._print), now_s)
        if gone := self._views.roster.left(now_s):
            await self._store.forget(gone)
        if self.leads():
            await self._publish(stamp)
        elif stamp is not None:
            await self._follow(stamp)
        self._prefer_own_zone()

    def _prefer_own_zone(self) -> None:
        plane, planning = self._plane, self._planning
        if plane is not None and self._section.zone is not None:
            table = self._zone.table(
                planning.plan, lambda: planning.pools, plane.table, self._clock()
            )
            if table is not None:
                plane.table = table

    async def _publish(self, stamp: bytes | None) -> None:
        """Tell the plan in force, unless Redis has it."""
        token, number = self._leadership.token, self._number
        mine = f"{token}.{number}".encode()
        if stamp == mine:
            return
        news = PlanNews(
            token=token,
            number=number,
            print=self._print,
            plan=self._planning.plan,
            reason=self._reason,
            gateway=self.gateway,
        )
        if not await self._store.publish(token, {PLAN: encode(news), STAMP: mine}):
            self._end_leading("another gateway has a newer lease")
            return
        self._news = news

    async def _follow(self, stamp: bytes) -> None:
        """Put the plan of the gateway that plans in force, if it is another one."""
        news = self._news
        if news is None or stamp != b"%d.%d" % news.order:
            told = decoded(await self._store.said(PLAN), PlanNews)
            if told is None:
                self._note("the plan of the others is of another version")
                return
            if self.leads() or (news is not None and told.order < news.order):
                return
            self._news = news = told
        if news.print != self._print:
            self._note(f"{news.gateway} plans for another configuration; the last plan stays")
            return
        self._put_in_force(news)

    def _put_in_force(self, news: PlanNews) -> None:
        plan, mine = news.plan, self._planning.plan
        if plan.plan_id != mine.plan_id and news is not self._unusable:
            self._unusable = news  # unless all goes well: it is not tried again and again
            self._put(plan, f"{news.reason} (by {news.gateway})")
            self._planning.follow(plan)
            self._unusable = None
        elif plan.certificate is not None and mine.certificate != plan.certificate:
            self._planning.follow(plan)
            self._certified(plan)

    async def _hold(self) -> None:
        """Ask for the lease, or for more of it."""
        if self._leaving:
            return
        asked_s, newest = self._clock(), self._leadership.token
        if self._news is not None:
            newest = max(newest, self._news.token)
        token, self._leader = await self._store.hold(self._section.lease_s, newest)
        if self._leader != self.gateway or self._leaving:
            self._end_leading(f"{self._leader} plans")
            return
        self._leadership.granted(token, asked_s)
        asyncio.get_running_loop().call_later(
            self._leadership.left_s(self._clock()), self._end_if_over
        )
        if not self._leading:
            self._leading = True
            log.info("this gateway plans for all, by lease %d", token)
            self._planning.lead(True)

    def _end_if_over(self) -> None:
        if not self._leadership.leads(self._clock()):
            self._end_leading("the lease could not be renewed in time")

    def _end_leading(self, why: str) -> None:
        self._leadership.lost()
        if self._leading:
            self._leading = False
            self._planning.lead(False)
            self._loops.forget("planning")
            log.warning("this gateway plans no more: %s", why)

    async def _report(self) -> None:
        """Tell what happened here, and take what happened at the others."""
        lessons = () if self._plane is None else tuple(self._plane.recent)
        if self._plane is not None:
            self._plane.recent.clear()
        await self._reports.exchange(self._print, lessons)

    def _take(self, delta: StatsDelta, seen: float) -> None:
        """What happened at another gateway."""
        self._planning.add(delta, seen=seen * self._views.roster.seen(self._clock()))

    async def _tell_learned(self) -> None:
        """Keep what was learned for gateways that join."""
        if not self.leads():
            return
        learned = WhatWasLearned(
            print=self._print,
            estimator=self._estimator.state(MOST_HISTORIES),
            sizes=self._planning.sizes,
            tokens=self.tokens.totals,
        )
        data = await asyncio.to_thread(encode, learned)
        await self._store.publish(self._leadership.token, {LEARNED: data})

    async def _leave(self) -> None:
        self.leave()
        with suppress(StoreError):
            if self._link.up:
                await self._store.release()
        await self._store.aclose()

    def _note(self, problem: str) -> None:
        """What keeps this gateway from following, said once."""
        if problem and problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem

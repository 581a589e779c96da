"""What the admin port answers: metrics, the plan, hits, discovery, history; and what it can be
told to do.

Reads the objects of the control plane, and changes none but by a reload or a drain.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from gateway.actuation.wiring import Actuation
from gateway.admin.events import EventStreams
from gateway.admin.server import JSON, Action, Answer
from gateway.alliance import Alliance
from gateway.config.load import Loaded
from gateway.counting import Counting
from gateway.discovery.discovery import Discovery
from gateway.errors import ConfigError, NotFound
from gateway.journal.journal import DecisionJournal
from gateway.page_feed import PageFeed
from gateway.plan_desk import PlanDesk
from gateway.planning import Planning
from gateway.reload import Reload
from gateway.request_explainer import RequestExplainer
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.solitary import Solitary
from gateway.telemetry.exposition import CONTENT_TYPE, OPENMETRICS, OPENMETRICS_TYPE
from gateway.telemetry.metrics import Metrics
from planner.model.plan_json import plan_figures


class Insight:
    """The answers of one gateway.

    reason: why the plan in force is. page: what the page shows.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        metrics: Metrics,
        planning: Planning,
        estimator: Estimator,
        reload: Reload | None,
        discovery: Discovery,
        journal: DecisionJournal,
        alliance: Alliance | Solitary,
        actuation: Actuation,
        ready: Callable[[], Answer],
        loaded: Callable[[], Loaded],
    ) -> None:
        """reload: `None` if the gateway follows no file. ready: the answer of `/readyz`. loaded:
        the configuration in force."""
        self._metrics = metrics
        self._planning = planning
        self._estimator = estimator
        self._reload = reload
        self._discovery = discovery
        self._journal = journal
        self._alliance = alliance
        self._actuation = actuation
        self._ready = ready
        self.reason = "the gateway started"
        self.page = PageFeed(
            fleet=fleet,
            metrics=metrics,
            planning=planning,
            journal=journal,
            alliance=alliance,
            actuation=actuation,
            status=lambda: str(msgspec.json.decode(ready()[2])["status"]),
            reason=lambda: self.reason,
        )
        self._desk = PlanDesk(planning=planning, fleet=fleet, leads=alliance.leads)
        self._explainer = RequestExplainer(
            loaded=loaded,
            fleet=fleet,
            planning=planning,
            estimator=estimator,
            metrics=metrics,
            page=self.page,
        )

    def __repr__(self) -> str:
        return f"<Insight {', '.join(self.answers())}>"

    @property
    def counting(self) -> Counting | None:
        """`None` until there is a data plane."""
        return self.page.counting

    @counting.setter
    def counting(self, counting: Counting) -> None:
        self.page.counting = counting

    def looked(self, result: str, why: str) -> None:
        """Note what came of a look at the demand."""
        self._metrics.looked(result, time.time())
        if result == "failed":
            self._metrics.loops.failed("planning", why)
        else:
            self._metrics.loops.good("planning", time.time())
        self._journal.looked(result, why)

    def answers(self) -> dict[str, Callable[[], Answer]]:
        """What a GET answers, by path."""
        return {
            "/metrics": lambda: self._scrape(CONTENT_TYPE),
            f"/metrics {OPENMETRICS}": lambda: self._scrape(OPENMETRICS_TYPE),
            "/cuvee/plan": self._explain,
            "/cuvee/hits": self._hits,
            "/cuvee/discovery": self._found,
            "/cuvee/cluster": lambda: _json({"cluster": self._alliance.figures()}),
            "/cuvee/history": lambda: _json({"entries": self._journal.entries}),
            "/cuvee/access": self._keys,
            "/cuvee/loops": lambda: _json({"loops": self._metrics.loops.figures()}),
            "/cuvee/scaling": lambda: _json(self._actuation.figures()),
            "/readyz": self._ready,
            "/livez": lambda: (200, JSON, b'{"status":"alive"}'),
        } | {path: partial(_said, view) for path, view in self.page.views().items()}

    def streams(self) -> dict[str, EventStreams]:
        """What is told as it happens, by path."""
        return {"/cuvee/events": EventStreams(self.page)}

    def actions(self) -> dict[str, Action]:
        """What a POST does, by path, or a DELETE."""
        return {
            "/cuvee/reload": self._reload_now,
            "/cuvee/explain": self._explain_request,
            "/cuvee/plan": self._apply_plan,
            "/cuvee/plan/diff": self._propose_plan,
            "/cuvee/drain": self._drain,
            "DELETE /cuvee/drain": self._undrain,
        }

    def _scrape(self, kind: str) -> Answer:
        if self.counting is not None:
            self.counting.take()
            self.counting.measure()
        learned = self._estimator
        self._metrics.learned(learned.tokens.figures(), learned.payload.figures())
        self._metrics.scaled(self._actuation.states())
        self._metrics.discovered(self._discovery.ages(), self._discovery.counts())
        if (cluster := self._alliance.figures()) is not None:
            self._metrics.allied(cluster)
        if self._reload is not None:
            self._metrics.configured(not self._reload.problems, self._reload.at_s)
        metrics = self._metrics
        return 200, kind, metrics.text() if kind == CONTENT_TYPE else metrics.openmetrics()

    def _explain(self) -> Answer:
        paces = [found.figures() for found in self._planning.paces.found]
        told = plan_figures(self._planning.plan) | {"reason": self.reason, "paces": paces}
        return _json(told)

    async def _explain_request(self, body: bytes) -> Answer:
        return _json(await self._explainer.answer(body))

    async def _propose_plan(self, _: bytes) -> Answer:
        return _json(await self._desk.propose())

    async def _apply_plan(self, body: bytes) -> Answer:
        return _json(await self._desk.apply(body))

    def _hits(self) -> Answer:
        if self.counting is not None:
            self.counting.take()
        return _json({"hits": self._metrics.hits.figures()})

    def _keys(self) -> Answer:
        if self.counting is None:
            raise NotFound("The gateway is starting.")
        return _json({"access": self.counting.desk.figures()})

    def _found(self) -> Answer:
        return _json(self._discovery.figures())

    async def _drain(self, body: bytes) -> Answer:
        return _json(await self._actuation.begin_drain(body))

    async def _undrain(self, body: bytes) -> Answer:
        return _json(await self._actuation.end_drain(body))

    async def _reload_now(self, _: bytes) -> Answer:
        if self._reload is None:
            raise NotFound("The gateway was not started from a file.")
        try:
            step = await self._reload.now("POST /cuvee/reload")
        except ConfigError as error:
            return _json({"status": "refused", "problems": error.problems}, 400)
        return _json({"status": "in force", "changed": step.keys, "needs_restart": step.restart})


def _said(view: Callable[[], bytes]) -> Answer:
    return 200, JSON, view()


def _json(value: Any, status: int = 200) -> Answer:
    return status, JSON, msgspec.json.encode(value)

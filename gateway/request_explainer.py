"""Answers what would become of a request, and what became of one: over the live state, by a copy.

Reserves nothing, sends nothing, and keeps nothing of what it is asked.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.config.load import Loaded
from gateway.config.serving import serving
from gateway.errors import NotFound, Unavailable
from gateway.explanation.explanation import asked, explained
from gateway.explanation.fleet_copy import copied
from gateway.explanation.question import ExplainQuestion, ReadQuestion, decoded, read
from gateway.explanation.standpoint import Standpoint
from gateway.overview.fleet_state import RESTING, states
from gateway.page_feed import PageFeed
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.telemetry.metrics import Metrics

NOT_KEPT = (
    "the gateway keeps no request `{}`: of each worker it keeps the last 16 requests and the 4 "
    "slowest of each half second, 200 and 50 of them in all, and none of before its start"
)


class RequestExplainer:
    """The answers of one gateway."""

    def __init__(
        self,
        *,
        loaded: Callable[[], Loaded],
        fleet: Fleet,
        planning: Planning,
        estimator: Estimator,
        metrics: Metrics,
        page: PageFeed,
    ) -> None:
        """loaded: the configuration in force. page: has the record of recent requests."""
        self._loaded, self._fleet, self._planning = loaded, fleet, planning
        self._estimator, self._metrics, self._page = estimator, metrics, page
        self._clock = asyncio.get_running_loop().time

    def __repr__(self) -> str:
        return f"<RequestExplainer of {self._fleet!r}>"

    async def answer(self, text: bytes) -> dict[str, Any]:
        """The answer to a question in JSON (`ExplainQuestion`). Raises BadRequest, NotFound for a
        request that is not kept, and Unavailable before the gateway serves."""
        question = decoded(text)
        if question.request_id is not None:
            return self._recorded(question.request_id)
        return await self._explained(question)

    def _recorded(self, request_id: str) -> dict[str, Any]:
        found = self._page.recorded(request_id)
        if found is None:
            raise NotFound(NOT_KEPT.format(request_id))
        return found

    async def _explained(self, question: ExplainQuestion) -> dict[str, Any]:
        at, loaded = self._standpoint(), self._loaded()
        switches = {pool: upstream.affinity for pool, upstream in loaded.upstreams.items()}
        counting = self._page.counting
        known = None if counting is None else counting.affinity(self._fleet, switches)
        one = read(question, serving(loaded), at.table, self._estimator, known, at.now_s)
        # In a thread: a router for a table of many buckets takes tens of milliseconds to make, and
        # where this process serves, requests must not wait for that.
        return await asyncio.to_thread(_told, one, at)

    def _standpoint(self) -> Standpoint:
        """All that is decided by, as it is now."""
        counting, now_s, metrics = self._page.counting, self._clock(), self._metrics
        if counting is None:
            raise Unavailable("The gateway does not serve yet.", retry_after_s=1.0)
        table, plan = counting.table, self._planning.plan
        if table.plan_id != plan.plan_id:  # of a configuration that is being put in force
            raise Unavailable("Another plan is being put in force.", retry_after_s=1.0)
        found = states(self._fleet, now_s, metrics.workers)
        workers = [worker.resting for worker in metrics.workers.values()]
        nowhere = {
            name
            for name, (state, _) in found.items()
            if state == RESTING and workers and all(name in resting for resting in workers)
        }
        return Standpoint(
            plan=plan,
            table=table,
            fleet=copied(self._fleet, now_s, nowhere),
            pools=self._planning.pools,
            states=found,
            queued=sum(worker.queued for worker in metrics.workers.values()),
            now_s=now_s,
        )


def _told(one: ReadQuestion, at: Standpoint) -> dict[str, Any]:
    return explained(asked(one.request, one.estimate, at, caller=one.caller), at, notes=one.notes)

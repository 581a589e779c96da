"""What happens at every gateway, told to all of them: each keeps the same sums, and any can plan.

Knows Redis as a `Store` only.
"""

import asyncio
from collections.abc import Callable, Mapping

from gateway.cluster.caller_tokens import CallerTokens
from gateway.cluster.codec import encode
from gateway.cluster.drain_board import DrainBoard
from gateway.cluster.messages import GatewayReport, Outbox, decoded
from gateway.cluster.store import Store
from gateway.routing.estimator import Estimator
from gateway.routing.estimator_schema import Lesson
from gateway.routing.fleet import Fleet
from gateway.telemetry.stats_schema import StatsDelta


class Reports:
    """The reports of one gateway and of the others. tokens: of callers, over all gateways. drains:
    of backends, at all of them."""

    def __init__(
        self,
        store: Store,
        gateway: str,
        *,
        fleet: Fleet,
        estimator: Estimator,
        take: Callable[[StatsDelta, float], None],
    ) -> None:
        """estimator: learns from the lessons of all. take: takes what happened at another gateway,
        with the share of its workers that report."""
        self._store, self._gateway = store, gateway
        self._fleet, self._estimator, self._take = fleet, estimator, take
        self._outbox = Outbox()
        self._after: str | None = None
        self.tokens = CallerTokens()
        self.drains = DrainBoard()

    def __repr__(self) -> str:
        return f"<Reports of {self._gateway}: {self._outbox!r}>"

    def add(self, delta: StatsDelta, seen: float) -> None:
        """Add what happened here, to be told. seen: the share of the workers that report."""
        urls = {backend.name: backend.url for backend in self._fleet.backends}
        self._outbox.add(delta, urls, seen)

    def forget_buckets(self) -> None:
        """The numbers of the buckets have changed."""
        self._outbox.forget_buckets()

    def interrupted(self) -> None:
        """Redis could not be asked: what others told meanwhile is too old to count now."""
        self._after = None

    async def exchange(self, print_: str, lessons: tuple[Lesson, ...]) -> None:
        """Tell what happened here since the last time, and take what happened at the others. Raises
        StoreError. print_: of this gateway's configuration; what is counted by other buckets is
        left out."""
        report = self._outbox.take(self._gateway, print_, lessons, self.drains.mine)
        if self._after is None:
            self._after = await self._store.last_report()
        await self._store.report(encode(report))
        for number, data in await self._store.reports(self._after):
            self._after = number
            told = decoded(data, GatewayReport)
            if told is not None and told.gateway != self._gateway:
                self._hear(told, print_)
                await asyncio.sleep(0)  # streams go on in between

    def _hear(self, report: GatewayReport, print_: str) -> None:
        self.tokens.add(report.tokens)
        now_s = asyncio.get_running_loop().time()
        self.drains.hear(report.gateway, report.drained, now_s)
        for lesson in report.lessons:
            self._estimator.learn(lesson)
        if report.print == print_:
            self._take(report.delta(self._names()), report.seen)

    def _names(self) -> Mapping[tuple[str, str], str]:
        return {(backend.pool, backend.url): backend.name for backend in self._fleet.backends}

"""Decides when a request is served: at once, at its turn, or not at all. Pure: no I/O, no clock.

A request that no backend has room for waits for its turn: strict classes before lax ones, and those
without a promise last; in a class, all callers have equal parts, in tokens. It is refused at once
where waiting cannot help, because at the rate at which the queue drains its turn would come too
late for its promise; and later, when it has waited for as long as its promise allows. The live
gateway and the simulator use the same object.
"""

from collections.abc import Collection, Mapping
from math import ceil, inf
from typing import Final

from gateway.errors import ModelNotFound, Saturated, Unavailable
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.pressure import PROMPT
from gateway.routing.router import Router
from gateway.routing.shared_queue import Claim, QueueView
from gateway.routing.table import RoutingTable
from gateway.routing.ticket import Ticket
from gateway.routing.turns import Served, Turns

NEVER_S: Final = inf
LAST: Final = 1_000  # the rank of requests without a promise
# A queue counts as too long if it is so by this factor: its rate is measured on a few requests.
SURE: Final = 1.25
COARSE: Final = 4_000.0  # tokens
LEAST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0


class QueueLimits:
    """Bounds of one process' queue. requests, tokens: that may wait. timeout_s: longest wait."""

    __slots__ = ("requests", "timeout_s", "tokens")

    def __init__(self, *, requests: int, tokens: int, timeout_s: float) -> None:
        self.requests = requests
        self.tokens = tokens
        self.timeout_s = timeout_s


class Admission:
    """The queue of one router.

    waiting: number of requests in it. tokens: of those.
    """

    def __init__(
        self,
        router: Router,
        limits: QueueLimits,
        *,
        weights: Mapping[str, float] | None = None,
        view: QueueView | None = None,
    ) -> None:
        """weights: of callers by id; 1 for those that are not named. view: on the queues of other
        workers; `None`: there are none."""
        self._router = router
        self._limits = limits
        self._view = view
        self._served = Served(weights or {}) if view is None else view.served(weights or {})
        self._turns: dict[tuple[str, int], Turns] = {}
        self._order: list[Turns] = []
        self._claims: dict[int, Claim] = {}  # by pool, of the first request that waits for it
        self._turning = self._again = False
        self.waiting = self.tokens = 0

    def __repr__(self) -> str:
        return f"<Admission, {self.waiting} of {self._limits.requests} wait>"

    @property
    def table(self) -> RoutingTable:
        """The table in force."""
        return self._router.table

    def configure(self, limits: QueueLimits, weights: Mapping[str, float], now_s: float) -> None:
        """Use these bounds and weights from now on, and the router's present table, whose classes
        and sizes may be others. A request whose model is gone is refused."""
        self._limits = limits
        self._served.weights = weights
        waiting = [ticket for turns in self._order for ticket in turns.tickets()]
        self._turns, self._order, self._claims = {}, [], {}
        self.waiting = self.tokens = 0
        for ticket in waiting:
            try:
                ticket.bucket = self._router.rebucket(ticket.estimate)
            except ModelNotFound as error:
                ticket.error = error
                ticket.ready()
            else:
                self.wait(ticket, now_s, again=True)

    def enter(
        self,
        estimate: Estimate,
        *,
        bucket: int,
        caller: str,
        now_s: float,
    ) -> Lease | None:
        """The lease of a request that arrives now; `None` if it must wait. Raises Unavailable."""
        promised = self._router.promised(estimate, bucket)
        barred = self._barred(estimate, bucket, caller, now_s, promised)
        slack_s = PROMPT * self._router.allowed_s(bucket) if promised else NEVER_S
        lease = self._router.route(
            estimate,
            bucket=bucket,
            now_s=now_s,
            barred=barred,
            slack_s=slack_s,
            promised=promised,
        )
        if lease is not None:
            self._served.add(caller, estimate.tokens, now_s)
        return lease

    def larger(
        self, estimate: Estimate, *, bucket: int, pool: str, limit: int | None
    ) -> frozenset[str]:
        """Names of the pools to which a request may go that this pool's engine refused for its
        length. limit: that the engine told, tokens."""
        return self._router.eligibility.larger(bucket, estimate, pool, limit)

    def due(
        self, estimate: Estimate, *, bucket: int, arrival_s: float, again: bool
    ) -> tuple[float, float]:
        """When the first token of a request is due, and until when it may wait for its turn.

        again: whether a backend had it before. Then its promise may be lost through no fault of its
        own, and it is still served.
        """
        longest_s = arrival_s + self._limits.timeout_s
        if again or not self._router.promised(estimate, bucket):
            return inf, longest_s
        due_s = arrival_s + self._router.allowed_s(bucket)
        prefill_s = self._router.eligibility.prefill_s(bucket, estimate)
        return due_s, min(longest_s, due_s - prefill_s / PROMPT)

    def expect_room(self, ticket: Ticket, now_s: float) -> None:
        """Raise Saturated if all backends of a request want no requests for longer than it may
        wait."""
        resumes_s = self._router.resumes_s(ticket.bucket, ticket.estimate, now_s, ticket.exclude)
        if resumes_s > ticket.until_s:
            retry_after_s = float(ceil(resumes_s - now_s))
            raise Saturated("Every backend asked to wait.", retry_after_s=retry_after_s)

    def wait(self, ticket: Ticket, now_s: float, *, again: bool = False) -> None:
        """Let a request wait for its turn. again: whether it had its turn before, so that it is the
        next one of its caller. Raises Saturated where waiting cannot help, or for lack of room."""
        ticket.rank = self._rank(ticket.estimate, ticket.bucket)
        turns = self._turns_of(ticket)
        if not again:
            self._check(turns, ticket, now_s)
        if turns.tokens == 0:
            turns.drain.note(0, now_s, waiting=False)
        turns.add(ticket, first=again)
        self.waiting += 1
        self.tokens += ticket.tokens
        self._claim(turns.rank, self._served.tokens(ticket.caller, now_s), ticket)
        self._publish(now_s)

    def leave(self, ticket: Ticket, now_s: float) -> None:
        """Take out a request whose client left; it has no lease yet."""
        self._take_out(self._turns_of(ticket), ticket, 0, now_s)

    def turn(self, now_s: float) -> None:
        """Give leases to waiting requests, in order, as far as there is room; refuse those that
        have waited for too long. Called whenever there may be room, and when one's time is over."""
        if self._turning:  # by a request that ended at once; those that wait come next
            self._again = True
            return
        self._turning = True
        try:
            self._again = True
            while self._again and self.waiting:
                self._again = False
                for ticket in self._settle(now_s):
                    ticket.ready()
        finally:
            self._turning = False
        self._publish(now_s)

    def _settle(self, now_s: float) -> list[Ticket]:
        """Take out the requests that have a lease or an error now."""
        settled: list[Ticket] = []
        self._claims = {}
        for turns in self._order:
            if not turns.tokens:
                continue
            for ticket in turns.late(now_s):
                ticket.error = self._refusal("No backend had room in time.", "late", turns, 0.0)
                self._take_out(turns, ticket, 0, now_s)
                settled.append(ticket)
            placed = self._place(turns, now_s)
            for ticket in placed:
                self._take_out(turns, ticket, 0 if ticket.lease is None else ticket.tokens, now_s)
            settled += placed
        return settled

    def _place(self, turns: Turns, now_s: float) -> list[Ticket]:
        """Route the requests of one class in their order; return those with a lease or an error.

        A pool that an earlier one waits for is left alone by later ones, so that a large request is
        not passed by small ones for ever.
        """
        settled = []
        others = () if self._view is None else self._view.others(now_s).items()
        for level, ticket in turns.order(self._served, now_s):
            pools = self._router.eligibility.pools_for(ticket.bucket, ticket.estimate)
            if pools and all(pool in self._claims for pool in pools):
                if len(pools) == self._router.pool_count:
                    break
                continue
            barred = {*self._claims, *self._too_fast(ticket, now_s)}
            barred |= {
                pool for pool, claim in others if claim < (turns.rank, _coarse(level), ticket.due_s)
            }
            try:
                ticket.lease = self._router.route(
                    ticket.estimate,
                    bucket=ticket.bucket,
                    now_s=now_s,
                    exclude=ticket.exclude,
                    barred=barred,
                    slack_s=PROMPT * (ticket.due_s - now_s),
                )
            except Unavailable as error:
                ticket.error = error
            if ticket.lease is None and ticket.error is None:
                self._claim(turns.rank, level, ticket)
                continue
            settled.append(ticket)
        return settled

    def _barred(
        self, estimate: Estimate, bucket: int, caller: str, now_s: float, promised: bool
    ) -> Collection[int]:
        """The pools that a request which arrives now must leave alone."""
        barred = None
        if self._yields(bucket, caller, now_s, promised):
            barred = set(self._router.hurried(bucket, now_s))
        others = None if self._view is None else self._view.others(now_s)
        if not self.waiting and not others:
            return barred or ()
        barred = barred or set()
        rank = self._rank(estimate, bucket)
        if self.waiting:
            barred |= {pool for pool, claim in self._claims.items() if claim[0] <= rank}
        if others:
            mine = rank, _coarse(self._served.tokens(caller, now_s)), inf
            barred |= {pool for pool, claim in others.items() if claim < mine}
        return barred

    def _too_fast(self, ticket: Ticket, now_s: float) -> Collection[int]:
        promised = self._router.promised(ticket.estimate, ticket.bucket)
        if self._yields(ticket.bucket, ticket.caller, now_s, promised):
            return self._router.hurried(ticket.bucket, now_s)
        return ()

    def _publish(self, now_s: float) -> None:
        if self._view is not None:
            self._view.publish(self._claims if self.waiting else {}, now_s)

    def _check(self, turns: Turns, ticket: Ticket, now_s: float) -> None:
        ahead = turns.ahead(ticket.caller, ticket.tokens, self._served, now_s)
        if ahead > 0:
            wait_s = turns.drain.wait_s(ahead, ticket.until_s - now_s)
            if wait_s is not None and now_s + wait_s / SURE > ticket.until_s:
                raise self._refusal(
                    "The queue is too long to be served in time.", "queue_too_long", turns, ahead
                )
        limits = self._limits
        if ticket.until_s <= now_s:
            raise self._refusal("No backend has room.", "full", turns, ahead)
        while self.waiting >= limits.requests or (
            self.waiting and self.tokens + ticket.tokens > limits.tokens
        ):
            if not self._evict(turns, ticket, now_s):
                raise self._refusal(
                    "Every backend is full and so is the queue.", "queue_full", turns, ahead
                )

    def _evict(self, turns: Turns, newcomer: Ticket, now_s: float) -> bool:
        """Refuse a waiting request that would have its turn later than a new one; `False` if there
        is none."""
        for other in reversed(self._order):
            victim = other.greediest(self._served, now_s)
            if victim is None:
                continue
            if other is turns:
                mine = turns.ahead(newcomer.caller, newcomer.tokens, self._served, now_s)
                if victim.caller == newcomer.caller or mine + victim.tokens > other.tokens:
                    return False
            elif other.rank <= turns.rank:
                return False
            victim.error = self._refusal("The queue is full.", "queue_full", other, 0.0)
            self._take_out(other, victim, 0, now_s)
            victim.ready()
            return True
        return False

    def _take_out(self, turns: Turns, ticket: Ticket, served: int, now_s: float) -> None:
        turns.drain.note(served, now_s, waiting=True)
        turns.remove(ticket)
        self.waiting -= 1
        self.tokens -= ticket.tokens
        if served:
            self._served.add(ticket.caller, served, now_s)

    def _claim(self, rank: int, level: float, ticket: Ticket) -> None:
        claim = rank, _coarse(level), ticket.due_s
        for pool in self._router.eligibility.pools_for(ticket.bucket, ticket.estimate):
            self._claims[pool] = min(claim, self._claims.get(pool, claim))

    def _yields(self, bucket: int, caller: str, now_s: float, promised: bool) -> bool:
        """Whether others go before a request: of a stricter class, or callers that had less."""
        return (
            not promised or self._router.stricter(bucket, now_s) or self._served.over(caller, now_s)
        )

    def _rank(self, estimate: Estimate, bucket: int) -> int:
        return self._router.rank(bucket) if self._router.promised(estimate, bucket) else LAST

    def _turns_of(self, ticket: Ticket) -> Turns:
        key = ticket.estimate.model, ticket.rank
        turns = self._turns.get(key)
        if turns is None:
            turns = self._turns[key] = Turns(key[1])
            self._order = sorted(self._turns.values(), key=lambda t: t.rank)
        return turns

    def _refusal(self, message: str, reason: str, turns: Turns, ahead: float) -> Saturated:
        """A refusal that says when to come again: when the queue has drained."""
        wait_s = turns.drain.wait_s(ahead or float(turns.tokens))
        retry_s = LEAST_RETRY_S if wait_s is None else min(wait_s, LONGEST_RETRY_S)
        retry_after_s = float(ceil(max(retry_s, LEAST_RETRY_S)))
        return Saturated(message, retry_after_s=retry_after_s, reason=reason)


def _coarse(level: float) -> float:
    """A level as other workers compare it: theirs is some milliseconds older, and differences of a
    few requests must not reverse the order of arrival."""
    return float(level // COARSE)

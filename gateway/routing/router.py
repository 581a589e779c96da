"""Decides which backend serves a request. Pure: no I/O, no clock, no chance.

`route` chooses and reserves in one synchronous step and returns a lease. For each bucket, smooth
weighted round robin over the plan's pools gives the plan's shares exactly, without random numbers.
Inside a pool the backend with the least pressure, `load + prefill ahead / backlog`, is chosen, or
one that has the beginning of the prompt, if that is worth more. A request is placed only where the
pressure stays at or below 1, by the promise of every class there, so that it and all others keep
their promises. It spills, in the plan's order, to pools where its SLO holds even at the P90 of its
output length. Requests without a promise take what is left. Where nothing fits there is no lease;
`admission` decides what becomes of the request.
"""

from collections.abc import Collection
from math import inf
from typing import Final

from gateway.errors import ClassNotFound, Unavailable
from gateway.routing.affinity import Affinity
from gateway.routing.backend import NO_CLASS, Backend, Lease
from gateway.routing.class_names import LEFT_OVER, ClassNames
from gateway.routing.eligibility import Eligibility
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Membership
from gateway.routing.observation import NO_BUCKET
from gateway.routing.peers import Peers
from gateway.routing.pressure import PROMPT
from gateway.routing.ramp import Ramp
from gateway.routing.rotation import Rotation
from gateway.routing.selection import Selection
from gateway.routing.table import RoutingTable
from planner.cells import cell
from planner.model.buckets import DEFAULT

# Decisions, as receipts and metrics name them; that of what is left over is named like its class.
PLANNED: Final = "planned"
AFFINITY: Final = "affinity"
SPILL: Final = "spill"
ON_PLAN: Final = (PLANNED, AFFINITY)


class Router:
    """Executes a table on a fleet. The table may be replaced at any moment by one assignment, also
    by one of other classes and sizes. eligibility: which pools of it can serve a request. affinity:
    what is known of where prompts have been."""

    def __init__(self, table: RoutingTable, fleet: Fleet, *, peers: Peers | None = None) -> None:
        """peers: other routers that use the same fleet; `None`: there are none."""
        self.fleet = fleet
        self.peers = peers
        self._selection = Selection(table, fleet, None)
        self.affinity: Affinity = self._selection.affinity
        self.table = table

    def __repr__(self) -> str:
        return f"<Router plan {self._table.plan_id} on {self.fleet!r}>"

    @property
    def table(self) -> RoutingTable:
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self._table = table
        self._selection = Selection(table, self.fleet, self._selection)
        grid = table.buckets.grid
        self._classes = ClassNames(table.buckets.classes)
        self._inputs, self._outputs, self._cells = grid.input_edges, grid.output_edges, grid.cells
        # Copies of what every request looks up: RoutingTable is not compiled (it travels between
        # processes), and compiled code pays 110 instructions for each attribute of such a class.
        self._slots, self._feasible = table.slots, table.feasible
        self._backends = table.backends
        self._own, self._order = table.own, table.order
        self._context, self._plan_id = table.context, table.plan_id
        self.eligibility = Eligibility(table)
        self._promised = [any(row) for row in table.feasible]
        self._ranks, self.pool_count = table.ranks, len(table.pools)
        self._strictest, self._allowed_s = table.strictest, table.allowed_s
        self._entry_s = table.entry_s
        self._ramps = [Ramp(fill_s) for fill_s in table.fill_s]
        self._rotation = Rotation(table.slices, len(table.pools))

    def apply(self, membership: Membership) -> tuple[Backend, ...]:
        """Route to the backends of this membership from now on; return the backends that left.
        Requests under way keep their leases."""
        _, gone = self.fleet.apply(membership)
        self._selection.track(self.fleet)
        if self.peers is not None:
            self.peers.track()
        return gone

    def look_after(self, now_s: float) -> None:
        """What the state of backends asks for. Called several times a second."""
        self.fleet.recall(now_s)
        self.affinity.look_after()

    def class_index(self, model: str, slo_class: str = DEFAULT) -> int:
        """The index of one of a model's SLO classes. Raises ModelNotFound or ClassNotFound."""
        return self._classes.index(model, slo_class)

    def class_names(self, model: str) -> tuple[str, ...]:
        """The names of a model's SLO classes, the built-in one last; none of an unknown model."""
        return self._classes.names(model)

    def bucket(self, estimate: Estimate) -> int:
        """The bucket of an estimate. Raises ModelNotFound or ClassNotFound."""
        index = self.class_index(estimate.model, estimate.slo_class)
        return self.bucket_of(index, estimate.input_tokens, estimate.output_tokens)

    def rebucket(self, estimate: Estimate) -> int:
        """The bucket of an estimate of an earlier table, in the default class where its own is
        gone. Raises ModelNotFound."""
        try:
            return self.bucket(estimate)
        except ClassNotFound:
            index = self.class_index(estimate.model)
            return self.bucket_of(index, estimate.input_tokens, estimate.output_tokens)

    def bucket_of(self, class_index: int, input_tokens: int, output_tokens: int) -> int:
        """The bucket of a size under an SLO class."""
        return class_index * self._cells + cell(
            self._inputs, self._outputs, input_tokens, output_tokens
        )

    def promised(self, estimate: Estimate, bucket: int) -> bool:
        """Whether a latency is promised to a request: not to one of the class `best-effort`, nor
        to one that no idle backend could serve in time, nor to one of more sequences than that."""
        if not self._promised[bucket] or estimate.slo_class == LEFT_OVER:
            return False
        order, feasible = self.eligibility.order(bucket, estimate), self._feasible[bucket]
        if order is not self._order[bucket] and not any(feasible[pool] for pool in order):
            return False
        return estimate.width == 1 or self._selection.holds(
            order, bucket, estimate, self.allowed_s(bucket)
        )

    def allowed_s(self, bucket: int) -> float:
        """Seconds from its arrival in which a request may wait for its turn and for prefill: the
        TTFT target less the iterations that it takes to get into the batch and out of it."""
        return self._allowed_s[bucket // self._cells]

    def stricter(self, bucket: int, now_s: float) -> bool:
        """Whether requests of a stricter class of the same model came lately."""
        return self._selection.pressure.stricter(bucket, now_s)

    def rank(self, bucket: int) -> int:
        """The rank of a bucket's class among those of its model: 0 for the strictest promise."""
        return self._ranks[bucket // self._cells]

    def route(
        self,
        estimate: Estimate,
        *,
        now_s: float,
        bucket: int | None = None,
        exclude: Collection[str] = (),
        barred: Collection[int] = (),
        slack_s: float = inf,
        promised: bool | None = None,
    ) -> Lease | None:
        """Choose a backend and reserve it; `None` if none has room for the request now.

        bucket: of the estimate, if there is one. exclude: names of backends where it failed.
        barred: pools that other requests wait for and that it must leave alone. slack_s: seconds in
        which its first token is due. promised: the answer of `promised`, if it is known. Raises
        ModelNotFound, ClassNotFound, and Unavailable if no backend of the model is live.
        """
        if self.peers is not None:
            self.peers.refresh(now_s)
        if bucket is None or bucket == NO_BUCKET:
            bucket = self.bucket(estimate)
        if estimate.trail is not None:
            self.affinity.find(estimate.trail, now_s)
        order = self.eligibility.order(bucket, estimate)
        if not (self.promised(estimate, bucket) if promised is None else promised):
            lease = self._left_over(bucket, order, estimate, now_s, exclude, barred)
        else:
            self._selection.pressure.seen(bucket, now_s)
            lease = self._keeping(bucket, order, estimate, now_s, exclude, barred, slack_s)
            if lease is None and self._selection.aside is not None:
                self._selection.aside = None  # it is needed
                lease = self._keeping(bucket, order, estimate, now_s, exclude, barred, slack_s)
        if lease is None:
            lease = self._beyond_context(bucket, order, estimate, now_s, exclude)
        if lease is None and not self._selection.any_live(order, now_s, exclude):
            text = f"No backend for the model `{estimate.model}` is available."
            raise Unavailable(text, retry_after_s=2.0)
        return lease

    def resumes_s(
        self, bucket: int, estimate: Estimate, now_s: float, exclude: Collection[str]
    ) -> float:
        """Until when all live backends that may serve a request want none; `now_s` if one takes
        it."""
        pools = self.eligibility.pools_for(bucket, estimate)
        return self._selection.resumes_s(pools, now_s, exclude)

    def hurried(self, bucket: int, now_s: float) -> list[int]:
        """The pools of a bucket whose room was given out too fast: requests that others go before
        must leave them alone."""
        hurried = []
        for pool in self._order[bucket]:
            strictest = self._strictest[pool]
            running = self._selection.pools[pool]
            backends = [b for b in running if b.live(now_s) and b.cold_until_s <= now_s]
            if not backends:
                continue
            load = sum([backend.loads[strictest] for backend in backends]) / len(backends)
            more = self._slots[bucket][pool][strictest] / len(backends)
            if not self._ramps[pool].allows(load, more, now_s):
                hurried.append(pool)
        return hurried

    def _keeping(
        self,
        bucket: int,
        order: tuple[int, ...],
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
        barred: Collection[int],
        slack_s: float,
    ) -> Lease | None:
        """A lease where the request and all others keep their promises: at the pool whose turn it
        is, else at another one, else at a backend that runs although the plan does not use it."""
        planned = self._rotation.take(bucket)
        able = planned is None or order is self._order[bucket] or planned in order
        if planned is not None and able:
            for turn in self._turns(bucket, planned, order, estimate):
                if turn in barred:
                    continue
                limit = self._backends[turn]
                backend = self._selection.fitting(
                    turn, bucket, estimate, now_s, exclude, limit, slack_s
                )
                if backend is not None:
                    if turn != planned:
                        self._rotation.pass_on(bucket, planned, turn)
                    swayed = self._selection.swayed or turn != planned
                    decision = AFFINITY if swayed else PLANNED
                    return self._reserve(backend, turn, bucket, estimate, decision, now_s)
        longer = self.bucket_of(bucket // self._cells, estimate.input_tokens, estimate.output_p90)
        feasible = self.eligibility.safe(bucket, longer)
        for beyond in (False, True):
            for pool in order:
                if pool in barred or not feasible[pool] or (pool == planned and not beyond):
                    continue
                running, used = len(self._selection.pools[pool]), self._backends[pool]
                if beyond and running <= used:
                    continue
                limit = running if beyond else used
                backend = self._selection.fitting(
                    pool, bucket, estimate, now_s, exclude, limit, slack_s
                )
                if backend is not None:
                    if planned is not None and not able:
                        self._rotation.pass_on(bucket, planned, pool)
                    return self._reserve(backend, pool, bucket, estimate, SPILL, now_s)
        if planned is not None:
            self._rotation.give_back(bucket, planned)
        return None

    def _turns(
        self, bucket: int, planned: int, order: tuple[int, ...], estimate: Estimate
    ) -> tuple[int, ...]:
        """The pool whose turn it is, and before it one that has had the prompt, if the shares of
        the plan allow that it takes the turn."""
        if estimate.trail is not None and estimate.trail.shares:
            home = self.affinity.home(estimate.trail, planned)
            if home in order and self._rotation.may_pass_on(bucket, planned, home):
                return home, planned
        return (planned,)

    def _left_over(
        self,
        bucket: int,
        order: tuple[int, ...],
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
        barred: Collection[int],
    ) -> Lease | None:
        """A lease for a request without a promise, where those with one do not need the room.

        The plan's backends come first; backends beyond the plan serve only if no other has room.
        """
        # A prompt beyond a pool's context is an error there.
        roomy = [pool for pool in order if estimate.input_tokens < self._context[pool]]
        for beyond in (False, True):
            for pool in roomy:
                if pool in barred:
                    continue
                limit = len(self._selection.pools[pool]) if beyond else self._backends[pool]
                backend = self._selection.spare(pool, bucket, estimate, now_s, exclude, limit)
                if backend is not None:
                    return self._reserve(backend, pool, bucket, estimate, LEFT_OVER, now_s)
        return None

    def _beyond_context(
        self,
        bucket: int,
        order: tuple[int, ...],
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
    ) -> Lease | None:
        """A lease on any backend for a prompt that no pool has the context for: its engine refuses
        it at once, in words that tell the client best, and works no more for it."""
        if any(estimate.input_tokens < self._context[pool] for pool in order):
            return None
        found = self._selection.first_live(order, now_s, exclude)
        if found is None:
            return None
        return Lease(
            found[1],
            own=NO_CLASS,
            slots=self._slots[bucket][found[0]],
            prefill_s=0.0,
            bucket=bucket,
            plan_id=self._plan_id,
            decision=LEFT_OVER,
        )

    def _reserve(
        self,
        backend: Backend,
        pool: int,
        bucket: int,
        estimate: Estimate,
        decision: str,
        now_s: float,
    ) -> Lease:
        prefill_s = self._selection.prefill_s(pool, estimate, backend)
        self.affinity.place(estimate, backend)
        entry_s = self._entry_s[bucket // self._cells]
        slots, width = self._slots[bucket][pool], estimate.width
        return Lease(
            backend,
            own=NO_CLASS if decision == LEFT_OVER else self._own[bucket],
            slots=slots if width == 1 else tuple([slot * width for slot in slots]),
            width=width,
            prefill_s=prefill_s,
            bucket=bucket,
            plan_id=self._plan_id,
            decision=decision,
            due_s=now_s + entry_s + (backend.pending_s + prefill_s) / PROMPT,
            memory=self._selection.memory(pool, estimate),
            streams=estimate.streams,
        )

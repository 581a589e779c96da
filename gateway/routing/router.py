"""Decides which backend serves a request. Pure: no I/O, no clock, no chance.

`route` chooses and reserves in one synchronous step and returns a lease. For each bucket, smooth
weighted round robin over the plan's pools gives the plan's shares exactly, without random numbers.
Inside a pool the backend with the least pressure, `load + pending prefill / backlog`, is chosen. If
the request would raise its pressure above 1, the request spills, in the plan's order, to pools
where the SLO holds even at the P90 of its output length. If no backend keeps the SLO, a handler
that can wait is told to (`WouldMissSlo`), because the prefill ahead of the request is soon done.
"""

from collections.abc import Collection
from math import inf
from typing import Final

from gateway.errors import ClassNotFound, ModelNotFound, Saturated, Unavailable, WouldMissSlo
from gateway.routing.backend import Backend, Lease
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.membership import Membership
from gateway.routing.observation import NO_BUCKET
from gateway.routing.peers import Peers
from gateway.routing.table import RoutingTable
from planner.cells import cell
from planner.model.buckets import DEFAULT

CLASS_HEADER: Final = "x-cuvee-slo-class"  # how a request names its SLO class
FULL: Final = 1.0  # the pressure at which a backend just keeps its SLO

# Decisions, as receipts and metrics name them.
PLANNED, SPILL, OVERLOAD, BEST_EFFORT = "planned", "spill", "overload", "best-effort"


class Router:
    """Executes a table on a fleet. The table may be replaced at any moment by one assignment."""

    def __init__(
        self, table: RoutingTable, fleet: Fleet, *, max_load: float, peers: Peers | None = None
    ) -> None:
        """max_load: load at which a backend takes no further request, whatever the SLO. peers:
        other routers that use the same fleet; `None`: there are none."""
        self.fleet = fleet
        self._peers = peers
        self._max_load = max_load
        self.table = table

    def __repr__(self) -> str:
        return f"<Router plan {self._table.plan_id} on {self.fleet!r}>"

    @property
    def table(self) -> RoutingTable:
        return self._table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self._table = table
        grid = table.buckets.grid
        self._classes = {(c.model, c.name): index for index, c in enumerate(table.buckets.classes)}
        self._inputs, self._outputs, self._cells = grid.input_edges, grid.output_edges, grid.cells
        # Copies of what every request looks up: RoutingTable is not compiled (it travels between
        # processes), and compiled code pays 110 instructions for each attribute of such a class.
        self._slices, self._slots, self._feasible = table.slices, table.slots, table.feasible
        self._backends, self._prefill_s = table.backends, table.prefill_s
        self._backlog_s, self._plan_id = table.backlog_s, table.plan_id
        self._credit = [[0.0] * len(table.pools) for _ in range(table.buckets.count)]
        self._pools = tuple(self.fleet.pool(name) for name in table.pools)

    def configure(self, table: RoutingTable, max_load: float) -> None:
        """Route by this table, which may have other classes, and up to this load from now on."""
        self._max_load = max_load
        self.table = table

    def apply(self, membership: Membership) -> tuple[Backend, ...]:
        """Route to the backends of this membership from now on; return the backends that left.
        Requests under way keep their leases."""
        _, gone = self.fleet.apply(membership)
        self._pools = tuple(self.fleet.pool(name) for name in self._table.pools)
        if self._peers is not None:
            self._peers.track()
        return gone

    def class_index(self, model: str, slo_class: str = DEFAULT) -> int:
        """The index of one of a model's SLO classes. Raises ModelNotFound or ClassNotFound."""
        index = self._classes.get((model, slo_class))
        if index is not None:
            return index
        known = self.class_names(model)
        if not known:
            raise ModelNotFound(f"The model `{model}` does not exist.", param="model")
        raise ClassNotFound(
            f"{CLASS_HEADER}: the model `{model}` has no SLO class `{slo_class}`; it has "
            + ", ".join(f"`{name}`" for name in known),
            param=CLASS_HEADER,
        )

    def class_names(self, model: str) -> tuple[str, ...]:
        """The names of a model's SLO classes; none of an unknown model."""
        return tuple(name for owner, name in self._classes if owner == model)

    def bucket(self, estimate: Estimate) -> int:
        """The bucket of an estimate. Raises ModelNotFound or ClassNotFound."""
        index = self.class_index(estimate.model, estimate.slo_class)
        return self.bucket_of(index, estimate.input_tokens, estimate.output_tokens)

    def rebucket(self, estimate: Estimate) -> int:
        """The bucket of an estimate that was made under an earlier table: of its class, or of the
        default class where its own is gone. Raises ModelNotFound."""
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

    def hold_s(self, bucket: int) -> float:
        """Seconds after its arrival for which `route` may hold a request of this bucket back."""
        return self._table.hold_s[bucket]

    def route(
        self,
        estimate: Estimate,
        *,
        now_s: float,
        bucket: int | None = None,
        exclude: Collection[str] = (),
        patient: bool = False,
    ) -> Lease:
        """Choose a backend and reserve it.

        bucket: of the estimate, if it is known and there is one. exclude: names of backends where
        this request failed. patient: whether the request can wait a moment. Raises ModelNotFound,
        ClassNotFound, Unavailable (no live backend for the model), Saturated (all backends are at
        `max_load`) or, if patient, WouldMissSlo (no backend keeps the SLO now).
        """
        if self._peers is not None:
            self._peers.refresh(now_s)
        if bucket is None or bucket == NO_BUCKET:
            bucket = self.bucket(estimate)
        planned = self._next_slice(bucket)
        if planned is not None:
            backend = self._fitting(planned, bucket, estimate, now_s, exclude)
            if backend is not None:
                return self._reserve(backend, planned, bucket, estimate, PLANNED)
        feasible = self._feasible_at_p90(bucket, estimate)
        for pool in self._table.order[bucket]:
            if pool != planned and feasible[pool]:
                backend = self._fitting(pool, bucket, estimate, now_s, exclude)
                if backend is not None:
                    return self._reserve(backend, pool, bucket, estimate, SPILL)
        return self._anywhere(planned, bucket, estimate, now_s, exclude, patient)

    def _next_slice(self, bucket: int) -> int | None:
        """The pool whose turn it is; `None` if the plan gives the bucket to no pool.

        Smooth weighted round robin as in nginx: every pool gains its weight, the pool with the most
        credit serves and pays 1. Shares are exact over any window, without bursts to one pool.
        """
        slices = self._slices[bucket]
        if len(slices) == 1:  # most buckets; their credit would always be 0
            return slices[0][0]
        credit = self._credit[bucket]
        richest: int | None = None
        for pool, weight in slices:
            credit[pool] += weight
            if richest is None or credit[pool] > credit[richest]:
                richest = pool
        if richest is not None:
            credit[richest] -= 1.0
        return richest

    def _feasible_at_p90(self, bucket: int, estimate: Estimate) -> tuple[bool, ...]:
        """(P,) whether a pool holds the SLO at the median of the output and at its P90.

        The plan did not provide for a spill, so it must be safe: half of the answers are longer
        than the median, and on a pool that just holds the median they would miss the SLO.
        """
        longer = self.bucket_of(bucket // self._cells, estimate.input_tokens, estimate.output_p90)
        at_median, at_p90 = self._feasible[bucket], self._feasible[longer]
        return tuple(a and b for a, b in zip(at_median, at_p90, strict=True))

    def _least_pressed(
        self, pool: int, backlog_s: float, now_s: float, exclude: Collection[str], limit: int
    ) -> tuple[Backend | None, float]:
        """The backend with the least pressure among the first `limit` live backends of a pool, and
        its pressure; (`None`, 0) if there is none. Recent failures count as pressure, but only
        where backends are compared.

        The plan states a number of backends and no names. The first live ones are used, so that the
        others stay idle and can be stopped.
        """
        best, least, rank = None, 0.0, inf
        for backend in self._pools[pool]:
            if limit == 0:
                break
            if not backend.live(now_s):
                continue
            # One where this request failed still counts as one of the plan's: taking another in its
            # place would start a backend that the plan wants to stop.
            limit -= 1
            if backend.name in exclude:
                continue
            pressure = backend.load + backend.pending_s / backlog_s
            if backend.full(now_s):  # the engine knows better than our sums
                pressure = inf
            penalised = pressure + backend.breaker.penalty
            if best is None or penalised < rank:
                best, least, rank = backend, pressure, penalised
        return best, least

    def _fitting(
        self, pool: int, bucket: int, estimate: Estimate, now_s: float, exclude: Collection[str]
    ) -> Backend | None:
        """The backend of the pool with the least pressure, if it keeps the SLO with this
        request."""
        if not self._feasible[bucket][pool]:
            return None
        backlog_s = self._backlog_s[bucket]
        best, least = self._least_pressed(pool, backlog_s, now_s, exclude, self._backends[pool])
        if best is None or least == inf:
            return None
        # An idle backend of a feasible pool holds the SLO, however large the request is.
        if best.in_flight == 0 or least + self._added_pressure(pool, bucket, estimate) <= FULL:
            return best
        return None

    def _added_pressure(self, pool: int, bucket: int, estimate: Estimate) -> float:
        """The pressure that this request would add to a backend of the pool."""
        prefill_s = estimate.input_tokens * self._prefill_s[pool]
        return self._slots[bucket][pool] + prefill_s / self._backlog_s[bucket]

    def _anywhere(
        self,
        planned: int | None,
        bucket: int,
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
        patient: bool,
    ) -> Lease:
        """Reserve the backend that breaks the SLO least, up to `max_load`, where none keeps it.

        The plan's backends come first; backends beyond the plan serve only if no other is live.
        """
        table = self._table
        backlog_s = self._backlog_s[bucket]
        order = table.order[bucket]
        # A prompt beyond a pool's context is an error there; if it is beyond all of them, the error
        # of an engine tells the client best.
        roomy = [pool for pool in order if estimate.input_tokens < table.context[pool]]
        for all_backends in (False, True):
            alive = []
            for pool in roomy or order:
                limit = len(self._pools[pool]) if all_backends else self._backends[pool]
                best, least = self._least_pressed(pool, backlog_s, now_s, exclude, limit)
                if best is not None:
                    misfit = not self._feasible[bucket][pool]
                    pressure = least + self._added_pressure(pool, bucket, estimate)
                    load = inf if least == inf else best.load + self._slots[bucket][pool]
                    alive.append((misfit, pressure, best, pool, load))
            if alive:
                # An idle backend takes even a request whose load alone exceeds max_load: otherwise
                # it would never be served.
                idle = [a for a in alive if a[4] < inf and a[2].in_flight == 0]
                with_room = [a for a in alive if a[4] <= self._max_load] or idle
                if not with_room:
                    raise Saturated("Every backend is full.", retry_after_s=1.0)
                if patient and planned is not None:
                    raise WouldMissSlo("No backend keeps the SLO now.", retry_after_s=1.0)
                misfit, _, backend, pool, _ = min(with_room, key=lambda a: a[:2])
                decision = BEST_EFFORT if misfit and planned is None else OVERLOAD
                return self._reserve(backend, pool, bucket, estimate, decision)
        raise Unavailable(
            f"No backend for the model `{estimate.model}` is available.", retry_after_s=2.0
        )

    def _reserve(
        self, backend: Backend, pool: int, bucket: int, estimate: Estimate, decision: str
    ) -> Lease:
        return Lease(
            backend,
            slot=self._slots[bucket][pool],
            prefill_s=estimate.input_tokens * self._prefill_s[pool],
            bucket=bucket,
            plan_id=self._plan_id,
            decision=decision,
        )

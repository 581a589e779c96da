"""Which pools can serve a request at all, whatever its promise and however much room they have.

An engine refuses a prompt that leaves no room for the answer that the client asks for, and what it
has no adapter or no ability for. So this comes before the plan's shares. Pure.
"""

from gateway.routing.estimate import Estimate
from gateway.routing.table import RoutingTable


class Eligibility:
    """What one table says of it."""

    __slots__ = ("_context", "_feasible", "_least", "_names", "_order", "_prefill_s")

    def __init__(self, table: RoutingTable) -> None:
        self._order, self._names, self._context = table.order, table.pools, table.context
        self._feasible, self._prefill_s = table.feasible, table.prefill_s
        # (B,) the shortest context of a pool of the model: most requests fit into it.
        self._least = [min([table.context[p] for p in order], default=0) for order in table.order]

    def __repr__(self) -> str:
        return f"<Eligibility for {', '.join(self._names)}>"

    def order(self, bucket: int, estimate: Estimate) -> tuple[int, ...]:
        """The pools that can serve a request, in the plan's order of spilling; the table's own
        tuple if all can. If none holds the prompt and the answer, those that hold most: the
        estimate may be wrong, and else the engine's refusal tells the client best."""
        order, need, only = self._order[bucket], estimate.room_tokens, estimate.only
        if only is None and need <= self._least[bucket]:
            return order
        context = self._context
        able = [p for p in order if only is None or self._names[p] in only]
        least = min(need, max([context[p] for p in able], default=0))
        fitting = [p for p in able if context[p] >= least]
        return order if len(fitting) == len(order) else tuple(fitting)

    def pools_for(self, bucket: int, estimate: Estimate) -> tuple[int, ...]:
        """The pools that may serve a request: those that keep its SLO, or all that can serve it if
        none does."""
        order, feasible = self.order(bucket, estimate), self._feasible[bucket]
        return tuple([p for p in order if feasible[p]]) or order

    def safe(self, bucket: int, longer: int) -> tuple[bool, ...]:
        """(P,) whether a pool holds the SLO at the median of the output and at its P90. longer: the
        bucket of the latter.

        The plan did not provide for a spill, so it must be safe: half of the answers are longer
        than the median, and on a pool that just holds the median they would miss the SLO.
        """
        at_median, at_p90 = self._feasible[bucket], self._feasible[longer]
        return tuple([a and b for a, b in zip(at_median, at_p90, strict=True)])

    def prefill_s(self, bucket: int, estimate: Estimate) -> float:
        """The least seconds of prefill of a prompt on a pool that may serve the request."""
        pools = self.pools_for(bucket, estimate)
        return estimate.prompt_tokens * min([self._prefill_s[p] for p in pools], default=0.0)

    def larger(
        self, bucket: int, estimate: Estimate, pool: str, limit: int | None
    ) -> frozenset[str]:
        """Names of the pools that can serve a request and hold more than the pool of this name.
        limit: what its engine says that it holds, tokens, if that is known; then its profile's is
        wrong where it is longer."""
        held = {self._names[p]: self._context[p] for p in self._order[bucket]}
        own = held.pop(pool, 0)
        if limit is not None:
            own = min(own, limit)
        only = estimate.only
        return frozenset(
            [name for name, n in held.items() if n > own and (only is None or name in only)]
        )

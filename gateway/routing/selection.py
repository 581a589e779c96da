"""Chooses a backend inside one pool: the one with the least pressure, if it has room. Pure."""

from collections.abc import Collection, Iterable
from math import inf
from typing import Final

from gateway.routing.backend import NO_CLASS, Backend
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.pressure import PROMPT, Pressure
from gateway.routing.table import RoutingTable

FULL: Final = 1.0  # the pressure at which a backend just keeps its SLO
# The pressure up to which requests without a promise are placed: a burst of promised ones must
# find room before any of the others has ended.
LEFT: Final = 0.85
HELD: Final = 0.6  # of an answer, that counts as held in the KV cache
NEVER: Final = inf  # the pressure of a backend that takes nothing now
AWAY: Final = 1_000.0  # what makes a backend the last choice, or the first


class Selection:
    """Chooses among the backends that a table's pools have now.

    pressure: measures how full they are. aside: a backend that is kept free for a long prompt.
    """

    def __init__(self, table: RoutingTable, fleet: Fleet, before: "Selection | None") -> None:
        """before: of the table in force until now; what it has seen stays known."""
        self.pressure = Pressure(table)
        self.aside: Backend | None = None
        if before is not None:
            self.pressure.keep(before.pressure)
        # Copies of what every request looks up: RoutingTable is not compiled (it travels between
        # processes), and compiled code pays 110 instructions for each attribute of such a class.
        self._feasible, self._own = table.feasible, table.own
        self._prefill_s, self._names = table.prefill_s, table.pools
        self._kv_tokens, self._slots = table.kv_tokens, table.slots
        served = [set(order) for order in table.order]
        self._alone = [
            [self.pressure.alone(p, b) if p in served[b] else None for p in range(len(table.pools))]
            for b in range(table.buckets.count)
        ]
        self.track(fleet)

    def __repr__(self) -> str:
        return f"<Selection in {len(self.pools)} pools by {self.pressure!r}>"

    def track(self, fleet: Fleet) -> None:
        """Choose among the backends that the fleet has now."""
        self.pools = tuple(fleet.pool(name) for name in self._names)

    def fitting(
        self,
        pool: int,
        bucket: int,
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
        limit: int,
        slack_s: float,
    ) -> Backend | None:
        """The backend of the pool with the least pressure, if all promises are kept with this
        request."""
        if not self._feasible[bucket][pool]:
            return None
        prefill_s = estimate.prompt_tokens * self._prefill_s[pool]
        own, memory, width = self._own[bucket], self.memory(pool, estimate), estimate.lasting
        best, least = self._least_pressed(
            pool, bucket, own, memory, prefill_s, now_s, exclude, limit, width
        )
        if best is None or least == NEVER:
            return None
        # An idle backend of a feasible pool holds the SLO, however large the request is; but not
        # however wide.
        if best.idle and width == 1:
            return best
        if least <= FULL and best.pending_s + prefill_s <= slack_s:
            return best
        return None

    def spare(
        self,
        pool: int,
        bucket: int,
        estimate: Estimate,
        now_s: float,
        exclude: Collection[str],
        limit: int,
    ) -> Backend | None:
        """A backend of the pool that has room for a request without a promise.

        A long prompt keeps a backend from others for seconds, and so do very many. It gets one that
        is idle or nearly so, and only a third of the pool may be so busy. While there is none, one
        is set aside: it gets promised requests only where no other has room.
        """
        pressure, prefill_s = self.pressure, estimate.prompt_tokens * self._prefill_s[pool]
        memory, width = self.memory(pool, estimate), estimate.lasting
        best, least = self._least_pressed(
            pool, bucket, NO_CLASS, memory, prefill_s, now_s, exclude, limit, width
        )
        if best is None or least == NEVER:
            return None
        if not pressure.long(bucket, prefill_s) and not self._fills(pool, bucket, width):
            return best if best.idle or least <= LEFT else None
        stalled = sum(pressure.stalled(backend, bucket) for backend in self.pools[pool])
        if stalled >= max(1, min(limit, len(self.pools[pool])) // 3):
            return None
        alone = len(self.pools[pool]) == 1  # then no other backend serves those that come meanwhile
        calm = not alone and pressure.stall(best, pool, bucket, prefill_s, width) <= LEFT
        if best.idle or calm:
            self.aside = None
            return best
        self.aside = self.aside or best
        return None

    def memory(self, pool: int, estimate: Estimate) -> float:
        """The share of a backend's KV cache that a request fills: its prompt and, on average over
        its time, half of its answer; a little more, since answers that began together are long
        together. The choices of one prompt share it."""
        answers = HELD * estimate.output_tokens * estimate.width
        return (estimate.prompt_tokens + answers) / self._kv_tokens[pool]

    def holds(
        self, pools: Iterable[int], bucket: int, estimate: Estimate, allowed_s: float
    ) -> bool:
        """Whether some backend of these pools keeps the promise to all sequences of a request, if
        it has no other request. allowed_s: seconds of prefill that the promise allows."""
        feasible, slots, own = self._feasible[bucket], self._slots[bucket], self._own[bucket]
        return any(
            feasible[pool]
            and slots[pool][own] * estimate.lasting <= FULL
            and self.memory(pool, estimate) <= FULL
            and estimate.prompt_tokens * self._prefill_s[pool] <= PROMPT * allowed_s
            for pool in pools
        )

    def _fills(self, pool: int, bucket: int, width: int) -> bool:
        """Whether a request has so many sequences that it fits beside no other."""
        return width > 1 and max(self._slots[bucket][pool]) * width > LEFT

    def any_live(self, pools: Iterable[int], now_s: float, exclude: Collection[str]) -> bool:
        return any(
            backend.live(now_s) and backend.name not in exclude
            for pool in pools
            for backend in self.pools[pool]
        )

    def _least_pressed(
        self,
        pool: int,
        bucket: int,
        own: int,
        memory: float,
        prefill_s: float,
        now_s: float,
        exclude: Collection[str],
        limit: int,
        width: int,
    ) -> tuple[Backend | None, float]:
        """The backend that would have the least pressure with this request, among the first `limit`
        live ones of a pool, and that pressure; (`None`, 0) if there is none. Recent failures count
        as pressure, but only where backends are compared.

        The plan states a number of backends and no names. The first live ones are used, so that the
        others stay idle and can be stopped.
        """
        best, least, rank = None, 0.0, NEVER
        alone = self._alone[bucket][pool]
        for backend in self.pools[pool]:
            if limit == 0:
                break
            if not backend.live(now_s):
                continue
            # One where this request failed still counts as one of the plan's: taking another in its
            # place would start a backend that the plan wants to stop.
            limit -= 1
            if backend.name in exclude:
                continue
            # The engine knows better than our sums.
            if backend.behind(now_s) or backend.full(now_s):
                pressure = NEVER
            elif alone is not None:
                pressure = alone.of(backend, memory, prefill_s, width)
            else:
                pressure = self.pressure.of(
                    backend, pool, bucket, own, memory, prefill_s, now_s, width
                )
            if now_s < backend.cold_until_s:
                pressure += backend.cold(now_s)
            penalised = pressure + backend.breaker.penalty
            if backend is self.aside:
                penalised += AWAY if own >= 0 else -AWAY
            if best is None or penalised < rank:
                best, least, rank = backend, pressure, penalised
        return best, least

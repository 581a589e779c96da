"""Chooses a backend inside one pool: the one with the least pressure, if it has room. Pure.

A backend that has the beginning of a prompt has less prefill to do, and is preferred for it beyond
that, up to a bound: only while it keeps all promises, and only as far as what is saved outweighs
how much fuller it is than another.
"""

from collections.abc import Collection, Iterable
from math import inf
from typing import Final

from gateway.routing.affinity import Affinity, Credit
from gateway.routing.backend import NO_CLASS, Backend
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.pressure import BESIDE, PROMPT, Alone, Pressure
from gateway.routing.table import RoutingTable

FULL: Final = 1.0  # the pressure at which a backend just keeps its SLO
# The pressure up to which requests without a promise are placed: a burst of promised ones must
# find room before any of the others has ended.
LEFT: Final = 0.85
HELD: Final = 0.6  # of an answer, that counts as held in the KV cache
NEVER: Final = inf  # the pressure of a backend that takes nothing now
AWAY: Final = 1_000.0  # what makes a backend the last choice, or the first
# What a backend may be fuller by than another, for what it saves of a prompt: the pressure for each
# backlog of prefill, and at most. And how much later the first token may come there, over what is
# saved. On a trace with blocks (docs/dispatch.md) a quarter of the first, half of the second and
# none of the last keep a tenth to a fifth fewer hits; twice as much of any of them keeps no more.
WORTH: Final = 4.0
MOST_WORTH: Final = 1.0
PATIENT: Final = 2.0


class Selection:
    """Chooses among the backends that a table's pools have now.

    pressure: measures how full they are. aside: a backend that is kept free for a long prompt.
    affinity: knows which have the beginning of a prompt. swayed: whether the last choice would have
    been another one without that.
    """

    def __init__(self, table: RoutingTable, fleet: Fleet, before: "Selection | None") -> None:
        """before: of the table in force until now; what it has seen stays known."""
        self.pressure = Pressure(table)
        self.aside: Backend | None = None
        self.affinity: Affinity = Affinity() if before is None else before.affinity
        self.affinity.use(table)
        self.swayed = False
        if before is not None:
            self.pressure.keep(before.pressure)
        # Copies of what every request looks up: RoutingTable is not compiled (it travels between
        # processes), and compiled code pays 110 instructions for each attribute of such a class.
        self._feasible, self._own = table.feasible, table.own
        self._prefill_s, self._names = table.prefill_s, table.pools
        self._kv_tokens, self._slots = table.kv_tokens, table.slots
        cells = table.buckets.grid.cells
        self._backlog_s = [table.backlog_s[b // cells] for b in range(table.buckets.count)]
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
        self.affinity.track(fleet)

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
        credit = None if estimate.trail is None else self.affinity.credit(pool, estimate)
        prefill_s = estimate.prompt_tokens * self._prefill_s[pool]
        if credit is not None:
            prefill_s = credit.strange_s
        own, memory, width = self._own[bucket], self.memory(pool, estimate), estimate.lasting
        best, least = self._least_pressed(
            pool, bucket, own, memory, prefill_s, now_s, exclude, limit, width
        )
        self.swayed = False
        if best is None or least == NEVER:
            return None
        if credit is not None and credit.shares:
            best, least = self._home(
                best, least, pool, bucket, own, memory, now_s, exclude, limit, width, credit,
                slack_s,
            )  # fmt: skip
        # An idle backend of a feasible pool holds the SLO, however large the request is; but not
        # however wide.
        if best.idle and width == 1:
            return best
        if credit is not None:
            prefill_s = credit.at(best.name)
        if least <= FULL and best.pending_s + prefill_s <= slack_s:
            return best
        return None

    def prefill_s(self, pool: int, estimate: Estimate, backend: Backend) -> float:
        """Seconds of prefill of a request on a backend, as far as is known."""
        credit = None if estimate.trail is None else self.affinity.credit(pool, estimate)
        if credit is None:
            return estimate.prompt_tokens * self._prefill_s[pool]
        return credit.at(backend.name)

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
        credit = None if estimate.trail is None else self.affinity.credit(pool, estimate)
        best, least = self._least_pressed(
            pool, bucket, NO_CLASS, memory, prefill_s, now_s, exclude, limit, width
        )
        if best is None or least == NEVER:
            return None
        if credit is not None and credit.shares:
            best, least = self._home(
                best, least, pool, bucket, NO_CLASS, memory, now_s, exclude, limit, width, credit,
                NEVER,
            )  # fmt: skip
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

    def first_live(
        self, pools: Iterable[int], now_s: float, exclude: Collection[str]
    ) -> tuple[int, Backend] | None:
        """The first live backend of these pools, and its pool; `None` if there is none."""
        for pool in pools:
            for backend in self.pools[pool]:
                if backend.live(now_s) and backend.name not in exclude:
                    return pool, backend
        return None

    def resumes_s(self, pools: Iterable[int], now_s: float, exclude: Collection[str]) -> float:
        """Until when all live backends of these pools want none; `now_s` if one takes it."""
        return min(
            [
                backend.paused_until_s
                for pool in pools
                for backend in self.pools[pool]
                if backend.live(now_s) and backend.name not in exclude
            ],
            default=now_s,
        )

    def any_live(self, pools: Iterable[int], now_s: float, exclude: Collection[str]) -> bool:
        return self.first_live(pools, now_s, exclude) is not None

    def _home(
        self,
        plain: Backend,
        least: float,
        pool: int,
        bucket: int,
        own: int,
        memory: float,
        now_s: float,
        exclude: Collection[str],
        limit: int,
        width: int,
        credit: Credit,
        slack_s: float,
    ) -> tuple[Backend, float]:
        """The backend to prefer to the one with the least pressure, for what it has of the prompt,
        and its pressure; that one itself if there is none. slack_s: as for `fitting`.

        It must have room. Or it has room but for the prompts that wait there, and what is saved is
        worth the wait: the fleet has that much less to do, and prompts elsewhere wait for less.
        """
        best, most = plain, FULL if own >= 0 else LEFT
        here = credit.shares.get(plain.name, 0.0)
        if max(credit.shares.values()) <= here:  # no other has more of it
            return plain, least
        backlog_s, alone = self._backlog_s[bucket], self._alone[bucket][pool]
        plain_ready_s = plain.pending_s + credit.at(plain.name)
        rank = NEVER
        for backend in self.pools[pool]:
            if limit == 0:
                break
            if not backend.live(now_s):
                continue
            limit -= 1
            share = credit.shares.get(backend.name, 0.0)
            if backend is not plain and (
                not share or backend.name in exclude or backend is self.aside
            ):
                continue
            own_s, saved_s = credit.prefill_s(share), credit.saved_s(share)
            ready_s = backend.pending_s + own_s
            if ready_s > slack_s and backend is not plain:
                continue
            cold = backend.cold(now_s) if now_s < backend.cold_until_s else 0.0
            calm = cold + self._pressure(
                alone, backend, pool, bucket, own, memory, 0.0, now_s, width, True
            )
            worth = WORTH * saved_s / backlog_s
            even = calm + BESIDE * ready_s / backlog_s + backend.breaker.penalty
            even -= worth if worth < MOST_WORTH else MOST_WORTH
            if even >= rank:
                continue
            pressure = cold + self._pressure(
                alone, backend, pool, bucket, own, memory, own_s, now_s, width
            )
            if pressure > most and backend is not plain:
                if own < 0 or ready_s > plain_ready_s + PATIENT * saved_s or calm > most:
                    continue
                pressure = calm
            best, least, rank = backend, pressure, even
        self.swayed = best is not plain
        return best, least

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
            pressure = self._pressure(
                alone, backend, pool, bucket, own, memory, prefill_s, now_s, width
            )
            if now_s < backend.cold_until_s:
                pressure += backend.cold(now_s)
            penalised = pressure + backend.breaker.penalty
            if backend is self.aside:
                penalised += AWAY if own >= 0 else -AWAY
            if best is None or penalised < rank:
                best, least, rank = backend, pressure, penalised
        return best, least

    def _pressure(
        self,
        alone: Alone | None,
        backend: Backend,
        pool: int,
        bucket: int,
        own: int,
        memory: float,
        prefill_s: float,
        now_s: float,
        width: int,
        unhurried: bool = False,
    ) -> float:
        """The pressure of a backend with a request. alone: of the bucket in this pool."""
        # The engine knows better than our sums.
        if backend.behind(now_s) or backend.full(now_s):
            return NEVER
        if alone is not None:
            return alone.of(backend, memory, prefill_s, width, unhurried)
        return self.pressure.of(
            backend, pool, bucket, own, memory, prefill_s, now_s, width, unhurried
        )

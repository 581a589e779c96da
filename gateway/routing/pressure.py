"""How full a backend would be with one more request, by every promise that is kept there. Pure.

The pressure by one class is the load plus half of `prefill ahead / backlog`, or the latter alone
where that is more, both as its promise measures them; at 1 the promise is just kept. That of a
backend is the greatest, over the classes that use it. The load is that of our requests and of other
clients'.
"""

from math import inf
from typing import Final

from gateway.routing.backend import Backend
from gateway.routing.table import RoutingTable

# A prompt that is prefilled beside requests that decode takes longer than alone, and so do those
# before it: of the time until its first token is due, this share may be prefill by our sums.
PROMPT: Final = 0.7
# The pressure of a prompt that no other prompt waits before, however long it is within that share.
# By the backlog alone it would fit beside no other. In rehearsals four A10G at a load of 0.8
# served 59 % of the prompts of 4,000 tokens with 0.5 here, and 94 % with 0.1. Not for requests of a
# laxer class beside a stricter one: with it, 98.1 % of the strictest requests of four classes at
# twice the capacity attained, without 99.5 to 100 %.
ALONE: Final = 0.2
# Of the prefill ahead, what counts beside the load, which contains the prefill of a steady stream
# of requests. With all of it counted, a certified fleet refused 1.4 % of a conversation
# trace, in bursts; with half 1.1 %, and no request that was served missed its SLO for it.
BESIDE: Final = 0.5
# The most that a request's own load counts before it is placed. A request of a long prompt and a
# short answer would have to wait until most of a backend is idle, and let others wait meanwhile;
# placed, it counts in full, so that none follows it at once. Eight A100 at a TPOT of 60 ms keep
# the SLO of 99 % of conversation traffic up to a load of 0.96 with this and to 0.89 without.
LARGE: Final = 0.15
# A longer prompt, of a request without a promise, stalls all answers beside it until its prefill is
# done. In tokens of an answer, the time over which they can make up for it.
STALL: Final = 100
LAXEST: Final = 1_000  # the rank of requests without a promise
NONE_S: Final = 0.0
NOTHING_S: Final = 1e-6  # less pending prefill than this is none: sums of floats drift
# A class counts as using its pools for so long after its last request, so that requests of a laxer
# class do not fill them up to their own measure in a pause of it.
PRESENT_S: Final = 60.0


class Pressure:
    """The measures of a table, and when each class was seen last."""

    def __init__(self, table: RoutingTable) -> None:
        self._slots, self._siblings, self._guards = table.slots, table.siblings, table.guards
        self._backlog_s, self._allowed_s = table.backlog_s, table.allowed_s
        self._tpot_s = [c.slo.tpot_s for c in table.buckets.classes]
        self._ranks = table.ranks
        self._cells = table.buckets.grid.cells
        self._classes = [(c.model, c.name) for c in table.buckets.classes]
        self._seen_s = [-inf] * len(self._classes)

    def __repr__(self) -> str:
        return f"<Pressure by {len(self._seen_s)} classes>"

    def keep(self, other: "Pressure") -> None:
        """Go on with what another table's measures have seen of the same classes."""
        seen_s = dict(zip(other._classes, other._seen_s, strict=True))
        self._seen_s = [seen_s.get(slo_class, -inf) for slo_class in self._classes]

    def seen(self, bucket: int, now_s: float) -> None:
        """A request of this bucket came."""
        self._seen_s[bucket // self._cells] = now_s

    def stricter(self, bucket: int, now_s: float) -> bool:
        """Whether a class of the same model with a smaller rank was lately seen."""
        siblings, rank = self._siblings[bucket], self._ranks[bucket // self._cells]
        if len(siblings) == 1:
            return False
        return any(self._ranks[k] < rank and self._lately(k, now_s) for k in siblings)

    def of(
        self,
        backend: Backend,
        pool: int,
        bucket: int,
        own: int,
        memory: float,
        prefill_s: float,
        now_s: float,
        width: int = 1,
        unhurried: bool = False,
    ) -> float:
        """The pressure of a backend with a request of the bucket, by the strictest promise there:
        that of the request, of those in flight, and of classes that lately used the pool.

        The memory is one more measure, that of no class: where it is full, the engine lets prompts
        wait, or puts answers aside. The loads know it only for a typical size of the bucket.

        own: number of the request's class among those of its model, `NO_CLASS` without a promise:
        then the default class counts as present. memory: the request's share of the KV cache.
        width: its sequences. Each counts, as far as one does: they stay for as long as one.
        unhurried: as if no prompt waited there.
        """
        slots, siblings = self._slots[bucket][pool], self._siblings[bucket]
        worst: float = backend.memory + memory
        foreign, pending_s = backend.foreign, 0.0 if unhurried else backend.pending_s
        guards, ranks = self._guards[pool], self._ranks
        rank = LAXEST if own < 0 else ranks[siblings[own]]
        for k in range(len(siblings)):
            slo_class = siblings[k]
            if (
                k == own
                or (k == 0 and own < 0)
                or backend.present[k] > 0
                or (guards[k] and self._lately(slo_class, now_s))
            ):
                slot = slots[k]
                one = measured(
                    backend.loads[k] + foreign + (slot if slot < LARGE else LARGE) * width,
                    pending_s,
                    prefill_s,
                    self._backlog_s[slo_class],
                    self._allowed_s[slo_class] if ranks[slo_class] >= rank else NONE_S,
                )
                worst = one if one > worst else worst
        return worst

    def alone(self, pool: int, bucket: int) -> "Alone | None":
        """The same measure for a bucket whose class is the only one of its model, which most are:
        what depends on the bucket and the pool, looked up once."""
        siblings = self._siblings[bucket]
        if len(siblings) > 1:
            return None
        return Alone(
            self._slots[bucket][pool][0], self._backlog_s[siblings[0]], self._allowed_s[siblings[0]]
        )

    def long(self, bucket: int, prefill_s: float) -> bool:
        """Whether a prompt's prefill makes others miss the TTFT of some class of the model."""
        return any(prefill_s > PROMPT * self._allowed_s[k] for k in self._siblings[bucket])

    def stalled(self, backend: Backend, bucket: int) -> bool:
        """Whether a backend has such a prompt."""
        return self.long(bucket, backend.pending_s)

    def stall(
        self, backend: Backend, pool: int, bucket: int, prefill_s: float, width: int = 1
    ) -> float:
        """The pressure of a backend with a long prompt: its load, and the prompt as a stall of the
        answers in flight, by the strictest promise of the model."""
        slots, siblings = self._slots[bucket][pool], self._siblings[bucket]
        return max(
            [
                backend.loads[k]
                + backend.foreign
                + slots[k] * width
                + prefill_s / (STALL * self._tpot_s[siblings[k]])
                for k in range(len(siblings))
            ]
        )

    def _lately(self, slo_class: int, now_s: float) -> bool:
        return now_s < self._seen_s[slo_class] + PRESENT_S


class Alone:
    """The measure of a bucket whose class is the only one of its model."""

    __slots__ = ("_allowed_s", "_backlog_s", "_slot")

    def __init__(self, slot: float, backlog_s: float, allowed_s: float) -> None:
        self._slot = min(slot, LARGE)
        self._backlog_s = backlog_s
        self._allowed_s = allowed_s

    def of(
        self,
        backend: Backend,
        memory: float,
        prefill_s: float,
        width: int = 1,
        unhurried: bool = False,
    ) -> float:
        """The pressure of a backend with the request, as `Pressure.of`."""
        pending_s = 0.0 if unhurried else backend.pending_s
        filled = backend.memory + memory
        load: float = backend.loads[0] + backend.foreign + self._slot * width
        pressure = measured(load, pending_s, prefill_s, self._backlog_s, self._allowed_s)
        return pressure if pressure > filled else filled


def measured(
    load: float, pending_s: float, prefill_s: float, backlog_s: float, allowed_s: float
) -> float:
    """The pressure by one class. load: with the request. pending_s: prefill that waits already.
    prefill_s: of the request. backlog_s, allowed_s: of the class; `NONE_S` where the request is of
    a laxer one, which is the one to wait: short answers beside its prompt would lose their pace."""
    waits = (pending_s + prefill_s) / backlog_s
    if waits > ALONE and pending_s < NOTHING_S and prefill_s <= PROMPT * allowed_s:
        waits = ALONE
    pressure = load + BESIDE * waits
    return pressure if pressure > waits else waits

"""Which backends are likely to have the beginning of a prompt, and what that is worth. Pure.

A belief about each pool says how much of what the index predicts is really there: engines forget,
and other clients use them too. It is learned from the hits that answers tell, so that predictions
that are wrong come to nothing. Until an engine has told any, the prefill that is charged to a
backend stays the plan's average; only the choice between backends takes the prediction for most
likely true, within what `Selection` allows.
"""

from collections.abc import Mapping
from typing import Final

from gateway.routing.backend import Backend
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.prefix_trail import PrefixTrail
from gateway.routing.table import RoutingTable

OFF: Final = "off"
CALLER: Final = "caller"
FRESH_S: Final = 0.05  # for so long a request that waits keeps what was found
LIKELY: Final = 0.7  # of a prediction, before any hit was told
FIRM: Final = 20_000.0  # tokens of experience that what is believed beforehand is worth
HALF_TOKENS: Final = 500_000.0  # after which what was learned counts half
SESSION: Final = 0.5  # of the prompt, that the backend of its conversation has if nothing says more
LEAST_FREE: Final = 0.1  # of a KV cache
MUCH: Final = 0.25  # of a prompt: for less no other pool gets the turn
SPARE_ROWS: Final = 1024  # of an index that no other process uses


class PoolBelief:
    """What hits a pool's answers tell, against those that were predicted.

    predicted, kept: tokens that were thought to be known, and those of them that were. others,
    found: all other tokens, and the hits among them. told: whether an answer ever told a hit.
    """

    __slots__ = ("found", "kept", "others", "predicted", "told")

    def __init__(self) -> None:
        self.predicted = self.kept = self.others = self.found = 0.0
        self.told = False

    def __repr__(self) -> str:
        return f"<PoolBelief {self.kept:.0f} of {self.predicted:.0f} tokens>"

    def learn(self, share: float, input_tokens: int, cached_tokens: int | None) -> None:
        """Learn from an answer. share: of its prompt, that was predicted. cached_tokens: `None` if
        it does not say; of an engine that tells hits only, none."""
        if cached_tokens is not None:
            self.told = True
        elif not self.told:
            return
        cached = float(min(cached_tokens or 0, input_tokens))
        predicted = share * input_tokens
        fade = 0.5 ** (input_tokens / HALF_TOKENS)
        self.predicted = fade * self.predicted + predicted
        self.kept = fade * self.kept + min(cached, predicted)
        self.others = fade * self.others + input_tokens - predicted
        self.found = fade * self.found + max(0.0, cached - predicted)

    def trust(self, before: float) -> float:
        """The share of what is predicted that is there. before: as believed without experience."""
        return (self.kept + FIRM * before) / (self.predicted + FIRM)

    def elsewhere(self, before: float) -> float:
        """The share of hits among what was not predicted."""
        return (self.found + FIRM * before) / (self.others + FIRM)


class Credit:
    """What is known of one prompt in one pool.

    shares: of its tokens, by name of the backends that have any. strange_s: seconds of its prefill
    where nothing is known.
    """

    __slots__ = ("_certain", "_likely", "_whole_s", "shares", "strange_s")

    def __init__(
        self, shares: dict[str, float], whole_s: float, trust: float, likely: float, rest: float
    ) -> None:
        """whole_s: seconds of prefill without any hit. trust: of a prediction, that is certain
        enough to promise by. likely: the same to choose by. rest: share of hits in the rest."""
        self.shares = shares
        self.strange_s = whole_s * (1.0 - rest)
        self._whole_s = whole_s
        self._certain = trust - rest
        self._likely = max(0.0, likely - rest)

    def __repr__(self) -> str:
        return f"<Credit at {', '.join(self.shares)}>"

    def prefill_s(self, share: float) -> float:
        """Seconds of prefill where this share is known."""
        return self.strange_s - share * self._certain * self._whole_s

    def at(self, name: str) -> float:
        """The same at the backend of this name."""
        return self.prefill_s(self.shares.get(name, 0.0))

    def saved_s(self, share: float) -> float:
        """Seconds of prefill that are most likely saved there."""
        return share * self._likely * self._whole_s


class Affinity:
    """The index and the beliefs of one router; outlives its tables. salt: of the trails in it."""

    def __init__(self) -> None:
        self._index: PrefixIndex | None = None
        self.salt = 0
        self._off: frozenset[str] = frozenset()
        self._beliefs: dict[str, PoolBelief] = {}
        self._names: dict[int, str] = {}  # by row
        self._rows: dict[str, int] = {}
        self._backends: dict[int, Backend] = {}
        self._out: set[str] = set()

    def __repr__(self) -> str:
        return f"<Affinity by {self._index!r}>"

    def share(self, index: PrefixIndex) -> None:
        """Use this index from now on, which other processes use too."""
        self._index = index
        self.salt = index.salt
        self._measure()

    def configure(self, switches: Mapping[str, str]) -> None:
        """switches: by pool, as in the configuration."""
        self._off = frozenset([pool for pool, switch in switches.items() if switch == OFF])

    def use(self, table: RoutingTable) -> None:
        """Decide by this table from now on."""
        self._pools = table.pools
        self._numbers = {name: number for number, name in enumerate(table.pools)}
        cached = table.cached_share or (0.0,) * len(table.pools)
        self._cached = cached
        self._whole_s = [
            seconds / (1.0 - share) if share < 1.0 else seconds
            for seconds, share in zip(table.prefill_s, cached, strict=True)
        ]
        self._kv_tokens = dict(zip(table.pools, table.kv_tokens, strict=True))
        self._measure()

    def track(self, fleet: Fleet) -> None:
        """Know these backends from now on. A row that another had before knows nothing, nor does
        one whose backend left."""
        before, index = self._names, self._index
        self._backends = {fleet.row(backend): backend for backend in fleet.backends}
        self._names = {row: backend.name for row, backend in self._backends.items()}
        self._rows = {name: row for row, name in self._names.items()}
        self._measure()
        if index is not None:
            for row, name in before.items():
                if self._names.get(row) != name:
                    index.forget(row)

    def look_after(self) -> None:
        """Forget what is known of backends that are down or asleep: their engines begin anew.
        Called several times a second."""
        if self._index is None:
            return
        for row, backend in self._backends.items():
            out = not backend.healthy or backend.asleep
            if out is not (backend.name in self._out):
                self._index.forget(row)
                if out:
                    self._out.add(backend.name)
                else:
                    self._out.discard(backend.name)

    def find(self, trail: PrefixTrail, now_s: float) -> None:
        """Find out where the beginnings of a prompt are known."""
        if now_s - trail.looked_s < FRESH_S and trail.looked_s >= 0.0:
            return
        trail.looked_s = now_s
        index = self._index
        if index is None:
            return
        shares: dict[str, float] = {}
        names, off = self._names, self._off
        for row, depth in index.find(trail.hashes).items():
            name = names.get(row)
            if name is not None and self._backends[row].pool not in off:
                shares[name] = trail.ends[depth - 1] / trail.total
        if trail.session:
            for row in index.find((trail.session,)):
                name = names.get(row)
                if name is not None and self._backends[row].pool not in off:
                    shares[name] = max(SESSION, shares.get(name, 0.0))
        trail.shares = shares

    def home(self, trail: PrefixTrail, planned: int) -> int | None:
        """A pool that has so much more of a prompt than the planned one that its turn may be the
        next; `None` if there is none."""
        best, most, here = None, 0.0, self._pools[planned]
        for name, share in trail.shares.items():
            pool = self._backends[self._rows[name]].pool if name in self._rows else here
            if pool == here:
                share += MUCH
            if share > most:
                best, most = pool, share
        return None if best is None or best == here else self._numbers.get(best)

    def credit(self, pool: int, estimate: Estimate) -> Credit | None:
        """What is known of a prompt in a pool; `None` if it has no trail, or there is no affinity
        in the pool."""
        trail, name = estimate.trail, self._pools[pool]
        if trail is None or name in self._off:
            return None
        cached, belief = self._cached[pool], self._beliefs.get(name)
        whole_s = estimate.prompt_tokens * self._whole_s[pool]
        if belief is None:
            return Credit(trail.shares, whole_s, cached, max(LIKELY, cached), cached)
        return Credit(
            trail.shares,
            whole_s,
            belief.trust(cached),
            belief.trust(LIKELY),
            belief.elsewhere(cached),
        )

    def place(self, estimate: Estimate, backend: Backend) -> None:
        """A request was placed on a backend, whose engine keeps its prompt and answer."""
        index, trail = self._index, estimate.trail
        if index is None:
            if trail is None:
                return
            rows = max(self._names) + SPARE_ROWS
            index = PrefixIndex(bytearray(8 * PrefixIndex.words(rows=rows)), rows=rows)
            self._index = index
            self._measure()
        row = self._rows.get(backend.name)
        if row is None:
            return
        tokens = estimate.tokens
        if trail is None or backend.pool in self._off:
            index.note((), row, tokens)
            return
        share = trail.shares.get(backend.name, 0.0)
        trail.sent_to, trail.predicted = backend.pool, share
        self._span(index, row, backend)
        index.note(trail.hashes, row, tokens - int(estimate.prompt_tokens * share))
        if trail.session:
            index.note((trail.session,), row, 0)

    def learn(
        self, trail: PrefixTrail, input_tokens: int | None, cached_tokens: int | None
    ) -> None:
        """A request has ended. input_tokens, cached_tokens: as its answer tells."""
        share = trail.predicted
        if share is None or not input_tokens:
            return
        belief = self._beliefs.get(trail.sent_to)
        if belief is None:
            belief = self._beliefs[trail.sent_to] = PoolBelief()
        belief.learn(share, input_tokens, cached_tokens)

    def _measure(self) -> None:
        """Tell the index what each engine has room for."""
        if self._index is not None:
            for row, backend in self._backends.items():
                self._span(self._index, row, backend)

    def _span(self, index: PrefixIndex, row: int, backend: Backend) -> None:
        # What running requests hold cannot be forgotten, and is no room for what was noted.
        free = max(LEAST_FREE, 1.0 - backend.memory)
        index.span(row, self._kv_tokens.get(backend.pool, 0) * free)

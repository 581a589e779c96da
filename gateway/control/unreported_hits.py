"""The prefix hits of engines whose replies do not say them, by the counters in their metrics. Pure.

What replies say counts, request by request. Where a pool's replies never said a hit, the share that
its engines count over all requests stands for each of them.
"""

from collections.abc import Iterable

from gateway.telemetry.engine_reading import EngineReading
from gateway.telemetry.stats_schema import StatsDelta
from planner.model.buckets import Buckets

HALF_TOKENS = 1e6  # tokens looked up after which older ones count half, as in `prefix_hits`
LEAST_TOKENS = 1_000.0  # a share of fewer is chance

Counters = tuple[float, float]  # hits, queries


class PoolShare:
    """The hits and queries of one pool's engines, of which old ones count less."""

    __slots__ = ("_hits", "_queries")

    def __init__(self) -> None:
        self._hits = self._queries = 0.0

    def add(self, hits: float, queries: float) -> None:
        """Add what was counted since the last time."""
        fade = 0.5 ** (queries / HALF_TOKENS)
        self._hits = fade * self._hits + hits
        self._queries = fade * self._queries + queries

    @property
    def share(self) -> float:
        """Hits over queries; 0 while that would be chance."""
        return self._hits / self._queries if self._queries >= LEAST_TOKENS else 0.0


class UnreportedHits:
    """What the engines of all pools have counted, and which pools' replies say it themselves."""

    def __init__(self) -> None:
        self._last: dict[str, Counters] = {}
        self._pools: dict[str, PoolShare] = {}
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"<UnreportedHits of {len(self._pools)} pools, {len(self._told)} tell>"

    def look(self, backend: str, pool: str, reading: EngineReading) -> None:
        """Take the counters of a backend's engine, by its name. Smaller ones than before are those
        of an engine that began anew."""
        if reading.hits is None or reading.queries is None:
            return
        now = reading.hits, reading.queries
        last = self._last.get(backend)
        self._last[backend] = now
        if last is None:  # what was before is of other times, and maybe of other clients
            return
        if now[0] < last[0] or now[1] < last[1]:
            last = (0.0, 0.0)
        queries = now[1] - last[1]
        if queries > 0.0:
            hits = min(queries, now[0] - last[0])
            self._pools.setdefault(pool, PoolShare()).add(hits, queries)

    def keep(self, backends: Iterable[str]) -> None:
        """Forget the counters of all other backends; what their pools have counted stays."""
        names = set(backends)
        self._last = {name: last for name, last in self._last.items() if name in names}

    def share(self, pool: str) -> float:
        """The share of its prompt tokens that are hits which its replies do not tell."""
        known = self._pools.get(pool)
        return 0.0 if known is None or pool in self._told else known.share

    def fill(self, delta: StatsDelta, buckets: Buckets) -> None:
        """Put the hits into the sizes and stays of requests that came without them. buckets: by
        which the sizes are counted."""
        self._told |= {pool for (_, _, pool), sums in delta.by_pool.items() if sums.cached_tokens}
        if not any(self.share(pool) for pool in self._pools):
            return
        shares, cells = self._by_class(delta), buckets.grid.cells
        for key, (count, inputs, outputs, cached) in delta.sizes.items():
            slo_class = buckets.classes[key[0] // cells]
            share, mixed = shares.get((slo_class.model, slo_class.name), (0.0, False))
            # The choices of one prompt are hits to the engine's counters too.
            hits = cached + share * inputs if mixed else max(cached, share * inputs)
            delta.sizes[key] = count, inputs, outputs, min(inputs, hits)
        for n, (pool, backend, stay_s, in_flight, inputs, cached, outputs) in enumerate(
            delta.stays
        ):
            hits = max(cached, int(self.share(pool) * inputs))
            delta.stays[n] = pool, backend, stay_s, in_flight, inputs, hits, outputs

    def _by_class(self, delta: StatsDelta) -> dict[tuple[str, str], tuple[float, bool]]:
        """By model and SLO class: the share of all its prompt tokens, and whether some of its pools
        tell hits themselves."""
        hits: dict[tuple[str, str], float] = {}
        tokens: dict[tuple[str, str], float] = {}
        mixed: set[tuple[str, str]] = set()
        for (model, name, pool), sums in delta.by_pool.items():
            key = model, name
            hits[key] = hits.get(key, 0.0) + self.share(pool) * sums.input_tokens
            tokens[key] = tokens.get(key, 0.0) + sums.input_tokens
            if pool in self._told:
                mixed.add(key)
        return {key: (hits[key] / tokens[key], key in mixed) for key in tokens if tokens[key]}

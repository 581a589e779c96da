"""Has a simulated gateway hear what simulated engines do with their caches, as by KV events: by the
code that hears real ones, without sockets."""

from collections.abc import Callable

from gateway.kv_events.beliefs import Beliefs
from gateway.kv_events.cache_ledger import CacheLedger
from gateway.kv_events.frames import BlocksRemoved, BlocksStored
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.routing.prefix_index import PrefixIndex
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from loadtest.compare.engine_caches import EngineCache


def hear(
    router: Router,
    fleet: Fleet,
    caches: list[EngineCache],
    block_tokens: int,
    salt: int,
    table: Callable[[], RoutingTable],
) -> None:
    """Have a router forget what these caches forget. caches: of the fleet's backends, in their
    order. salt: of the router's trails."""
    rows = fleet.membership.rows
    index = PrefixIndex(bytearray(8 * PrefixIndex.words(rows=rows)), rows=rows)
    index.salt = salt
    router.affinity.share(index)
    beliefs = Beliefs(fleet, index, table=table)
    for backend, cache in zip(fleet.backends, caches, strict=True):
        cache.listener = _listener(beliefs, backend, block_tokens)


def _listener(
    beliefs: Beliefs, backend: Backend, block_tokens: int
) -> Callable[[list[int], list[int]], None]:
    ledger = CacheLedger(whole=True)

    def changed(stored: list[int], removed: list[int]) -> None:
        clock = beliefs.noted(backend)
        came = BlocksStored(block_hashes=list(stored), block_size=block_tokens)
        ledger.take((came, BlocksRemoved(block_hashes=list(removed))), clock)
        if removed and ledger.edge is not None:
            beliefs.disbelieve(backend, ledger.edge)

    return changed

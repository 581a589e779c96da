"""What one worker tells of its state at this moment."""

from gateway import logs
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPools
from gateway.routing.fleet import Fleet
from gateway.telemetry.stats_schema import WorkerGauges


def gauges_of(
    dispatcher: Dispatcher,
    listener: Listener,
    connection_pools: ConnectionPools,
    fleet: Fleet,
    now_s: float,
) -> WorkerGauges:
    """The gauges of the worker that these are parts of."""
    backends = fleet.backends
    return WorkerGauges(
        queued=dispatcher.admission.waiting,
        queued_tokens=dispatcher.admission.tokens,
        connections=len(listener.connections),
        retry_budget=dispatcher.budget.left,
        breakers_open=sum(backend.doubted(now_s) for backend in backends),
        resting=tuple(backend.name for backend in backends if backend.resting),
        backend_connections=connection_pools.open,
        evicted=listener.evicted,
        log_dropped=logs.dropped(),
    )

"""Hears KV events for what serves: the index is the workers', the figures are the metrics'."""

from collections.abc import Callable

from gateway.config.load import Loaded
from gateway.kv_events.kv_events import KvEvents
from gateway.routing.fleet import Fleet
from gateway.telemetry.metrics import Metrics
from gateway.workers.choice import prefix_index
from gateway.workers.plane import DataPlane


def kv_events(
    fleet: Fleet, plane: DataPlane, metrics: Metrics, loaded: Callable[[], Loaded]
) -> KvEvents:
    """Not yet running. loaded: returns the configuration in force."""
    return KvEvents(
        fleet,
        loaded=loaded,
        index=lambda: prefix_index(plane, fleet),
        table=lambda: plane.table,
        loops=metrics.loops,
        show=metrics.heard,
    )

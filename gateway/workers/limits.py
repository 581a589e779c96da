"""The bounds of one worker, from the gateway's settings and what the process may open."""

from math import ceil

from gateway.config.schema import GatewaySection
from gateway.proxy.http.cors import CrossOrigin
from gateway.proxy.http.headers import not_sent
from gateway.proxy.http.request import ClientLimits
from gateway.routing.admission import QueueLimits
from gateway.routing.endpoints import BY_PATH
from gateway.runtime import most_clients, open_files

# With recordings in them, which are passed on as they come.
FORMS = frozenset(path.encode() for path, endpoint in BY_PATH.items() if endpoint.form)
BUFFERED_BODIES = 16  # of the largest size, that may be in memory by default


def client_limits(settings: GatewaySection) -> ClientLimits:
    """Bounds of the clients' connections."""
    return ClientLimits(
        body_bytes=settings.max_body_bytes,
        connections=most_clients(open_files()),
        not_sent=not_sent(settings.withheld_headers),
        streamed=FORMS,
        cross_origin=CrossOrigin(settings.cors_origins) if settings.cors_origins else None,
    )


def body_budget(settings: GatewaySection) -> int:
    """Bytes of all bodies that one worker may have in memory."""
    return settings.buffer_bytes or BUFFERED_BODIES * settings.max_body_bytes


def queue_limits(settings: GatewaySection) -> QueueLimits:
    """One worker's share of the queue."""
    return QueueLimits(
        requests=ceil(settings.queue_requests / settings.workers),
        tokens=ceil(settings.queue_tokens / settings.workers),
        timeout_s=settings.queue_timeout_s,
    )


def array_size(settings: GatewaySection, rows: int) -> dict[str, int]:
    """The size of the array that the workers of this gateway share, as `SharedLoad` takes it."""
    return {
        "workers": settings.workers,
        "rows": rows,
        "gateways": int(settings.cluster is not None),
    }

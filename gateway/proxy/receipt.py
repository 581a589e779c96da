"""The receipt: the response headers that say what was decided about a request. No I/O.

They are `x-request-id` and `x-cuvee-{bucket,pool,backend,plan,decision}`. Users' tools read them,
so their names never change.
"""

from typing import Final

from gateway.routing.backend import Lease

KEPT: Final = 1024  # encoded receipts kept: up to four decisions for each backend and plan


class Receipts:
    """Writes receipts; keeps the bytes of the part that many requests share."""

    def __init__(self, *, full: bool = True) -> None:
        """full: whether they have more than the request's id."""
        self._full = full
        self._kept: dict[tuple[str, str | None, str], bytes] = {}

    def __repr__(self) -> str:
        return f"<Receipts {len(self._kept)} kept>"

    def lines(self, request_id: bytes, bucket: int, lease: Lease | None) -> bytes:
        """The header lines of one request. lease: `None` if it was not routed; then there is no
        pool, backend, plan and decision."""
        if not self._full:
            return unrouted(request_id)
        lines = b"x-request-id: %b\r\nx-cuvee-bucket: %d\r\n" % (request_id, bucket)
        if lease is None:
            return lines
        backend = lease.backend
        key = (backend.name, lease.plan_id, lease.decision)
        decided = self._kept.get(key)
        if decided is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            decided = self._kept[key] = (
                f"x-cuvee-pool: {backend.pool}\r\n"
                f"x-cuvee-backend: {backend.name}\r\n"
                f"x-cuvee-plan: {lease.plan_id or ''}\r\n"
                f"x-cuvee-decision: {lease.decision}\r\n"
            ).encode("latin-1")
        return lines + decided


def unrouted(request_id: bytes) -> bytes:
    """The receipt of a request that was refused before it got a bucket, and every reduced one."""
    return b"x-request-id: %b\r\n" % request_id

"""The receipt: the response headers that say what was decided about a request. No I/O.

`x-request-id` and `x-cuvee-{bucket,pool,backend,plan,decision}`, of which users' tools know the
names. Knows no handler and no stream.
"""

from typing import Final

from gateway.routing.backend import Lease

KEPT: Final = 1024  # receipts kept as they are written: some four for each backend and plan


class Receipts:
    """Writes receipts; the part that many requests share is kept as bytes."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None, str], bytes] = {}

    def __repr__(self) -> str:
        return f"<Receipts {len(self._kept)} kept>"

    def lines(self, request_id: bytes, bucket: int, lease: Lease | None) -> bytes:
        """The header lines of one request; without pool, backend, plan and decision if it was not
        routed."""
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
    """The receipt of a request that was refused before anything was decided about it."""
    return b"x-request-id: %b\r\n" % request_id

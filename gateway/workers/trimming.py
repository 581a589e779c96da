"""Decides when to give free memory back to the system: when a time of many connections, or of much
in bodies, is over.

The allocator gives back what is free at the end of its heap. A few objects that live on after
thousands of connections are enough to keep all of it.
"""

from collections.abc import Callable

CALM_S = 10.0  # for so long few connections are left before anything is given back
BODY_BYTES = 1 << 16  # of bodies in memory that count as one connection
MANY = 500  # connections; fewer leave no memory behind that matters


class Trimming:
    """Watches the number of connections, and the bodies in memory."""

    def __init__(self, trim: Callable[[], object]) -> None:
        """trim: gives all free memory back; it takes 0.1 ms for each MiB."""
        self._trim = trim
        self._most = 0
        self._busy_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Trimming after {self._most} connections>"

    def tick(self, connections: int, now_s: float, body_bytes: int = 0) -> None:
        """Give memory back if the connections have been few for long enough, and little in bodies;
        called several times a second."""
        connections += body_bytes // BODY_BYTES
        self._most = max(self._most, connections)
        if self._most < MANY or connections > self._most // 2:
            self._busy_at_s = now_s
        elif now_s - self._busy_at_s >= CALM_S:
            self._trim()
            self._most, self._busy_at_s = connections, now_s

"""What became of orders and launches, counted for the metrics. Pure."""

from collections import Counter

# Of orders: ACCEPTED by the actuator, REFUSED for good, or it FAILED to be brought. Of launches:
# READY, or HUNG.
ACCEPTED = "accepted"
REFUSED = "refused"
FAILED = "failed"
READY = "ready"
HUNG = "hung"


class ScaleTally:
    """By pool and result."""

    def __init__(self) -> None:
        self.orders: Counter[tuple[str, str]] = Counter()
        self.launches: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<ScaleTally {dict(self.orders)} {dict(self.launches)}>"

"""The retry budget: retries are a share of the requests, so that they cannot become a storm."""

from typing import Final

SHARE: Final = 0.2  # retries per request in the long run; Finagle's default
RESERVE: Final = 100.0  # retries at once: as many requests as one backend holds when it dies


class RetryBudget:
    """A token bucket: requests fill it, retries empty it.

    left: retries that may be made now.
    """

    def __init__(self) -> None:
        self.left = RESERVE

    def __repr__(self) -> str:
        return f"<RetryBudget {self.left:.1f} retries left>"

    def earn(self) -> None:
        """Add the share of one request."""
        self.left = min(RESERVE, self.left + SHARE)

    def refund(self, retries: int) -> None:
        """Give back retries that helped."""
        self.left = min(RESERVE, self.left + retries)

    def spend(self) -> bool:
        """Take one retry; `False` if none is left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

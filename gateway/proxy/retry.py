"""How many retries the gateway may spend: a share of its requests, so that retries never storm."""

from typing import Final

SHARE: Final = 0.2  # retries per request in the long run
RESERVE: Final = 100.0  # retries that may come at once: all that one backend held when it died


class RetryBudget:
    """A token bucket filled by requests and emptied by retries."""

    def __init__(self) -> None:
        self.left = RESERVE  # retries that may be made at once

    def __repr__(self) -> str:
        return f"<RetryBudget {self.left:.1f} retries left>"

    def earn(self) -> None:
        """Adds a request's share of a retry."""
        self.left = min(RESERVE, self.left + SHARE)

    def spend(self) -> bool:
        """Whether one more retry may be made; if so it is counted."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

"""Says in the log when requests begin to be refused for lack of room, and when that is over."""

import logging

log = logging.getLogger("cuvee")

QUIET_S = 10.0  # without a refusal, after which the time of refusals is over


class Shedding:
    """A time in which requests are refused, from its first refusal to its last."""

    def __init__(self) -> None:
        self._count = 0
        self._began_at_s = self._last_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Shedding {self._count} refused>"

    def refused(self, reason: str | None, now_s: float) -> None:
        """Count a refusal; the first one is logged. reason: code of the error."""
        if not self._count:
            self._began_at_s = now_s
            log.warning("requests are refused: %s", reason)
        self._count += 1
        self._last_at_s = now_s

    def tick(self, now_s: float) -> None:
        """Log the end, if there was no refusal for long enough; called several times a second."""
        if self._count and now_s - self._last_at_s >= QUIET_S:
            lasted_s = self._last_at_s - self._began_at_s
            log.warning(
                "requests are served again: %d were refused in %.1f s", self._count, lasted_s
            )
            self._count = 0

"""One line of the log for each request, or for a share of them, when it has ended.

A line has what was decided, sizes, times and the end; never a header, a body or a key of a client.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.config.schema import GatewaySection
from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from planner.model.buckets import BEST_EFFORT, Buckets

log = logging.getLogger("cuvee.requests")


def request_log(
    settings: GatewaySection, buckets: Buckets, clock: Callable[[], float]
) -> "RequestLog | None":
    """The log that the settings ask for; `None`: they want none."""
    share = settings.request_log
    return RequestLog(share, buckets, clock=clock, wall_clock=time.time) if share else None


class RequestLog:
    """The lines about the requests of one worker."""

    def __init__(
        self,
        share: float,
        buckets: Buckets,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """share: of the requests, above 0 and at most 1; those that a backend or the gateway failed
        are always among them. clock: that of the observations. wall_clock: Unix time."""
        self._share = share
        self._due = 0.0
        self._buckets = buckets
        self._clock = clock
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        return f"<RequestLog of {self._share:.0%} of the requests>"

    def write(self, ended: Observation) -> None:
        """Log a request that had a bucket, if it is its turn."""
        if not self._turn() and ended.outcome is not Outcome.FAILED:
            return
        if ended.bucket == NO_BUCKET:  # its model left the configuration under it
            return
        slo_class = self._buckets.class_of(ended.bucket)
        met = ended.met(slo_class.slo.ttft_s, slo_class.slo.tpot_s)
        arrived_at_s = self._wall_clock() - (self._clock() - ended.arrival_s)
        fields = {
            "arrived_at": datetime.fromtimestamp(arrived_at_s, UTC).isoformat(),
            **ended.log_fields(),
            "class": ended.slo_class,
            "slo_met": None if ended.slo_class == BEST_EFFORT else met or None,
        }
        log.info("request", extra={"fields": fields})

    def refused(self, status: int, reason: str) -> None:
        """Log a request that was refused before it had a bucket, if it is its turn."""
        if self._turn():
            fields = {"outcome": Outcome.REJECTED.value, "status": status, "reason": reason}
            log.info("request", extra={"fields": fields})

    def _turn(self) -> bool:
        self._due += self._share
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True

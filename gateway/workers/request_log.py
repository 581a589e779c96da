"""One line of the log for each request, or for a share of them, when it has ended.

A line has what was decided, sizes, times and the end; never a header, a body or a key of a client.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Final

from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.workers.request_lines import NUMBERS, WORDS, RequestLines
from planner.model.buckets import BEST_EFFORT, Buckets

FAILED: Final = Outcome.FAILED

log = logging.getLogger("cuvee.requests")


class RequestLog:
    """The lines about the requests of one worker."""

    def __init__(self, share: float, buckets: Buckets, lines: RequestLines | None) -> None:
        """share: of the requests, above 0 and at most 1; those that a backend or the gateway failed
        are always among them. lines: of the process's own log; `None` where another one takes what
        is logged."""
        self._share = share
        self._due = 0.0
        self._cells = buckets.grid.cells
        self._slos = [(of.slo.ttft_s, of.slo.tpot_s) for of in buckets.classes]
        self._lines = lines

    def __repr__(self) -> str:
        return f"<RequestLog of {self._share:.0%} of the requests>"

    def write(self, ended: Observation, now_s: float, since_s: float) -> None:
        """Log a request that had a bucket, if it is its turn; `flush` then. now_s: Unix time.
        since_s: the same at zero of the clock of the observations."""
        if not self._turn() and ended.outcome is not FAILED:
            return
        if ended.bucket == NO_BUCKET:  # its model left the configuration under it
            return
        arrived_at_s = since_s + ended.arrival_s
        words, lines = self._words(ended), self._lines
        if lines is None or not lines.write(now_s, arrived_at_s, ended, words):
            arrived_at = datetime.fromtimestamp(arrived_at_s, UTC).isoformat()
            request_id = ended.request_id.decode("latin-1")
            fields: dict[str, Any] = {"arrived_at": arrived_at, "request_id": request_id}
            fields |= zip((*WORDS, *NUMBERS), (*words, *_numbers(ended)), strict=True)
            _log(fields)

    def flush(self) -> None:
        """Hand over the lines since the last call; until then they may wait."""
        if self._lines is not None:
            self._lines.flush()

    def refused(self, status: int, reason: str) -> None:
        """Log a request that was refused before it had a bucket, if it is its turn."""
        if self._turn():
            _log({"outcome": Outcome.REJECTED.value, "status": status, "reason": reason})

    def _turn(self) -> bool:
        self._due += self._share
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True

    def _words(self, ended: Observation) -> tuple[Any, ...]:
        """The values of `WORDS`."""
        ttft_s, tpot_s = self._slos[ended.bucket // self._cells]
        return (
            ended.model,
            ended.slo_class,
            ended.caller,
            ended.endpoint.name,
            ended.stream,
            ended.width,
            ended.outcome._value_,
            ended.status,
            ended.reason,
            None if ended.slo_class == BEST_EFFORT else ended.met(ttft_s, tpot_s) or None,
            0 if ended.pool is None else 1 + ended.retries,
            ended.plan_id,
            ended.pool,
            ended.backend,
            ended.decision,
        )


def _numbers(ended: Observation) -> list[float | int | None]:
    """The values of `NUMBERS`."""
    return [
        ended.bucket,
        ended.estimated_input,
        ended.input_tokens,
        ended.cached_tokens,
        ended.estimated_output,
        ended.output_tokens,
        ended.max_tokens,
        _microseconds(ended.waited_s),
        _microseconds(ended.ttft_s),
        _microseconds(ended.tpot_s),
        _microseconds(ended.duration_s),
    ]


def _log(fields: dict[str, Any]) -> None:
    log.info("request", extra={"fields": fields})


def _microseconds(seconds: float | None) -> float | None:
    """Rounded as `RequestLines` does it."""
    return None if seconds is None else int(seconds * 1e6 + 0.5) / 1e6

"""What one worker tells of single requests: lines of the log, rows of the trace, and spans. Where
none is wanted there is nothing, and a request pays nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence

from gateway import logs
from gateway.config.serving import ServingConfig
from gateway.otel.spans import SpanMaker, providers_of
from gateway.routing.observation import Observation
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.recorder import TrafficRecorder
from gateway.workers.request_lines import RequestLines
from gateway.workers.request_log import RequestLog
from gateway.workers.span_recorder import SpanRecorder
from planner.model.buckets import Buckets

log = logging.getLogger("cuvee")


class Records:
    """The log, the trace and the spans, or some of them."""

    def __init__(
        self,
        log: RequestLog | None,
        recorder: TrafficRecorder | None,
        spans: SpanRecorder | None,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """clock: that of the observations. wall_clock: Unix time."""
        self._clock, self._wall_clock = clock, wall_clock
        self._log = log
        self._recorder = recorder
        self._spans = spans

    def __repr__(self) -> str:
        return f"<Records {self._log!r}, {self._recorder!r}, {self._spans!r}>"

    def write(self, ended: Sequence[Observation]) -> None:
        """Tell of requests that ended."""
        now_s = self._wall_clock()
        since_s = now_s - self._clock()
        for one in ended:
            try:
                self._write(one, now_s, since_s)
            except Exception:  # one that cannot be told of must not lose the others
                log.exception("%r could not be recorded", one)
        if self._log is not None:
            self._log.flush()

    def _write(self, one: Observation, now_s: float, since_s: float) -> None:
        if self._recorder is not None:
            self._recorder.add(one, since_s)
        if self._spans is not None:
            self._spans.add(one, since_s)
        if self._log is not None:
            self._log.write(one, now_s, since_s)

    def refused(self, status: int, reason: str) -> None:
        """Tell of a request that was refused before its model and size were known. A trace could
        not say what it would have been."""
        if self._log is not None:
            self._log.refused(status, reason)

    def take(self, delta: StatsDelta) -> None:
        """Add the rows and the spans since the last call."""
        if self._recorder is not None:
            delta.served, delta.unrecorded = self._recorder.take()
        if self._spans is not None:
            self._spans.take(delta)


def new_records(
    config: ServingConfig,
    buckets: Buckets,
    clock: Callable[[], float],
    wall_clock: Callable[[], float] = time.time,
) -> Records | None:
    """As the configuration wants them; `None`: none."""
    share, trace, otel = config.gateway.request_log, config.gateway.trace, config.gateway.otel
    if not share and trace is None and otel is None:
        return None
    requests, recorder, spans = None, None, None
    if share:
        writer = logs.writer()
        lines = None if writer is None else RequestLines(writer)
        requests = RequestLog(share, buckets, lines)
    if trace is not None:
        adapters = [name for model in config.models for name in model.adapters]
        recorder = TrafficRecorder(adapters)
    if otel is not None:
        spans = SpanRecorder(SpanMaker(providers_of(config.upstreams)), buckets)
    return Records(requests, recorder, spans, clock=clock, wall_clock=wall_clock)

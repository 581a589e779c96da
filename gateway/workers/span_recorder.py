"""The spans of the traced requests of one worker, until they are taken to be sent. Compiled.

Made here, and not where they are sent: a request that ended is at hand, and what is told of it to
another process would cost as much again.
"""

from collections import deque

from gateway.otel.spans import SpanMaker
from gateway.routing.observation import Observation
from gateway.telemetry.request_records import promise_kept, promises_of, traced_requests
from gateway.telemetry.stats_schema import MOST_SPANS, MOST_TRACED, StatsDelta
from planner.model.buckets import Buckets


class SpanRecorder:
    """Gathers spans; what is too much is counted only."""

    def __init__(self, maker: SpanMaker, buckets: Buckets) -> None:
        self._maker = maker
        self._promises = promises_of(buckets)
        self._cells = buckets.grid.cells
        self._spans: list[bytes] = []
        self._last: deque[Observation] = deque(maxlen=MOST_TRACED)
        self._lost = 0

    def __repr__(self) -> str:
        return f"<SpanRecorder of {len(self._spans)} requests>"

    def add(self, ended: Observation, since_s: float) -> None:
        """Note a request that ended, if it is traced. since_s: Unix time at zero of the clock of
        the observations."""
        trace = ended.trace
        if trace is None:
            return
        if len(self._spans) >= MOST_SPANS:
            self._lost += 1
            return
        met = promise_kept(ended, self._promises, self._cells)
        self._spans.append(self._maker.spans(ended, trace, met, since_s))
        self._last.append(ended)

    def take(self, delta: StatsDelta) -> None:
        """Add those since the last call."""
        delta.spans, delta.untold = self._spans, self._lost
        delta.traced = traced_requests(self._last, self._promises, self._cells)
        self._spans, self._lost = [], 0
        self._last.clear()

"""What one worker tells of single requests: lines of the log, and rows of the trace. Where neither
is wanted there is nothing, and a request pays nothing.
"""

import time
from collections.abc import Callable

from gateway import logs
from gateway.config.serving import ServingConfig
from gateway.routing.observation import Observation
from gateway.workers.recorder import TrafficRecorder
from gateway.workers.request_lines import RequestLines
from gateway.workers.request_log import RequestLog
from planner.model.buckets import Buckets
from planner.traffic.gateway_trace import ServedRequest


class Records:
    """The log, the trace, or both."""

    def __init__(self, log: RequestLog | None, recorder: TrafficRecorder | None) -> None:
        self._log = log
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"<Records {self._log!r}, {self._recorder!r}>"

    def write(self, ended: Observation) -> None:
        """Tell of a request that ended."""
        if self._recorder is not None:
            self._recorder.add(ended)
        if self._log is not None:
            self._log.write(ended)

    def refused(self, status: int, reason: str) -> None:
        """Tell of a request that was refused before its model and size were known. A trace could
        not say what it would have been."""
        if self._log is not None:
            self._log.refused(status, reason)

    def take(self) -> tuple[list[ServedRequest], int]:
        """The rows since the last call, and how many more there were."""
        return ([], 0) if self._recorder is None else self._recorder.take()


def new_records(
    config: ServingConfig,
    buckets: Buckets,
    clock: Callable[[], float],
    wall_clock: Callable[[], float] = time.time,
) -> Records | None:
    """As the configuration wants them; `None`: none."""
    share, trace = config.gateway.request_log, config.gateway.trace
    if not share and trace is None:
        return None
    log = None
    if share:
        writer = logs.writer()
        lines = None if writer is None else RequestLines(writer)
        log = RequestLog(share, buckets, clock=clock, wall_clock=wall_clock, lines=lines)
    if trace is None:
        return Records(log, None)
    adapters = [name for model in config.models for name in model.adapters]
    return Records(log, TrafficRecorder(adapters, clock=clock, wall_clock=wall_clock))

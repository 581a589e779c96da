"""Sends spans and metrics to a collector, beside everything else: nothing waits for it.

What does not fit while the collector does not answer is lost, and counted.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

from gateway.config.load import Loaded
from gateway.config.otel_schema import OtelSection
from gateway.otel.attributes import resource, scope
from gateway.otel.collector import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    METRICS,
    TRACES,
    Collector,
    NotTaken,
)
from gateway.otel.points import PointMaker
from gateway.otel.spans import providers_of, traces
from gateway.runtime import build
from gateway.telemetry.metrics import Metrics

log = logging.getLogger("cuvee")

LOOP = "telemetry"
SEND_S = 2.0  # between two sendings of spans
MOST_WAITING = 8192  # requests
AT_ONCE = 512  # requests in one message
TRIES = 5  # of one message
CLOSE_S = 2.0  # for what waits when the gateway ends


class Exporter:
    """The telemetry of one gateway; idle until it is configured."""

    def __init__(
        self, metrics: Metrics, *, send_s: float = SEND_S, pause_s: float = FIRST_PAUSE_S
    ) -> None:
        """metrics: of this gateway. send_s: seconds between two sendings. pause_s: before what was
        refused is sent again; doubled each time, and longer if the collector says so."""
        self._metrics = metrics
        self._send_s, self._pause_s = send_s, pause_s
        self._began_s = time.time()
        self._queue: deque[bytes] = deque()
        self._sent = self._lost = 0
        self._settings: tuple[OtelSection | None, dict[str, str]] | None = None
        self._used = False
        self._in_hand: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        self._collector: Collector
        self._points: PointMaker
        self._metrics_s = 0.0
        self._failing = False

    def __repr__(self) -> str:
        return f"<Exporter, {len(self._queue)} requests wait>"

    @property
    def requests(self) -> dict[str, int]:
        """How many traced requests were sent and lost; empty if nothing was ever to be traced."""
        return {} if not self._used else {"sent": self._sent, "lost": self._lost}

    def configure(self, loaded: Loaded) -> None:
        """Send as this configuration says from now on, or nothing. Inside a running loop."""
        section, providers = loaded.config.gateway.otel, providers_of(loaded.upstreams)
        if self._settings == (section, providers):
            return
        self._settings = section, providers
        self._stop()
        if section is None:
            self._queue.clear()
            self._metrics.loops.forget(LOOP)
            return
        self._used = True
        self._collector = Collector(section, loaded.root)
        self._points = PointMaker(providers, self._began_s)
        version = build()["version"]
        self._resource = resource({"service.name": section.service, "service.version": version})
        self._scope = scope(version)
        self._metrics_s = section.metrics_s
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, spans: Sequence[bytes], lost: int) -> None:
        """Send the spans of some requests soon, or count them as lost. lost: how many more requests
        there were."""
        self._lost += lost
        if self._task is None:
            return
        room = MOST_WAITING - len(self._queue)
        self._queue.extend(spans[:room])
        self._lost += len(spans[room:])

    def close(self) -> None:
        """Send what waits, for `CLOSE_S` at most."""
        if self._task is None:
            return
        self._stop()
        last = Thread(target=lambda: asyncio.run(self._last()), name="telemetry", daemon=True)
        last.start()
        last.join(CLOSE_S)

    def _stop(self) -> None:
        """Stop sending. What is under way may come twice, but is not lost."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._queue.extendleft(reversed(self._in_hand))
        self._in_hand = []

    async def _last(self) -> None:
        with suppress(NotTaken):
            while self._queue:
                await self._collector.send(TRACES, self._batch())
                self._sent += len(self._in_hand)
            if self._metrics_s:
                await self._send_metrics()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock() + self._metrics_s
        while True:
            await asyncio.sleep(self._send_s)
            try:
                while self._queue:
                    await self._deliver(self._batch())
                if self._metrics_s and clock() >= due_s:
                    due_s = clock() + self._metrics_s
                    await self._send_metrics()
                    self._good()
            except NotTaken as error:
                self._bad(str(error))
            except Exception as error:
                log.exception("telemetry could not be sent")
                self._metrics.loops.failed(LOOP, repr(error))

    def _batch(self) -> bytes:
        """A message of the oldest requests that wait; they are in hand from now on."""
        queue = self._queue
        self._in_hand = [queue.popleft() for _ in range(min(AT_ONCE, len(queue)))]
        return traces(self._resource, self._scope, self._in_hand)

    async def _deliver(self, body: bytes) -> None:
        """Send what is in hand, again if need be."""
        pause_s = self._pause_s
        for tried in range(1, TRIES + 1):
            try:
                await self._collector.send(TRACES, body)
            except NotTaken as error:
                self._bad(str(error))
                if not error.again or tried == TRIES:
                    self._lost += len(self._in_hand)
                    self._in_hand = []
                    return
                await asyncio.sleep(max(pause_s, error.pause_s or 0.0))
                pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
            else:
                self._sent += len(self._in_hand)
                self._in_hand = []
                self._good()
                return

    async def _send_metrics(self) -> None:
        body = self._points.metrics(
            self._resource, self._scope, self._metrics.by_class, time.time()
        )
        await self._collector.send(METRICS, body)

    def _good(self) -> None:
        self._metrics.loops.good(LOOP, time.time())
        if self._failing:
            self._failing = False
            log.warning("telemetry is sent again")

    def _bad(self, why: str) -> None:
        self._metrics.loops.failed(LOOP, why)
        if not self._failing:
            self._failing = True
            log.warning("telemetry is not sent: %s", why)

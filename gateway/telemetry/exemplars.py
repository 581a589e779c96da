"""One request for each bucket of the latency histograms: from a figure to a request that was so.

Of the requests that workers tell anyway. What is kept is bounded by the buckets.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from gateway.telemetry.exposition import exemplar, labelled
from gateway.telemetry.seen_request import SeenRequest
from gateway.telemetry.stats_schema import REQUEST_S, TPOT_S, TTFT_S, Bounds
from gateway.telemetry.traced_request import TracedRequest

# What ids are made of. One with a quote in it is not worth what parsers of exemplars make of it.
PLAIN = re.compile(r"[\w.:/+=@~-]+", re.ASCII)
Key = tuple[str, str, Bounds]  # model, pool, and the bounds of the histogram


class Exemplars:
    """The newest request in each bucket, as OpenMetrics writes it."""

    def __init__(self) -> None:
        self._by_key: dict[Key, dict[int, str]] = {}

    def __repr__(self) -> str:
        return f"<Exemplars of {len(self._by_key)} histograms>"

    def add(self, requests: Iterable[SeenRequest], since_s: float) -> None:
        """Note requests that ended, but for those whose client chose an odd id. since_s: Unix time
        at zero of the gateway's clock."""
        for one in requests:
            if PLAIN.fullmatch(one.request_id):
                self._note(one, labelled(request_id=one.request_id), since_s)

    def add_traced(self, requests: Iterable[TracedRequest], since_s: float) -> None:
        """Note requests that have a trace, by its id."""
        for one in requests:
            self._note(one.request, labelled(trace_id=one.trace_id.hex()), since_s)

    def _note(self, one: SeenRequest, labels: str, since_s: float) -> None:
        """Note one request. labels: by which it is found, as of `labelled`."""
        at_s = since_s + one.arrival_s + one.duration_s
        whole_s = one.duration_s if one.outcome == "ok" else None
        for bounds, value in ((TTFT_S, one.ttft_s), (TPOT_S, one.tpot_s), (REQUEST_S, whole_s)):
            if value is not None:
                kept = self._by_key.setdefault((one.model, one.pool or "", bounds), {})
                kept[bisect_left(bounds, value)] = exemplar(labels, round(value, 6), at_s)

    def of(self, model: str, pool: str, bounds: Bounds) -> Mapping[int, str]:
        """Those of one histogram, by the number of the bucket."""
        return self._by_key.get((model, pool, bounds), {})

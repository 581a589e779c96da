"""Watches engines by their `/metrics`, and only that: what they serve meanwhile.

Nothing is sent to them but GET /metrics, once in some seconds.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.advice.engine_totals import EngineTotals, read_totals
from gateway.plain_http import PlainHttp, PlainHttpFault
from planner.errors import InvalidValue

ANSWER_S = 10.0
MOST_BYTES = 64 << 20
METRICS = "/metrics"


@dataclass(slots=True)
class WatchedTraffic:
    """What engines served while they were watched.

    seconds: for how long. windows: lengths of time, and requests that ended in them, of all
    engines. served: by URL, what each served. gaps: times that a page could not be read.
    """

    seconds: float = 0.0
    windows: list[tuple[float, float]] = field(default_factory=list)
    served: dict[str, EngineTotals] = field(default_factory=dict)
    gaps: int = 0

    @property
    def requests(self) -> int:
        """That ended, at all engines."""
        return round(sum(number for _, number in self.windows))


class Watch:
    """Watches these engines. traffic: what was seen until now."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        every_s: float,
        token: str | None = None,
        ca_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """every_s: between two readings. token: sent as `Authorization: Bearer`."""
        self._clients = {url: PlainHttp(_base(url), ca_file) for url in dict.fromkeys(urls)}
        self._headers = () if token is None else (("authorization", f"Bearer {token}"),)
        self._every_s, self._clock = every_s, clock
        self._first: dict[str, EngineTotals] = {}
        self._last: dict[str, EngineTotals] = {}
        self.traffic = WatchedTraffic()

    def __repr__(self) -> str:
        return f"<Watch of {len(self._clients)} engines, {self.traffic.seconds:.0f} s>"

    async def run(self, for_s: float, progress: Callable[[WatchedTraffic], None]) -> None:
        """Watch for so long. progress: called after each reading. Raises InvalidValue for a URL
        that has no metrics of an engine at the start."""
        began_s = at_s = self._clock()
        for url, totals in zip(self._clients, await self._read(), strict=True):
            if isinstance(totals, str):
                raise InvalidValue(totals)
            self._first[url] = self._last[url] = totals
        least_s = self._every_s / 10  # a shorter rest is not worth a reading
        while for_s - (at_s - began_s) > least_s:
            await asyncio.sleep(min(self._every_s, for_s - (at_s - began_s)))
            before_s, at_s = at_s, self._clock()
            self._take(at_s - before_s, await self._read())
            self.traffic.seconds = at_s - began_s
            progress(self.traffic)

    def _take(self, seconds: float, found: Sequence[EngineTotals | str]) -> None:
        requests = 0.0
        for url, totals in zip(self._clients, found, strict=True):
            if isinstance(totals, str):
                self.traffic.gaps += 1
                continue
            requests += totals.minus(self._last[url]).requests
            self._last[url] = totals
            self.traffic.served[url] = totals.minus(self._first[url])
        self.traffic.windows.append((seconds, requests))

    async def _read(self) -> list[EngineTotals | str]:
        """What each engine says, or why it says nothing."""
        return list(await asyncio.gather(*map(self._one, self._clients)))

    async def _one(self, url: str) -> EngineTotals | str:
        try:
            answer = await self._clients[url].whole(
                "GET", METRICS, self._headers, longest_s=ANSWER_S, most_bytes=MOST_BYTES
            )
        except PlainHttpFault as error:
            return str(error)
        if answer.status != 200:
            return f"{url}: {METRICS} answered {answer.status}"
        totals = read_totals(answer.body.decode(errors="replace"))
        if totals is None:
            return f"{url}: {METRICS} has no metrics of vLLM, SGLang or TGI"
        return totals


def _base(url: str) -> str:
    """A URL without the path of its metrics, which people copy with it."""
    if not url.startswith(("http://", "https://")):
        raise InvalidValue(f"{url}: must start with http:// or https://")
    return url.rstrip("/").removesuffix(METRICS)

"""The last requests of one process and its slowest ones, between two drains: references only.

A request pays a store and a division. What is told of it is made when the sums are drained, of a
number that does not grow with the traffic. Compiled: see setup.py.
"""

from typing import Final

from gateway.routing.observation import Observation

LAST: Final = 16  # requests; a power of two
SLOWEST: Final = 4

Timed = tuple[Observation, float]  # a request, and the time it took over the time promised


class RequestSampler:
    """Keeps them until they are taken. A request is as slow as the time that it took is long beside
    the time that its class promises for its answer."""

    __slots__ = ("_bar", "_last", "_number", "_slowest")

    def __init__(self) -> None:
        self._last: list[Observation | None] = [None] * LAST
        self._number = 0
        self._slowest: list[Timed] = []
        self._bar = 0.0

    def __repr__(self) -> str:
        return f"<RequestSampler of {self._number} requests>"

    def add(self, ended: Observation, ttft_s: float, tpot_s: float) -> None:
        """Note a request that ended. ttft_s, tpot_s: that its class promises."""
        self._last[self._number & (LAST - 1)] = ended
        self._number += 1
        tokens = ended.output_tokens
        promised_s = ttft_s
        if tokens is not None and tokens > 1:
            promised_s += tpot_s * (tokens - 1) / ended.answers
        slowness = ended.duration_s / promised_s
        if slowness > self._bar:
            self._keep(ended, slowness)

    def _keep(self, ended: Observation, slowness: float) -> None:
        slowest = self._slowest
        slowest.append((ended, slowness))
        if len(slowest) > SLOWEST:
            least = 0
            for number in range(1, len(slowest)):
                if slowest[number][1] < slowest[least][1]:
                    least = number
            del slowest[least]
        if len(slowest) == SLOWEST:
            self._bar = min([timed[1] for timed in slowest])

    def take(self) -> tuple[list[Observation], list[Timed]]:
        """The last ones, the oldest first, and the slowest ones; then begin again."""
        first = self._number & (LAST - 1)
        ring = self._last[first:] + self._last[:first]
        taken = [ended for ended in ring if ended is not None], self._slowest
        self._last = [None] * LAST
        self._number = 0
        self._slowest = []
        self._bar = 0.0
        return taken

"""What clients, engines and the gateway say of each request. Values and sums; no I/O."""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class Ending(StrEnum):
    """How a request ended for its client.

    SERVED: with the whole answer, and it was its own. REFUSED: with an error. BROKEN: with an
    error event inside a stream. LEFT: the client closed the connection. ORPHANED: the connection
    broke when a worker was killed. LOST: it got no end, or none in time. MIXED: it got another's
    answer, or one with pieces missing or doubled.
    """

    SERVED = "served"
    REFUSED = "refused"
    BROKEN = "broken"
    LEFT = "left"
    ORPHANED = "orphaned"
    LOST = "lost"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class ClientEnd:
    """One request as its client saw it. at_s: when it ended. detail: what is odd about it."""

    ending: Ending
    status: int
    started_s: float
    at_s: float
    mistake: bool = False
    detail: str = ""


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the gateway's request log. attempts: 0 if it was sent to no backend."""

    request_id: str = ""
    outcome: str = ""
    status: int = 0
    attempts: int = 0


@dataclass(slots=True)
class EngineBook:
    """What the engines saw.

    begun, completed: requests by number, how often each came and was answered to its end. mixed:
    requests whose head and body had different numbers, or whose body was damaged. faults: that
    were done, by kind.
    """

    begun: Counter[int] = field(default_factory=Counter)
    completed: Counter[int] = field(default_factory=Counter)
    mixed: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class FleetHistory:
    """How many engines were well, over time; deaths: when workers were killed."""

    changes: list[tuple[float, int]] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)

    def fewest_well(self, start_s: float, end_s: float) -> int:
        """The smallest number of engines that were well at one time in this span."""
        first = max(0, bisect_right(self.changes, (start_s, 1 << 30)) - 1)
        last = bisect_right(self.changes, (end_s, 1 << 30))
        return min(well for _, well in self.changes[first : max(last, first + 1)])

    def near_death(self, at_s: float, before_s: float) -> bool:
        """Whether a worker was killed at this time, or up to so many seconds after it."""
        return any(0 <= death_s - at_s <= before_s for death_s in self.deaths)


@dataclass(slots=True)
class GatewayBook:
    """What the gateway says.

    lines: of the request log, by number, all that there are. page: the samples of the page of
    metrics at the end, by name with labels. nameless: lines about requests that were refused
    before they had a bucket.
    """

    lines: dict[int, list[RequestLine]] = field(default_factory=dict)
    page: dict[str, float] = field(default_factory=dict)
    nameless: int = 0

    def total(self, name: str, label: str = "") -> float:
        """The sum over a metric's samples; label: only those that have it, as `code="200"`."""
        return sum(
            value
            for sample, value in self.page.items()
            if sample.partition("{")[0] == name and label in sample
        )

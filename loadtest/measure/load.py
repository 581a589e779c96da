"""One load on one backend, and what came of it. Values; knows no backend and no clock."""

import msgspec

from planner.engine.points import Point
from planner.errors import PlannerError
from planner.slo import Slo

Size = tuple[int, int]  # input and output tokens


class Unmeasurable(PlannerError):
    """A backend that cannot be measured now: it is busy, it fails, or it contradicts itself."""


class Load(msgspec.Struct, kw_only=True, frozen=True):
    """So many users; each sends a request of this size as soon as the last one is answered."""

    input_tokens: int
    output_tokens: int
    users: int

    @property
    def size(self) -> Size:
        return self.input_tokens, self.output_tokens


class Exchanged(msgspec.Struct, kw_only=True, frozen=True):
    """One answer: when it was asked for, began and ended, in seconds, and its tokens as counted.
    reads: in so many pieces it came; `None`: not known."""

    sent_s: float
    first_s: float
    last_s: float
    input_tokens: int
    output_tokens: int
    reads: int | None = None


class LoadPoint(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What one load came to: means over the requests that were counted.

    load: as it was chosen. input_tokens, output_tokens: as the backend counted them. rate: in
    requests/s. spread: the largest TPOT of a request over the smallest. seconds: how long the load
    lasted. running: requests in the backend's batch, on average; `None`: not known. seats: requests
    in the batch while others waited for a seat in it and not for memory; `None`: none did, or the
    backend does not say. at_once: tokens that came in one piece, on average; `None`: not known.
    own_cpu: the share of one CPU that the measuring process took; near 1 it
    measured itself.
    """

    load: Load
    input_tokens: float
    output_tokens: float
    rate: float
    ttft_s: float
    tpot_s: float
    spread: float
    seconds: float
    running: float | None = None
    seats: int | None = None
    at_once: float | None = None
    own_cpu: float = 0.0

    @property
    def point(self) -> Point:
        """As a point of a profile."""
        return Point(
            input_tokens=round(self.input_tokens, 1),
            output_tokens=round(self.output_tokens, 1),
            rate=float(f"{self.rate:.6g}"),
            tpot_s=float(f"{self.tpot_s:.6g}"),
            ttft_s=float(f"{self.ttft_s:.6g}"),
        )

    @property
    def decoding(self) -> float:
        """Requests that had their first token and not their last, on average."""
        return self.rate * self.output_tokens * self.tpot_s

    def held(self, slo: Slo) -> bool:
        """Whether the mean request kept the promise."""
        return self.ttft_s <= slo.ttft_s and self.tpot_s <= slo.tpot_s

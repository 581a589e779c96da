"""What can go wrong with an emulated engine, as parameters. Knows nothing of how it is done."""

from dataclasses import dataclass
from typing import Literal

from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults of one emulated engine; by default there are none.

    start_delay_s: it is not ready (503) for that long after its start. Of the generation requests,
    every `every`-th is hit by the others. status: answered with that error before anything else.
    die_before_headers: the connection is closed without a byte. die_after, stall_after,
    error_after: after so many output tokens the connection is closed, nothing more is sent but it
    stays open, or an error event ends the stream (an unary request gets HTTP 500). trickle: streams
    are written one byte at a time.
    """

    start_delay_s: float = 0.0
    every: int = 1
    status: Literal[500, 503] | None = None
    die_before_headers: bool = False
    die_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    trickle: bool = False

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidValue(f"every must be at least 1: {self.every}")
        for name in ("start_delay_s", "die_after", "stall_after", "error_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidValue(f"{name} must not be negative: {value}")

    def hits(self, number: int) -> bool:
        """Whether the number-th generation request (from 1) is hit."""
        return number % self.every == 0

    @property
    def limit(self) -> int | None:
        """Output tokens after which a request is cut off, one way or another; `None`: never."""
        limits = (self.die_after, self.stall_after, self.error_after)
        return min((limit for limit in limits if limit is not None), default=None)


NONE = Faults()

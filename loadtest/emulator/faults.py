"""What can go wrong with an emulated engine, as parameters. Knows nothing of how they are done."""

from dataclasses import dataclass
from typing import Literal

from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults of one emulated engine; by default there are none.

    start_delay_s: seconds after the start during which generation requests and `/health` get 503.
    every: each `every`-th generation request is hit by the faults below.
    status: the request is answered with this error before anything else.
    die_before_headers: the connection is closed without a byte.
    die_after: output tokens after which the connection is closed.
    stall_after: output tokens after which nothing more is sent and the connection stays open, as of
    a vLLM that got SIGTERM.
    error_after: output tokens after which an error event ends the stream, as of a vLLM whose engine
    process was killed; a unary request gets HTTP 500.
    trickle: streams are written one byte at a time.
    on_term: what SIGTERM does, which is a race inside vLLM. "reset": everything breaks off at once,
    as if killed. "abort": what is under way is answered at once, whole by its form: finish reason
    "abort", and a stream without output only its role and [DONE]. "hang": nothing is answered and
    the connections stay open. "drain": what is under way is finished, what comes meanwhile gets
    500, and health stays good (`--shutdown-timeout`).
    """

    start_delay_s: float = 0.0
    every: int = 1
    status: Literal[500, 503] | None = None
    die_before_headers: bool = False
    die_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    trickle: bool = False
    on_term: Literal["reset", "abort", "hang", "drain"] = "reset"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidValue(f"every must be at least 1: {self.every}")
        for name in ("start_delay_s", "die_after", "stall_after", "error_after"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidValue(f"{name} must not be negative: {value}")

    def hits(self, number: int) -> bool:
        """Whether the faults hit generation request `number`, counted from 1."""
        return number % self.every == 0

    @property
    def token_limit(self) -> int | None:
        """Output tokens after which a request is cut off in one of three ways; `None`: never."""
        limits = (self.die_after, self.stall_after, self.error_after)
        return min((limit for limit in limits if limit is not None), default=None)


NONE = Faults()

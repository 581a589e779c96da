"""Which engines are bad, in what way and for how long, drawn from a seed. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

PERIOD_S = 1.5  # mean length of a period
CALM, OUTAGE = 0.2, 0.04  # shares of the periods in which no engine is bad, and in which all are
# Shares of its requests that a bad engine fails: a small one opens no circuit breaker.
HITS = (0.1, 0.3, 0.8)


class EngineFault(StrEnum):
    """What a bad engine does with some of its requests; its health path answers 200 all the time.

    RESET: it resets the connection. ERROR: 500. FULL: 503 with Retry-After. LIMITED: 429 with
    Retry-After. SILENT: no answer. GARBAGE: bytes that are no HTTP. TRUNCATED: it closes the
    connection inside the first bytes of the body. CUT: it resets the connection inside the
    answer. STALL: it falls silent inside the answer. SLOW: it takes twenty times as long. DOWN: it
    is not there, nor is its health path. PAGE: 200 with a page of HTML. ABORTED: a whole answer
    with the finish reason `abort`, and with nothing in it.
    """

    RESET = "reset"
    ERROR = "error"
    FULL = "full"
    LIMITED = "limited"
    SILENT = "silent"
    GARBAGE = "garbage"
    TRUNCATED = "truncated"
    CUT = "cut"
    STALL = "stall"
    SLOW = "slow"
    DOWN = "down"
    PAGE = "page"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPeriod:
    """A stretch of time. faults: by engine, `None` for one that is well. hit: the share of its
    requests that a bad engine fails."""

    seconds: float
    hit: float
    faults: tuple[EngineFault | None, ...]

    @property
    def well(self) -> int:
        """Engines that are well."""
        return self.faults.count(None)


def periods(seed: int, engines: int, kinds: Sequence[EngineFault]) -> Iterator[FaultPeriod]:
    """Periods without end: one or two engines are bad in most of them, and sometimes all."""
    random = Random(f"faults {seed}")
    while True:
        chance = random.random()
        count = 0 if chance < CALM else min(engines, random.choice((1, 1, 2)))
        if chance > 1 - OUTAGE:
            count = engines
        bad = set(random.sample(range(engines), count))
        yield FaultPeriod(
            seconds=random.uniform(0.5, 1.5) * PERIOD_S,
            hit=random.choice(HITS),
            faults=tuple(random.choice(kinds) if n in bad else None for n in range(engines)),
        )

"""What gateways of one cluster tell each other, as values. Pure.

Backends are named by their URLs: each gateway numbers its own in the order in which it found them.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from gateway.cluster.caller_tokens import tokens_of
from gateway.cluster.codec import CodecError, decode
from gateway.cluster.drain_board import DrainNote
from gateway.routing.estimator_schema import EstimatorState, Lesson
from gateway.telemetry.stats_schema import StatsDelta, Stay
from planner.model.plan import Plan
from planner.traffic.size_histogram import CellSum, merge_sums

MOST_STAYS = 256  # of one report: more would not make a pace more certain
MOST_LESSONS = 64  # of one report
MOST_CALLERS = 1024  # of one report, those with the most tokens

Message = TypeVar("Message")


class PlanNews(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of the gateway that plans. token, number: of its lease, and of its plans; the newest
    plan has the greatest. print: of what it was made from; gateways of another configuration cannot
    use it. reason: why it is in force. gateway: that made it."""

    token: int
    number: int
    print: str
    plan: Plan
    reason: str
    gateway: str

    @property
    def order(self) -> tuple[int, int]:
        """The newer plan has the greater one."""
        return self.token, self.number


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What happened at one gateway since its last report.

    arrivals, sizes, stays: as in `StatsDelta`, but with URLs in place of backends' names. lessons:
    of a sample of the requests. tokens: of finished requests, by caller. seen: the share of its
    workers that report. drained: all backends that it drains now.
    """

    gateway: str
    print: str
    arrivals: dict[int, int]
    sizes: dict[tuple[int, int], CellSum]
    stays: list[Stay]
    lessons: tuple[Lesson, ...] = ()
    tokens: dict[str, int] = {}
    seen: float = 1.0
    drained: tuple[DrainNote, ...] = ()

    def delta(self, names: Mapping[tuple[str, str], str]) -> StatsDelta:
        """The same as statistics of one's own. names: of one's backends, by pool and URL."""
        stays = [(stay[0], names[stay[:2]], *stay[2:]) for stay in self.stays if stay[:2] in names]
        return StatsDelta(arrivals=self.arrivals, sizes=self.sizes, stays=stays)


class WhatWasLearned(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway that joins begins with. sizes: that the demand is remembered by, under the
    numbers of buckets of this print. tokens: of callers, as `CallerTokens` has them."""

    print: str
    estimator: EstimatorState
    sizes: dict[tuple[int, int], CellSum] = {}
    tokens: dict[str, int] = {}


class Outbox:
    """What happened here and was not told to the others yet. Sums, so it does not grow for ever."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._arrivals: dict[int, int] = {}
        self._sizes: dict[tuple[int, int], CellSum] = {}
        self._stays: list[Stay] = []
        self._tokens: dict[str, int] = {}
        self.seen = 1.0

    def __repr__(self) -> str:
        return f"<Outbox of {sum(self._arrivals.values())} requests>"

    def add(self, delta: StatsDelta, urls: Mapping[str, str], seen: float) -> None:
        """Add what was counted. urls: of backends by name. seen: the share of the workers that
        report."""
        for bucket, count in delta.arrivals.items():
            self._arrivals[bucket] = self._arrivals.get(bucket, 0) + count
        self._sizes = merge_sums(self._sizes, delta.sizes)
        room = MOST_STAYS - len(self._stays)
        self._stays += [
            (stay[0], urls[stay[1]], *stay[2:]) for stay in delta.stays[:room] if stay[1] in urls
        ]
        for caller, tokens in tokens_of(delta.uses).items():
            self._tokens[caller] = self._tokens.get(caller, 0) + tokens
        self.seen = min(self.seen, seen)

    def forget_buckets(self) -> None:
        """Drop what is counted by bucket: the numbers of the buckets have changed since."""
        self._arrivals, self._sizes = {}, {}

    def take(
        self,
        gateway: str,
        print_: str,
        lessons: tuple[Lesson, ...],
        drained: tuple[DrainNote, ...] = (),
    ) -> GatewayReport:
        """All of it, as a report; it is empty after that."""
        tokens = self._tokens
        if len(tokens) > MOST_CALLERS:
            most = sorted(tokens, key=tokens.__getitem__, reverse=True)[:MOST_CALLERS]
            tokens = {caller: tokens[caller] for caller in most}
        report = GatewayReport(
            gateway=gateway,
            print=print_,
            arrivals=self._arrivals,
            sizes=self._sizes,
            stays=self._stays,
            lessons=lessons[-MOST_LESSONS:],
            tokens=tokens,
            seen=self.seen,
            drained=drained,
        )
        self._restart()
        return report


def decoded(data: bytes | None, kind: type[Message]) -> Message | None:
    """A value of another gateway; `None` if there is none, or none of this version."""
    try:
        return None if data is None else decode(data, kind)
    except CodecError:
        return None

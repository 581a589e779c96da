"""The metrics of the pools that are scaled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.telemetry import control_definitions as control
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.metric import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFigures:
    """One pool. ordered: backends, last; `None`: none were. there, asleep, needed, pending,
    draining: backends. cap_gpus: `None` without a learned limit. startup_s: mean of
    starts. orders, launches: by result."""

    pool: str
    ordered: int | None
    there: int
    asleep: int
    needed: int
    pending: int
    draining: int
    cap_gpus: int | None
    startup_s: float
    orders: Mapping[str, int] = field(default_factory=dict)
    launches: Mapping[str, int] = field(default_factory=dict)


def scaling(pools: Sequence[ScalingFigures]) -> Iterator[Family]:
    """All of them; none without pools that are scaled."""
    yield _gauge(control.SCALE_THERE, {one.pool: one.there for one in pools})
    yield _gauge(control.SCALE_ASLEEP, {one.pool: one.asleep for one in pools})
    yield _gauge(control.SCALE_NEEDED, {one.pool: one.needed for one in pools})
    yield _gauge(control.SCALE_PENDING, {one.pool: one.pending for one in pools})
    yield _gauge(control.SCALE_DRAINING, {one.pool: one.draining for one in pools})
    yield _gauge(control.SCALE_CAP, {one.pool: one.cap_gpus for one in pools})
    yield _gauge(control.STARTUP, {one.pool: round(one.startup_s, 1) for one in pools})
    yield _results(control.SCALE_ORDERS, {one.pool: one.orders for one in pools})
    yield _results(control.SCALE_LAUNCHES, {one.pool: one.launches for one in pools})


def _gauge(definition: Metric, values: Mapping[str, float | None]) -> Family:
    family = Family(definition)
    for pool, value in values.items():
        if value is not None:
            family.add(labelled(pool=pool), value)
    return family


def _results(definition: Metric, counts: Mapping[str, Mapping[str, int]]) -> Family:
    family = Family(definition)
    for pool, own in counts.items():
        for result, count in own.items():
            family.add(labelled(pool=pool, result=result), count)
    return family

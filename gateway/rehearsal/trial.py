"""Tries a certified fleet on what it was not chosen on, to see whether its certificate was true.

Owns what is tried. A plan is made from the first half of its traces; the second half, longer plays
and slower engines are unknown to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.config.load import Loaded
from gateway.rehearsal.certify import Certified
from gateway.rehearsal.harness import Harness, replay_harness
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.traffic import Process
from gateway.routing.estimator import Estimator
from planner.model.plan import Certificate
from planner.proof.certify import SEEDS, certify

FRESH = 20_000  # seeds from here on are no others' seeds
LONG = 5.0  # times the length of a play of a certificate
SLOWER = 1.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one trial found: the certificate of the class that is worst off, all seeds played."""

    name: str
    certificate: Certificate


def halves(sources: Sequence[TraceSource]) -> tuple[list[TraceSource], list[TraceSource]]:
    """The first and the second half of every trace, by time."""
    parts: tuple[list[TraceSource], list[TraceSource]] = [], []
    for source in sources:
        middle_s, end_s = source.trace.duration_s / 2, source.trace.duration_s + 1.0
        for part, (begin, end) in zip(parts, ((0.0, middle_s), (middle_s, end_s)), strict=True):
            part.append(replace(source, trace=source.trace.slice(begin, end)))
    return parts


def trials(
    result: Certified,
    loaded: Loaded,
    first: Sequence[TraceSource],
    second: Sequence[TraceSource],
    *,
    process: Process,
    seeds: int = SEEDS,
) -> Iterator[Trial]:
    """Play the refined plan of a result on what it does not know, at the rate that it is for.

    first: what it was made from. second: what came later. process: of arrivals, as it was made for;
    seeds: of each trial.
    """
    plan, demand = result.refined.plan, result.demand
    learned = Estimator()
    demand_together(first, loaded, estimator=learned)

    def played(name: str, harness: Harness, longer: float = 1.0) -> Trial:
        certificate = certify(
            plan,
            lambda one, seed: harness.play(one, seed, longer),
            seeds=range(FRESH, FRESH + seeds),
            early=False,
        )
        return Trial(name=name, certificate=certificate)

    slower = tuple(replace(pool, profile=pool.profile.slowed(SLOWER)) for pool in loaded.pools)
    harness = partial(
        replay_harness, pools=loaded.pools, length=result.length, process=process, estimator=learned
    )
    as_planned = harness(first, demand)
    yield played("fresh seeds", as_planned)
    yield played(f"{LONG:g} times as long", as_planned, LONG)
    later = demand_together(second, loaded, estimator=Estimator())
    later = later.scaled_to(demand.total_rate)
    if process == "poisson":
        later = replace(later, dispersion=(1.0,) * len(later.dispersion))
    yield played("later half", harness(second, later))
    yield played(f"engines {SLOWER - 1:.0%} slower", harness(first, demand, engines=slower))

"""Plays plans on one traffic, with the gateway's own router, and scores them.

Owns how long a fleet is played and on which samples. Knows no HTTP and no live object.
"""

from collections.abc import Callable, Sequence
from math import ceil, sqrt

import numpy as np

from gateway.rehearsal.fill import FilledSample, filled
from gateway.rehearsal.history import TraceSource
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import SPARE, Process, Traffic, observed, replayed
from gateway.routing.estimator import Estimator
from planner.errors import PlayTooLarge
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.length import PlayLength
from planner.proof.refine import fullest
from planner.proof.score import PlayedRequests, Score, scores

# A fleet that is busier than this needs long until it is in its usual state, by queueing theory
# 1/(1 − load) times its requests' stay: it is played `LONGER` times as long.
BUSY = 0.85
LONGER = 3.0
# Requests, of 300 bytes each while they are played. A play of 461 s for 1,000 requests/s has half a
# million, and takes 10 s of CPU.
MOST = 1_500_000
KEPT = 500_000  # of all samples that are kept for the next plan; to draw one again costs little

TrafficFor = Callable[[int], Traffic]  # of so many requests, all classes together


class Harness:
    """Plays plans on one traffic. Every plan meets the same samples; scores are kept."""

    def __init__(
        self,
        traffic_for: TrafficFor,
        demand: Demand,
        pools: tuple[Pool, ...],
        length: PlayLength,
        *,
        engines: tuple[Pool, ...] | None = None,
        kept: int = KEPT,
    ) -> None:
        """demand: of the traffic. pools: as the router believes them. engines: the pools as they
        are played, e.g. slower; default: as they are believed. kept: requests of samples that are
        kept."""
        self._traffic_for = traffic_for
        self._demand = demand
        self._pools = pools
        self._engines = pools if engines is None else engines
        self._length = length
        self._room = kept
        self._samples: dict[tuple[float, int], FilledSample] = {}
        self._scores: dict[tuple[str, int, float], tuple[Score, ...]] = {}

    def play(self, plan: Plan, seed: int, longer: float = 1.0) -> tuple[Score, ...]:
        """The scores of one play, one for each SLO class that has requests, by its own SLO.

        longer: so many times as long."""
        key = plan.plan_id, seed, longer
        if key not in self._scores:
            self._scores[key] = self._play(plan, seed, longer)
        return self._scores[key]

    def prove(self, plan: Plan, seed: int) -> tuple[Score, ...]:
        """`play`, and `LONGER` where the fleet is so busy that it needs long to settle."""
        # The load of this demand, which may be more than the one that the plan was made for.
        more = self._demand.total_rate / (sum(plan.rate) or 1.0)
        return self.play(plan, seed, LONGER if more * fullest(plan) > BUSY else 1.0)

    def sample(self, seed: int, longer: float = 1.0) -> FilledSample:
        """What is played with a seed; longer: so many times as long. Raises PlayTooLarge."""
        key = longer, seed
        if key in self._samples:
            return self._samples[key]
        length, demand = self._length.longer(longer), self._demand
        count = length.total_s * demand.total_rate
        if count > MOST:
            raise PlayTooLarge(
                f"a play lasts {length.total_s:,.0f} s at {demand.total_rate:,.0f} requests/s; "
                f"more than {MOST:,} requests do not fit into memory"
            )
        spare = SPARE * sqrt(count * max(demand.dispersion)) + SPARE
        drawn = self._traffic_for(ceil(count + spare)).draw(seed)
        found = filled(drawn.until(length.total_s), length, demand.buckets.classes)
        size = len(found.sample.trace)
        if size <= self._room:
            self._room -= size
            self._samples[key] = found
        return found

    def _play(self, plan: Plan, seed: int, longer: float) -> tuple[Score, ...]:
        given = self.sample(seed, longer)
        sample, trace = given.sample, given.sample.trace
        played = rehearse(
            trace, plan, self._pools, slo_class=sample.slo_class, estimated=sample.estimated,
            engines=self._engines,
        )  # fmt: skip
        result = played.result
        gaps = np.maximum(trace.output_tokens - 1, 0.0)
        requests = PlayedRequests(
            slo_class=sample.slo_class,
            met=played.met(plan.buckets),
            arrival_s=trace.arrival_s,
            last_s=trace.arrival_s + result.ttft_s + gaps * np.nan_to_num(result.tpot_s),
        )
        classes = plan.buckets.classes
        return tuple(scores(requests, classes, begin_s=given.begin_s, end_s=given.end_s))


def replay_harness(
    sources: Sequence[TraceSource],
    demand: Demand,
    pools: tuple[Pool, ...],
    length: PlayLength,
    *,
    process: Process,
    estimator: Estimator,
    swing: float = 0.0,
    engines: tuple[Pool, ...] | None = None,
) -> Harness:
    """Plays on traces, at the rates and dispersions of the demand. swing: of a day, which lasts as
    long as the counted part of a play."""

    def traffic_for(requests: int) -> Traffic:
        return replayed(
            sources, demand, process=process, requests=requests, estimator=estimator,
            swing=swing, period_s=length.counted_s,
        )  # fmt: skip

    return Harness(traffic_for, demand, pools, length, engines=engines)


def observed_harness(
    demand: Demand,
    pools: tuple[Pool, ...],
    length: PlayLength,
    *,
    engines: tuple[Pool, ...] | None = None,
) -> Harness | None:
    """Plays on traffic like an observed demand; `None` if the sizes of no class are known."""
    if observed(demand, 1) is None:
        return None

    def traffic_for(requests: int) -> Traffic:
        traffic = observed(demand, requests)
        assert traffic is not None
        return traffic

    return Harness(traffic_for, demand, pools, length, engines=engines)

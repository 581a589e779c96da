"""What sharing a fleet among several workers costs: the rate that they attain beside one worker's.

Each worker is one of the gateway's own routers in virtual time. The workers see each other's
leases through the shared load array, as old as the router lets it be; requests reach them at
random, as the kernel distributes connections. Knows no process and no socket.

    python -m loadtest.compare.workers --config configs/demo.yaml --trace TRACE.csv
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import click
import numpy as np

from gateway.config.load import Loaded, load
from gateway.rehearsal.history import demand_of
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import ReplayedTraffic
from gateway.routing.estimator import Estimator
from loadtest.compare.dispatch import SKIP
from planner.model.plan import Plan
from planner.program import solve
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

STEPS = 11  # halvings of the bracket: 0.2 % of the rate
LOWEST, HIGHEST = 0.5, 4.5  # of the rate that the fleet was planned for
DISPERSION = 1.5  # of arrivals: a little burstier than Poisson, whose counts have 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkersBench:
    """One plan and the traffic that it is played on, at any rate."""

    loaded: Loaded
    plan: Plan
    trace: Trace
    estimator: Estimator
    requests: int
    seeds: int

    @property
    def slo(self) -> Slo:
        return self.plan.buckets.classes[0].slo

    def attainment(self, rate: float, workers: int) -> float:
        """Attainment over all seeds; any number of workers meets the same traffic."""
        met = total = 0
        for seed in range(self.seeds):
            traffic = ReplayedTraffic(
                trace=self.trace, rate=rate, process="gamma", dispersion=DISPERSION,
                requests=self.requests, estimator=self.estimator,
                model=self.plan.buckets.classes[0].model,
            )  # fmt: skip
            sample = traffic.draw(seed)
            worker_of = np.random.default_rng(seed).integers(0, workers, len(sample.trace))
            played = rehearse(
                sample.trace,
                self.plan,
                self.loaded.pools,
                estimated=sample.estimated,
                workers=worker_of,
            )
            counted = played.result.met(self.slo)[ceil(SKIP * len(worker_of)) :]
            met, total = met + int(counted.sum()), total + len(counted)
        return met / total


def highest_rate(attainment: Callable[[float], float], planned: float, target: float) -> float:
    """The highest rate at which the target is met, by bisection.

    planned: the rate that the fleet was planned for; the result lies between half and four and a
    half times it.
    """
    low, high = LOWEST * planned, HIGHEST * planned
    for _ in range(STEPS):
        middle = (low + high) / 2
        if attainment(middle) >= target:
            low = middle
        else:
            high = middle
    return low


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Configuration.")
@click.option("--trace", "path", required=True, type=click.Path(path_type=Path), help="Trace CSV.")
@click.option("--rate", default=20.0, show_default=True, help="Requests/s to plan the fleet for.")
@click.option("--requests", default=4000, show_default=True, help="Of one play.")
@click.option("--seeds", default=4, show_default=True, help="Plays of each rate.")
@click.option("--workers", default=(1, 2, 4, 8), multiple=True, help="Numbers of workers.")
def main(
    config: Path, path: Path, rate: float, requests: int, seeds: int, workers: tuple[int, ...]
) -> None:
    """The load that several workers attain at the promised attainment, beside one's."""
    loaded, trace, estimator = load(config), read_trace(path), Estimator()
    demand = demand_of(trace, loaded, estimator=estimator).scaled_to(rate)
    plan = solve.provision(demand, loaded.pools, loaded.limits)
    bench = WorkersBench(
        loaded=loaded, plan=plan, trace=trace, estimator=estimator, requests=requests, seeds=seeds
    )
    click.echo(f"{dict(zip(plan.pools, plan.backends, strict=True))} for {rate:g}/s")
    for count in workers:
        attained = highest_rate(
            lambda at, count=count: bench.attainment(at, count),  # type: ignore[misc]
            rate,
            bench.slo.attainment,
        )
        click.echo(f"{count} workers: {attained:.2f}/s at {bench.slo.attainment:.0%}")


if __name__ == "__main__":
    main()

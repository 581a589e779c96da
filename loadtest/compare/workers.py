"""What sharing a fleet among several workers costs: the load that they attain beside one's.

Each worker is one of the gateway's own routers in virtual time. They see each other's leases
through the board, as old as it lets them be; requests are dealt to them at random, as the kernel
deals connections. Knows no process and no socket.

    python -m loadtest.compare.workers --config configs/demo.yaml --trace TRACE.csv
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import click
import numpy as np

from gateway.config.load import Loaded, load
from gateway.rehearsal.certify import SKIP
from gateway.rehearsal.history import demand_of
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import ReplayedTraffic
from gateway.routing.estimator import Estimator
from planner.model.plan import Plan
from planner.program import solve
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

STEPS = 11  # halvings of the bracket: 0.2 % of the rate
LOWEST, HIGHEST = 0.5, 4.5  # of the rate that the fleet was planned for


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
        """Over all seeds; the same traffic for any number of workers."""
        met = total = 0
        for seed in range(self.seeds):
            traffic = ReplayedTraffic(
                trace=self.trace, rate=rate, process="gamma", dispersion=1.5,
                requests=self.requests, estimator=self.estimator,
                model=self.plan.buckets.classes[0].model,
            )  # fmt: skip
            drawn = traffic.draw(seed)
            dealt = np.random.default_rng(seed).integers(0, workers, len(drawn.trace))
            seen = rehearse(
                drawn.trace, self.plan, self.loaded.pools, believed=drawn.believed, workers=dealt
            )
            kept = seen.result.met(self.slo)[ceil(SKIP * len(dealt)) :]
            met, total = met + int(kept.sum()), total + len(kept)
        return met / total


def attainable(attainment: Callable[[float], float], planned: float, target: float) -> float:
    """The highest rate at which the target is met, between half and four and a half times the
    planned one."""
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
        found = attainable(
            lambda at, count=count: bench.attainment(at, count),  # type: ignore[misc]
            rate,
            bench.slo.attainment,
        )
        click.echo(f"{count} workers: {found:.2f}/s at {bench.slo.attainment:.0%}")


if __name__ == "__main__":
    main()

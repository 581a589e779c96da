"""What sharing a fleet among several gateways costs: the rate that they attain beside one's, and
how fair their queues are together.

Each gateway is one of the product's routers in virtual time. The gateways tell each other what they
hold by the frames that Redis carries, at intervals and each at its own moments, so that what one
knows of another is up to two intervals old. Requests reach them at random, as a balancer deals
them. Knows no Redis and no socket.

    python -m loadtest.compare.gateways --config configs/demo.yaml --trace TRACE.csv
"""

from collections.abc import Sequence
from heapq import heapify, heapreplace
from math import ceil
from pathlib import Path

import click
import numpy as np

from gateway.cluster.load_frame import NOWHERE
from gateway.cluster.views import Views
from gateway.rehearsal.history import callers
from gateway.rehearsal.traffic import TrafficSample
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import SoleView
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from loadtest.compare.dispatch import SKIP
from loadtest.compare.sharing import SharingBench, highest_rate
from planner.traffic.trace import Trace

PRINT = bytes(8)  # all have the same configuration
CROWD = 0.75  # of the requests are one caller's, where fairness is measured
OVERLOAD = 1.5  # times the rate that one gateway attains


class VirtualCluster:
    """The `LoadSharing` of gateways that tell each other what they hold at intervals."""

    def __init__(self, gateways: int, view_s: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._view_s = view_s
        self._due = [(float(at), n) for n, at in enumerate(rng.uniform(0, view_s, gateways))]
        heapify(self._due)
        self._views: list[Views] = []
        self._told: dict[str, bytes] = {}

    def routers(self, table: RoutingTable, urls: dict[str, tuple[str, ...]]) -> list[Router]:
        """See `LoadSharing`."""
        made = []
        for _ in self._due:
            fleet = Fleet.of(urls)
            peers, views = SoleView(fleet), Views(fleet, zone=NOWHERE, view_s=self._view_s)
            views.of(peers)
            self._views.append(views)
            made.append(Router(table, fleet, peers=peers))
        return made

    def advance(self, now_s: float) -> None:
        """Every gateway whose moment has come tells and hears."""
        while self._due[0][0] <= now_s:
            at_s, number = self._due[0]
            views, name = self._views[number], str(number)
            self._told[name] = views.frame(PRINT, at_s)
            others = {other: data for other, data in self._told.items() if other != name}
            views.hear(others, PRINT, at_s)
            views.lend(PRINT, at_s)
            heapreplace(self._due, (at_s + self._view_s, number))


class GatewaysBench(SharingBench):
    """A fleet that gateways share, which tell each other at intervals of `view_s`."""

    def attainment(self, rate: float, gateways: int, view_s: float) -> float:
        """See `SharingBench.attained`."""
        return self.attained(rate, gateways, lambda seed: VirtualCluster(gateways, view_s, seed))

    def share(self, rate: float, gateways: int, view_s: float, *, apart: bool) -> float:
        """Of the tokens that are served, the share of a caller that sends a quarter of the
        requests. apart: whether it has gateways of its own, half of them, as callers of one region
        do; else its requests reach all at random."""
        mine = total = 0.0
        for seed in range(self.seeds):
            sample = self.sample(rate, seed)
            rng = np.random.default_rng(seed)
            crowd = rng.random(len(sample.trace)) < CROWD
            dealt = rng.integers(0, gateways, len(sample.trace))
            if apart:
                half = gateways // 2
                dealt = np.where(crowd, dealt % half, half + dealt % half)
            named = _named(sample, crowd)
            played = self.play(named, dealt, VirtualCluster(gateways, view_s, seed))
            tokens = named.trace.input_tokens + named.trace.output_tokens
            served = tokens * (played.result.backend >= 0)
            served[: ceil(SKIP * len(dealt))] = 0.0
            mine, total = mine + float(served[~crowd].sum()), total + float(served.sum())
        return mine / total


def _named(sample: TrafficSample, crowd: np.ndarray) -> TrafficSample:
    """The same requests by two callers."""
    trace = sample.trace
    keys = tuple("crowd" if many else "quiet" for many in crowd.tolist())
    named = Trace(
        arrival_s=trace.arrival_s,
        input_tokens=trace.input_tokens,
        output_tokens=trace.output_tokens,
        key=keys,
        cached_tokens=trace.cached_tokens,
    )
    assert len(set(callers(named))) == 2
    return TrafficSample(trace=named, estimated=sample.estimated, slo_class=sample.slo_class)


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Configuration.")
@click.option("--trace", "path", required=True, type=click.Path(path_type=Path), help="Trace CSV.")
@click.option("--rate", default=20.0, show_default=True, help="Requests/s to plan the fleet for.")
@click.option("--requests", default=4000, show_default=True, help="Of one play.")
@click.option("--seeds", default=4, show_default=True, help="Plays of each rate.")
@click.option("--gateways", default=(1, 2, 4), multiple=True, help="Numbers of gateways.")
@click.option("--view", "views", default=(0.1,), multiple=True, help="Seconds of `view_s`.")
def main(
    config: Path, path: Path, rate: float, requests: int, seeds: int,
    gateways: Sequence[int], views: Sequence[float],
) -> None:  # fmt: skip
    """The load that several gateways attain at the promised attainment, beside one's; and a quiet
    caller's share of the tokens when they are overloaded."""
    bench = GatewaysBench.planned(config, path, rate=rate, requests=requests, seeds=seeds)
    click.echo(f"{bench.fleet} for {rate:g}/s")
    single = 0.0
    for view_s in views:
        for count in gateways:
            attained = highest_rate(
                lambda at, n=count, s=view_s: bench.attainment(at, n, s),  # type: ignore[misc]
                rate,
                bench.slo.attainment,
            )
            single = single or attained
            over = OVERLOAD * single
            shares = [f"mixed {bench.share(over, count, view_s, apart=False):.1%}"]
            if count > 1:
                shares.append(f"apart {bench.share(over, count, view_s, apart=True):.1%}")
            click.echo(
                f"{count} gateways, view of {view_s:g} s: {attained:.2f}/s at "
                f"{bench.slo.attainment:.0%} ({attained / single - 1:+.1%}); "
                f"the quiet caller's share at {over:.0f}/s: {', '.join(shares)}"
            )


if __name__ == "__main__":
    main()

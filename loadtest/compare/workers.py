"""What sharing a fleet among several workers costs: the rate that they attain beside one worker's.

Each worker is one of the gateway's own routers in virtual time. The workers see each other's
leases through the shared load array, as old as the router lets it be; requests reach them at
random, as the kernel distributes connections. Knows no process and no socket.

    python -m loadtest.compare.workers --config configs/demo.yaml --trace TRACE.csv
"""

from pathlib import Path

import click

from loadtest.compare.sharing import SharingBench, highest_rate


class WorkersBench(SharingBench):
    """A fleet that workers of one machine share."""

    def attainment(self, rate: float, workers: int) -> float:
        """See `SharingBench.attained`."""
        return self.attained(rate, workers, lambda _: None)


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
    bench = WorkersBench.planned(config, path, rate=rate, requests=requests, seeds=seeds)
    click.echo(f"{bench.fleet} for {rate:g}/s")
    for count in workers:
        attained = highest_rate(
            lambda at, count=count: bench.attainment(at, count),  # type: ignore[misc]
            rate,
            bench.slo.attainment,
        )
        click.echo(f"{count} workers: {attained:.2f}/s at {bench.slo.attainment:.0%}")


if __name__ == "__main__":
    main()

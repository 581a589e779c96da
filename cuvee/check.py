"""The subcommand `check`: a configuration file in, one line about it out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import uvloop

from cuvee.options import API_KEY, CONFIG, POSITIVE, configured
from gateway import runtime
from gateway.config.load import Loaded
from gateway.discovery.glance import glance
from gateway.discovery.sources import by_pool
from gateway.preflight.inquiry import expected, expected_in, inquire
from planner.model.pool import Pool


@click.command()
@CONFIG
@click.option("--strict", is_flag=True, help="Take warnings for mistakes.")
@click.option("--connect", is_flag=True, help="Ask every backend too, and compare.")
@API_KEY
@click.option(
    "--timeout",
    "timeout_s",
    type=POSITIVE,
    default=5.0,
    show_default=True,
    help="With --connect: seconds until a backend must have answered.",
)
def check(path: Path, strict: bool, connect: bool, key: str | None, timeout_s: float) -> None:
    """Validate a configuration file.

    Exits with 0 if the gateway could start with it, with 2 and one line per mistake if not. With
    --connect it asks all backends at once for their health and their models, with one line for
    each; it exits with 1 if one does not answer, serves another model or a shorter context, or
    refuses the key.
    """
    loaded = configured(path)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if strict and loaded.warnings:
        sys.exit(2)
    backends = sum(len(pool.backends) for pool in loaded.config.pools.values())
    click.echo(
        f"{path}: {counted(len(loaded.config.models), 'model')}, "
        f"{counted(len(loaded.pools), 'pool')}, {counted(backends, 'backend')}, "
        f"{counted(loaded.buckets.count, 'bucket')}"
    )
    for line in understood(loaded):
        click.echo(f"  {line}")
    if connect:
        runtime.raise_file_limit()
        if not uvloop.run(agreed(loaded, key, timeout_s)):
            sys.exit(1)


def understood(loaded: Loaded) -> Iterator[str]:
    """What a configuration means: a line for each promise, each pool and each alternative."""
    for one in loaded.buckets.classes:
        slo = one.slo
        yield (
            f"{one}: TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s * 1e3:g} ms for "
            f"{slo.attainment * 100:g} %"
        )
    sources = by_pool(loaded)
    for pool in loaded.pools:
        backends = counted(len(loaded.config.pools[pool.name].backends), "backend")
        if pool.name in sources:
            backends += f" and those of {sources[pool.name]}"
        version = pool.profile.engine_version
        fitted = "" if version is None else f", profile of engine version {version}"
        yield (
            f"{pool.name}: {backends} of {pool.profile.gpu_label} with {pool.model}, "
            f"context {pool.profile.max_model_len}, ${pool.usd_per_hour:.2f}/h each{fitted}"
        )
        yield from (f"  {line}" for line in _alternatives(loaded, pool))


def _alternatives(loaded: Loaded, pool: Pool) -> Iterator[str]:
    """A line for each alternative of a pool, those that no plan can use last."""
    for one in loaded.alternatives:
        if one.name.rpartition("/")[0] == pool.name:
            yield (
                f"or {one.name}: {one.profile.gpu_label}, at most {one.profile.max_num_seqs} "
                f"requests, context {one.profile.max_model_len}, ${one.usd_per_hour:.2f}/h each"
            )
    for left in loaded.left_out:
        if left.name.rpartition("/")[0] == pool.name:
            yield f"not {left.name}: {left.reason}"


async def agreed(loaded: Loaded, key: str | None, timeout_s: float) -> bool:
    """Ask all backends, and those that are found now; print a line for each. Returns whether all
    are as they are configured, and all sources could be read."""
    urls_found, failed, remarks = await glance(loaded, timeout_s)
    for name, why in failed.items():
        click.echo(f"no  {name}: {why}")
    for line in remarks:
        click.echo(f"warning: {line}", err=True)
    pools, listed = expected_in(loaded), expected(loaded)
    known = {(one.pool, one.url.rstrip("/")) for one in listed}
    more = [
        pools[pool]._replace(url=url)
        for pool, own in urls_found.items()
        for url in own
        if (pool, url) not in known
    ]
    verdicts = await inquire((*listed, *more), key=key, timeout_s=timeout_s)
    names = max((len(one.backend.pool) for one in verdicts), default=0)
    urls = max((len(one.backend.url) for one in verdicts), default=0)
    for one in verdicts:
        mark = "ok" if one.kind == "ok" else "no"
        text = f"{one.text}; {one.warning}" if one.warning else one.text
        click.echo(f"{mark}  {one.backend.pool:{names}}  {one.backend.url:{urls}}  {text}")
    return not failed and all(one.kind == "ok" for one in verdicts)


def counted(number: int, noun: str) -> str:
    """`1 model`, `2 models`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

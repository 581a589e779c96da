"""The subcommand `soak`: bounds in, a summary, JSON and an exit code out. Measures nothing."""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import JSON_FILE, OUTPUT_FILE, POSITIVE, table_columns
from cuvee.progress import Work
from gateway import runtime
from loadtest.soak.account import Disagreement
from loadtest.soak.faults import EngineFault
from loadtest.soak.gateway import GatewayFailed
from loadtest.soak.memory import Growth
from loadtest.soak.run import SoakOptions, SoakResult
from loadtest.soak.run import soak as run_soak

NONE = "none"  # without --fault all are done
SHOWN = 10  # disagreements of a kind that are printed


@click.command()
@click.option(
    "--requests", type=click.IntRange(1), default=10_000, show_default=True, help="At most."
)
@click.option(
    "--seconds", type=POSITIVE, default=600.0, show_default=True,
    help="Send no further request after this long.",
)  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of traffic and faults.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Of the gateway."
)
@click.option(
    "--engines", type=click.IntRange(2, 64), default=6, show_default=True, help="In two pools."
)
@click.option(
    "--clients", type=click.IntRange(1, 1000), default=48, show_default=True,
    help="That send at the same time.",
)  # fmt: skip
@click.option(
    "--deaths", type=click.IntRange(0), default=0, show_default=True,
    help="Workers that are killed during the run; needs --workers 2 or more.",
)  # fmt: skip
@click.option(
    "--fault",
    "names",
    multiple=True,
    type=click.Choice([*(fault.value for fault in EngineFault), NONE]),
    help="What engines do, once for each; `none` for nothing.  [default: all]",
)
@JSON_FILE
@click.option("--log", "log_path", type=OUTPUT_FILE, help="Keep the gateway's log.")
def soak(
    requests: int,
    seconds: float,
    seed: int,
    workers: int,
    engines: int,
    clients: int,
    deaths: int,
    names: tuple[str, ...],
    json_path: Path | None,
    log_path: Path | None,
) -> None:
    """Send traffic through a gateway whose engines fail; compare all ledgers.

    Everything is on this machine: scripted engines, a gateway of its own, and clients that
    stream, pipeline, leave at random and read slowly; the configuration is reloaded now and then.
    What clients, gateway and engines say of every single request must agree: none is lost,
    doubled or mixed up, none is called served that was not. Exits with 1 if anything disagrees.
    """
    if deaths and workers < 2:
        raise click.UsageError("--deaths needs --workers 2 or more")
    kinds = (
        tuple(map(EngineFault, (n for n in names if n != NONE))) if names else tuple(EngineFault)
    )
    options = SoakOptions(
        requests=requests, seconds=seconds, seed=seed, workers=workers, engines=engines,
        clients=clients, deaths=deaths, faults=kinds,
    )  # fmt: skip
    console = Console(width=table_columns())
    try:
        result = _run(options, console, log_path)
    except (GatewayFailed, OSError) as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        values = {"options": asdict(options), "runtime": runtime.runtime(), **asdict(result)}
        json_path.write_text(json.dumps(values, indent=1) + "\n")
    console.print(table(result))
    for line in lines(result):
        console.print(line, highlight=False)
    if result.disagreements:
        console.print(disagreeing(result.disagreements), highlight=False, markup=False)
        console.print(f"again: {again(sys.argv)}", highlight=False, markup=False, soft_wrap=True)
        raise click.exceptions.Exit(1)


def _run(options: SoakOptions, console: Console, log_path: Path | None) -> SoakResult:
    """Run, and show how far it is: it ends with the last request or when its time is over."""
    runtime.raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="cuvee-soak-") as folder:
        log = log_path or Path(folder) / "gateway.log"
        log.write_bytes(b"")  # what an earlier run left is not of this one
        with Work("starting") as work:
            return uvloop.run(run_soak(options, log, _progress(work, options)))


def _progress(work: Work, options: SoakOptions) -> Callable[[int], None]:
    began_s = time.monotonic()

    def ended(requests: int) -> None:
        work.say(f"{requests:,} of {options.requests:,} requests")
        shares = requests / options.requests, (time.monotonic() - began_s) / options.seconds
        work.reach(max(shares), 1.0)

    return ended


def table(result: SoakResult) -> Table:
    """How the requests ended, and what was done to the engines."""
    title = f"{result.sent:,} requests in {result.seconds:.0f} s"
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("ended, for the client", "status", "faults of engines"):
        shown.add_column(heading)
        shown.add_column(justify="right")
    columns: tuple[Mapping[Any, int], ...] = (result.endings, result.statuses, result.faults)
    rows = [[*map(str, values)] for values in columns]
    for row in range(max(map(len, rows))):
        cells: list[str] = []
        for names, values in zip(rows, columns, strict=True):
            known = row < len(names)
            cells += [names[row], f"{list(values.values())[row]:,}"] if known else ["", ""]
        shown.add_row(*cells)
    return shown


def lines(result: SoakResult) -> list[str]:
    """The rest of the account, a line each."""
    done, refused = result.reloads
    kinds = Counter(odd.kind for odd in result.disagreements)
    counts = "; ".join(
        f"{kind} {kinds[kind]}" for kind in ("lost", "done twice", "mixed up", "ok but not served")
    )
    return [
        f"at engines: {result.attempts:,} attempts, at most {result.most_attempts} of one request; "
        f"retries: {result.retries:,}",
        f"5xx: {_by_well(result.errors)}; broken streams: {_by_well(result.broken)}",
        f"reloads: {done} done, {refused} refused, as they were to be; "
        f"plans: {result.plans}; workers killed: {result.deaths}",
        f"resident memory, MiB: {_growth(result.resident_mib)}",
        f"open descriptors: {_growth(result.open_files)}",
        f"{counts}; {len(result.disagreements)} disagreements of any kind",
    ]


def disagreeing(odd: Sequence[Disagreement]) -> str:
    """What disagrees: the first ones of each kind."""
    shown: list[str] = []
    seen: Counter[str] = Counter()
    for one in odd:
        seen[one.kind] += 1
        if seen[one.kind] <= SHOWN:
            where = "" if one.number is None else f" (request {one.number})"
            shown.append(f"{one.kind}{where}: {one.text}")
    left = seen.total() - len(shown)
    return "\n".join([*shown, f"and {left} more"] if left else shown)


def again(argv: Sequence[str]) -> str:
    """The command that was given, with the log kept: the same traffic and faults, if not the same
    moments."""
    given = " ".join(argv[1:])
    return f"cuvee {given}" + ("" if "--log" in given else " --log gateway.log")


def _by_well(counts: Mapping[int, int]) -> str:
    """Counts by the fewest engines that were well meanwhile."""
    parts = [f"{count:,} while {well} engines were well" for well, count in counts.items()]
    return ", ".join(parts) or "none"


def _growth(of: Growth) -> str:
    slope = "too short for a slope"
    if of.slope is not None and of.error is not None:
        slope = f"{of.slope:+.1f} ± {of.error:.1f} per 100,000 requests"
    return f"{of.first:.0f} after the warm-up, {of.last:.0f} at the end, {slope}"

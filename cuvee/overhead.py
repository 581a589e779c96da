"""The command `cuvee overhead`: options in, tables, JSON and an exit code out. Measures nothing."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import click
from rich.console import Console

from gateway import runtime
from loadtest import process
from loadtest.overhead import measure, page, peers, rounds, setups, tables
from loadtest.overhead.measure import REFERENCE, MeasureRow
from loadtest.overhead.rounds import BenchResult
from loadtest.overhead.scenarios import Options

TABLE_COLUMNS = 110  # where there is no terminal to ask
NONE = "none"
ENGINES = ("httptools", "msgspec", "uvloop")  # versions that move the gateway's figures


@click.command()
@click.option(
    "--peer",
    "wanted",
    type=click.Choice((*peers.NAMES, NONE)),
    multiple=True,
    help="What to compare with, once for each; `none` for nobody.  [default: all that are found]",
)
@click.option(
    "--peer-path",
    "paths",
    multiple=True,
    metavar="NAME=PATH",
    envvar=peers.PATHS_VARIABLE,
    help=f"Where a peer's program is, if not on PATH. Also {peers.PATHS_VARIABLE}, with spaces.",
)
@click.option(
    "--against",
    type=click.Choice((*peers.NAMES, setups.GATEWAY)),
    default=REFERENCE,
    show_default=True,
    help="The set-up that ratios refer to.",
)
@click.option(
    "--body-kib",
    type=click.IntRange(1, 1024),
    multiple=True,
    default=(1,),
    show_default=True,
    help="Request body; repeatable. Open loops and streams send the first.",
)
@click.option(
    "--connections",
    type=click.IntRange(0, 4096),
    multiple=True,
    default=(1, 64),
    show_default=True,
    help="Of a closed loop; repeatable, 0 for no closed loop.",
)
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0),
    multiple=True,
    default=(2000,),
    show_default=True,
    help="Requests/s of an open loop; repeatable, 0 for none.",
)
@click.option(
    "--load",
    "loads",
    type=click.IntRange(0, 95),
    multiple=True,
    default=(50,),
    show_default=True,
    help="Open loop at this percentage of each set-up's own best; repeatable, 0 for none.",
)
@click.option(
    "--streams",
    type=click.IntRange(0, 50_000),
    multiple=True,
    default=(100,),
    show_default=True,
    help="At the same time; repeatable, 0 for none.",
)
@click.option(
    "--chunks", type=click.IntRange(1), default=100, show_default=True, help="Per stream."
)
@click.option(
    "--interval-ms",
    type=click.IntRange(1, 10_000),
    help="Between two chunks of a stream.  [default: 20, more above 400 streams: 20,000 chunks/s]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Cores for each proxy, and its workers or threads.",
)
@click.option(
    "--rounds", "turns", type=click.IntRange(1, 20), default=3, show_default=True,
    help="Interleaved rounds.",
)  # fmt: skip
@click.option(
    "--window",
    type=click.FloatRange(0.1, 60),
    default=2.0,
    show_default=True,
    help="Seconds that count, per run.",
)
@click.option(
    "--warmup",
    type=click.FloatRange(0, 30),
    default=1.0,
    show_default=True,
    help="Seconds before that; at least 2 per 1,000 streams.",
)
@click.option(
    "--profile",
    "profiles",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also show where the gateway's time goes, and write stacks for flame graphs here.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write every run to this file.",
)
@click.option(
    "--markdown",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the tables of docs/performance.md to this file.",
)
def overhead(
    wanted: tuple[str, ...],
    paths: tuple[str, ...],
    against: str,
    turns: int,
    window: float,
    warmup: float,
    interval_ms: int | None,
    profiles: Path | None,
    json_path: Path | None,
    page_path: Path | None,
    loads: tuple[int, ...],
    **chosen: object,
) -> None:
    """Measure the gateway's CPU, latency and memory beside other proxies, and beside none.

    Every proxy on one core, against a backend of canned replies, in interleaved rounds. Loopback
    only. Exits with 1 if any reply was wrong.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    options = Options(
        peers=tuple(name for name in wanted if name != NONE) if wanted else None,
        rounds=turns,
        warmup_s=warmup,
        window_s=window,
        interval_s=None if interval_ms is None else interval_ms / 1e3,
        loads=tuple(load / 100 for load in loads if load),
        **{
            name: tuple(v for v in value if v) if isinstance(value, tuple) else value
            for name, value in chosen.items()
        },  # type: ignore[arg-type]
    )
    if profiles and options.workers > 1:
        raise click.UsageError("--profile looks into one process: it needs --workers 1")
    if profiles and runtime.compiled():
        raise click.UsageError(
            "--profile sees Python's frames only, and the data path is compiled: "
            "`make interpreted` first"
        )
    if complaints := runtime.complaints():
        raise click.ClickException("\n".join(complaints))
    given = _paths(paths)
    said: dict[str, object] = {"conditions": conditions(options)}
    try:
        with console.status("starting") as status:
            found = rounds.bench(options, given=given, profiles=profiles, note=status.update)
    except setups.NotReady as error:
        raise click.ClickException(str(error)) from error
    rows = measure.summarise(found.measures, against=against, idle_mib=found.idle_mib)
    if json_path:
        json_path.write_text(json.dumps(said | content(found, rows), indent=2) + "\n")
    if page_path:
        page_path.write_text(page.page(rows, found.idle_mib, found.versions))
    sys.exit(_show(console, found, rows, against))


def conditions(options: Options) -> dict[str, object]:
    """What must be said beside the figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(sys.argv[1:]),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "python_optimised": runtime.optimised(),
        "data_path": runtime.data_path(),
        "libraries": {name: metadata.version(name) for name in ENGINES},
        "cores": asdict(process.assign_cores(tuple(os.sched_getaffinity(0)), options.workers)),
        "load_average": os.getloadavg()[0],
        "options": asdict(options),
    }


def _paths(given: Sequence[str]) -> dict[str, Path]:
    """NAME=PATH by name. Raises BadParameter."""
    found = {}
    for pair in given:
        name, _, path = pair.partition("=")
        if name not in peers.NAMES or not Path(path).is_file():
            raise click.BadParameter(f"{pair}: not NAME=PATH of {', '.join(peers.NAMES)}")
        found[name] = Path(path)
    return found


def content(found: BenchResult, rows: Sequence[MeasureRow]) -> dict[str, object]:
    """Everything that was found, as plain JSON values."""
    return {
        "versions": found.versions,
        "idle_mib": found.idle_mib,
        "skipped": found.skipped,
        "cpu_of_each_in_times_ours": measure.ratios(rows, setups.GATEWAY),
        **measure.to_json(rows, found.measures),
        "profiles": {name: asdict(profile) for name, profile in found.profiles.items()},
    }


def _show(console: Console, found: BenchResult, rows: Sequence[MeasureRow], against: str) -> int:
    """Prints what was found; the exit code."""
    console.print(tables.figures(rows, against))
    console.print(tables.memory(rows, found.idle_mib))
    ratios = measure.ratios(rows, setups.GATEWAY)
    if any(ratios.values()):
        console.print(tables.summary(ratios, setups.GATEWAY))
    for name, profile in found.profiles.items():
        console.print(tables.profile(profile, name))
    for name, version in found.versions.items():
        console.print(f"{name}: {version}", highlight=False)
    for name, reason in found.skipped.items():
        console.print(f"{name}: left out, {reason}", highlight=False, markup=False)
    if any(row.limited for row in rows):
        console.print("< not clearly below direct: the bench, not the proxy, set this rate")
    wrong = sum(sum(row.errors.values()) for row in rows)
    if wrong:
        console.print(f"[red]{wrong} errors: the figures of those rows do not count[/red]")
    return 1 if wrong else 0

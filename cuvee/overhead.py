"""The subcommand `overhead`: options in, tables, JSON and an exit code out. Measures nothing."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cuvee.options import JSON_FILE, OUTPUT_FILE
from cuvee.progress import Work
from gateway import runtime
from loadtest import process
from loadtest.overhead import front_door, markdown, peers, results, rounds, setups, tables
from loadtest.overhead.hold import measure_holds
from loadtest.overhead.results import REFERENCE, ResultRow
from loadtest.overhead.rounds import OverheadResult
from loadtest.overhead.scenarios import OverheadOptions

TABLE_COLUMNS = 110  # of tables that go into a file
NONE = "none"  # without --peer all that are installed are measured, so none needs a name
LIBRARIES = ("httptools", "msgspec", "uvloop")  # whose versions move the gateway's figures


@click.command()
@click.option(
    "--peer",
    "peer_names",
    type=click.Choice((*peers.NAMES, NONE)),
    multiple=True,
    help="What to compare with, once for each; `none` for nobody.  [default: all that are found]",
)
@click.option(
    "--peer-path",
    "peer_paths",
    multiple=True,
    metavar="NAME=PATH",
    envvar=peers.PATHS_VARIABLE,
    help=f"Where a peer's program is, if not on PATH. Also {peers.PATHS_VARIABLE}, with spaces.",
)
@click.option(
    "--front-door",
    "parts",
    type=click.Choice(front_door.PARTS),
    multiple=True,
    help="Also measure a gateway that has this on, once for each: keys (1,000, with limits of each "
    "kind), a log line for each request, traces of every tenth request, or all of it; or tls.",
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
    "load_percents",
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
    "--rounds", type=click.IntRange(1, 20), default=3, show_default=True,
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
    "--hold",
    is_flag=True,
    help="Only measure how long large requests hold up small ones, by kind; one window for each.",
)
@click.option("--capacity", is_flag=True, help="Also print what one core of the gateway carries.")
@JSON_FILE
@click.option(
    "--markdown",
    "markdown_path",
    type=OUTPUT_FILE,
    help="Also write the tables of docs/performance.md to this file.",
)
def overhead(
    peer_paths: tuple[str, ...],
    against: str,
    profiles: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
    hold: bool,
    capacity: bool,
    **traffic: Any,
) -> None:
    """Measure CPU, latency and memory beside other proxies, and beside none.

    Every proxy on one core, against a backend of canned replies, in interleaved rounds. Loopback
    only. Exits with 1 if any reply was wrong.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_COLUMNS)
    options = _options(**traffic)
    _check_data_path(options, profiles)
    if hold:
        sys.exit(_hold(console, options, json_path))
    paths = _paths(peer_paths)
    stated = conditions(options)  # before the run: it reads the machine's load
    try:
        with Work("starting") as work:
            result = rounds.run_benchmark(
                options, paths=paths, profiles=profiles, progress=work.step
            )
    except setups.NotReady as error:
        raise click.ClickException(str(error)) from error
    rows = results.summarise(result.measurements, against=against, idle_mib=result.idle_mib)
    if json_path:
        content = {"conditions": stated, **as_values(result, rows)}
        json_path.write_text(json.dumps(content, indent=2) + "\n")
    if markdown_path:
        markdown_path.write_text(markdown.to_markdown(rows, result.idle_mib, result.versions))
    code = _show(console, result, rows, against)
    if capacity:
        console.print(tables.capacity_table(rows, setups.GATEWAY))
    sys.exit(code)


def _options(
    *,
    peer_names: tuple[str, ...],
    parts: tuple[str, ...],
    body_kib: tuple[int, ...],
    connections: tuple[int, ...],
    rates: tuple[float, ...],
    load_percents: tuple[int, ...],
    streams: tuple[int, ...],
    chunks: int,
    interval_ms: int | None,
    workers: int,
    rounds: int,
    window: float,
    warmup: float,
) -> OverheadOptions:
    """The command line's options in the benchmark's units; a 0 in a list stands for "none"."""
    return OverheadOptions(
        peers=tuple(name for name in peer_names if name != NONE) if peer_names else None,
        parts=tuple(dict.fromkeys(parts)),
        rounds=rounds,
        warmup_s=warmup,
        window_s=window,
        workers=workers,
        body_kib=body_kib,
        connections=tuple(filter(None, connections)),
        rates=tuple(filter(None, rates)),
        loads=tuple(percent / 100 for percent in load_percents if percent),
        streams=tuple(filter(None, streams)),
        chunks=chunks,
        interval_s=None if interval_ms is None else interval_ms / 1e3,
    )


def _check_data_path(options: OverheadOptions, profiles: Path | None) -> None:
    """Refuse a profile that would show nothing, and figures of code that is out of date."""
    if profiles and options.workers > 1:
        raise click.UsageError("--profile looks into one process: it needs --workers 1")
    if profiles and runtime.compiled():
        raise click.UsageError(
            "--profile sees Python's frames only, and the data path is compiled: "
            "`make interpreted` first"
        )
    if warnings := runtime.stale_warnings():
        raise click.ClickException("\n".join(warnings))


def _paths(pairs: Sequence[str]) -> dict[str, Path]:
    """NAME=PATH by name. Raises BadParameter."""
    paths = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if name not in peers.NAMES or not Path(path).is_file():
            raise click.BadParameter(f"{pair}: not NAME=PATH of {', '.join(peers.NAMES)}")
        paths[name] = Path(path)
    return paths


def conditions(options: OverheadOptions) -> dict[str, object]:
    """What must be stated beside the figures: machine, versions, cores, command and options."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "command": " ".join(sys.argv[1:]),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "python_optimised": runtime.optimised(),
        "data_path": runtime.data_path(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "cores": asdict(process.assign_cores(tuple(os.sched_getaffinity(0)), options.workers)),
        "load_average": os.getloadavg()[0],
        "options": asdict(options),
    }


def as_values(result: OverheadResult, rows: Sequence[ResultRow]) -> dict[str, object]:
    """The result as plain JSON values."""
    return {
        "versions": result.versions,
        "idle_mib": result.idle_mib,
        "skipped": result.skipped,
        "cpu_of_each_in_times_ours": results.cpu_ratios(rows, setups.GATEWAY),
        **results.to_json(rows, result.measurements),
        "profiles": {name: asdict(profile) for name, profile in result.profiles.items()},
    }


def _hold(console: Console, options: OverheadOptions, json_path: Path | None) -> int:
    """Measure and print how long large requests hold up small ones; return the exit code."""
    stated = conditions(options)
    try:
        with Work("starting") as work:
            rows = measure_holds(options.window_s, work.step)
    except setups.NotReady as error:
        raise click.ClickException(str(error)) from error
    if json_path:
        content = {"conditions": stated, "holds": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(content, indent=2) + "\n")
    console.print(tables.hold_table(rows))
    errors = sum(row.errors for row in rows)
    if errors:
        console.print(f"[red]{errors} errors: the figures of those rows do not count[/red]")
    return 1 if errors else 0


def _show(console: Console, result: OverheadResult, rows: Sequence[ResultRow], against: str) -> int:
    """Print the result; return the exit code."""
    console.print(tables.results_table(rows, against))
    console.print(tables.memory_table(rows, result.idle_mib))
    ratios = results.cpu_ratios(rows, setups.GATEWAY)
    if any(ratios.values()):
        console.print(tables.ratios_table(ratios, setups.GATEWAY))
    for name, profile in result.profiles.items():
        console.print(tables.profile_table(profile, name))
    for name, version in result.versions.items():
        console.print(f"{name}: {version}", highlight=False)
    for name, reason in result.skipped.items():
        # markup=False: a reason holds the program's own output, with brackets in it perhaps.
        console.print(f"{name}: left out, {reason}", highlight=False, markup=False)
    for note in results.background_notes(rows):
        console.print(note, highlight=False)
    if any(row.limited for row in rows):
        console.print("< not clearly below direct: the bench, not the proxy, set this rate")
    errors = sum(sum(row.errors.values()) for row in rows)
    if errors:
        console.print(f"[red]{errors} errors: the figures of those rows do not count[/red]")
    return 1 if errors else 0

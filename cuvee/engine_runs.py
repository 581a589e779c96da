"""What `profile report` prints of measured runs that were played on the engine model."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from planner import shipped
from planner.engine import accuracy
from planner.engine.accuracy import RunError, Summary
from planner.engine.runs import read_runs
from planner.errors import PlannerError

SHIPPED = shipped.folder() / "profiles" / "runs" / "aiconfigurator.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The errors of a file's runs, and why others could not be played: reason, number of rows."""

    name: str
    errors: Sequence[RunError]
    left: Sequence[tuple[str, int]]


def judged(path: Path, gpu: str | None, cached_share: float | None) -> Judged:
    """Play a file of runs. gpu: only those of this type. Raises ClickException for a file that
    cannot be used or that has no run of the GPU."""
    try:
        found, unplayable = read_runs(path)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    wanted = [run for run in found if gpu is None or run.gpu.casefold() == gpu.casefold()]
    if found and not wanted and path != SHIPPED:
        known = ", ".join(sorted({run.gpu for run in found}))
        raise click.ClickException(f"{path}: no runs of {gpu}; there are {known}")
    errors, impossible = accuracy.judge(wanted, cached_share)
    counts = Counter([row.reason for row in unplayable])
    counts.update(reason for _, reason in impossible)
    left = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Judged(name=path.name, errors=errors, left=left)


def runs_json(judged: Judged) -> dict[str, Any]:
    """The same for programs; times in seconds."""
    return {
        "file": judged.name,
        "rows": [
            {
                "label": e.run.label,
                "gpu": e.run.gpu,
                "gpus": e.run.gpus,
                "model": e.run.model,
                "engine": e.run.engine,
                "metric": e.metric,
                "predicted_s": e.predicted_s,
                "measured_s": e.measured_s,
                "error": e.error,
                "saturated": e.saturated,
            }
            for e in judged.errors
        ],
        "by_model": [asdict(row) for row in accuracy.by_model(judged.errors)],
        "by_gpu": [asdict(row) for row in accuracy.by_gpu(judged.errors)],
        "left_out": [{"reason": reason, "rows": count} for reason, count in judged.left],
    }


def show_runs(judged: Judged, *, rows: bool, as_json: bool) -> None:
    """Print the errors: of every row if asked for, then by model and by GPU, and what was left
    out."""
    if as_json:
        click.echo(json.dumps(runs_json(judged), indent=1))
        return
    console = Console()
    if not judged.errors and not judged.left:
        return
    if rows:
        console.print(_rows_table(judged.errors))
    console.print(
        _summary_table(
            f"runs of {judged.name}, played on the model", accuracy.by_model(judged.errors)
        )
    )
    console.print(_summary_table("over all runs of a GPU", accuracy.by_gpu(judged.errors)))
    console.print()
    for reason, count in judged.left:
        console.print(f"{count} rows not played: {reason}")


def error_table(title: str, *columns: str) -> Table:
    """An empty table of errors. Without padding at the edges eight columns fit into 80."""
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        text = column in ("GPU", "source", "engine", "model", "value", "run")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "run")
    return table


def _summary_table(title: str, rows: Sequence[Summary]) -> Table:
    whole = all(row.model is None for row in rows)
    names = ("GPU",) if whole else ("GPU", "engine", "model")
    table = error_table(title, *names, "value", "n", "median", "P90", "bias")
    for row in rows:
        head = (row.gpu,) if whole else (row.gpu, row.engine or "", row.model or "")
        errors = f"{row.median:.1%}", f"{row.p90:.0%}", f"{row.bias:.2f}"
        table.add_row(*head, row.metric, str(row.n), *errors)
    return table


def _rows_table(errors: Sequence[RunError]) -> Table:
    table = error_table("every run", "run", "GPU", "value", "predicted", "measured", "error")
    for e in errors:
        label = f"{e.run.gpus}x{e.run.gpu}" if e.run.gpus > 1 else e.run.gpu
        table.add_row(
            e.run.label + (" (saturated)" if e.saturated else ""),
            label,
            e.metric,
            f"{1e3 * e.predicted_s:.1f} ms",
            f"{1e3 * e.measured_s:.1f} ms",
            f"{e.error:+.1%}",
        )
    return table

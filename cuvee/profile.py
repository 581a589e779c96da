"""The subcommands `profile import` and `profile report`: what is known of GPUs, and how well.

Owns options and what is printed; formats and formulas are the planner's.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cuvee.engine_runs import SHIPPED, error_table, judged, runs_json, show_runs
from cuvee.options import FILE, JSON
from cuvee.profile_measure import measure
from planner import shipped
from planner.engine import catalogue, importers, profiles, runs, validation
from planner.engine.hardware import Gpu
from planner.engine.profiles import FORMAT, Profile, ProfileFile
from planner.engine.validation import ModelError
from planner.errors import PlannerError

MEASURED = shipped.folder() / "profiles" / "measured"
TOOLS = ("vllm-bench", "guidellm", "aiperf", "aibrix", "melange")


@click.group()
def profile() -> None:
    """Make profiles of what a backend can do, and judge them."""


@profile.command()
@click.option(
    "--measured",
    "folder",
    default=MEASURED,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with measurements as CSV; default: the public ones shipped with Cuvée.",
)
@click.option("--gpu", help="Only this GPU type.")
@click.option(
    "--against",
    type=FILE,
    help="Measured runs of whole engines, CSV in one of the two formats of docs/profiles.md: play "
    "every row instead.",
)
@click.option(
    "--cached",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of each prompt that earlier requests left in the KV cache, for runs whose format "
    f"does not state it. [default: {runs.CACHED_SHARE}]",
)
@click.option("--rows", is_flag=True, help="Also print every row, with --against.")
@JSON
def report(
    folder: Path,
    gpu: str | None,
    against: Path | None,
    cached: float | None,
    rows: bool,
    as_json: bool,
) -> None:
    """Compare the analytic model with public measurements.

    For every GPU and source: how many measured values, the median and the 90th percentile of the
    relative error, and the bias (predicted/measured, median). Then the same of whole runs, played
    on the model: those shipped with Cuvée, or a file of your own. docs/profiles.md explains the
    rows.
    """
    if against is not None:
        show_runs(judged(against, gpu, cached), rows=rows, as_json=as_json)
        return
    try:
        timings = [
            t for file in sorted(folder.glob("*.csv")) for t in validation.read_timings(file)
        ]
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    wanted = None if gpu is None else gpu.casefold()
    selected = [t for t in timings if wanted in (None, t.gpu.casefold())]
    played = judged(SHIPPED, gpu, cached)
    if not selected and not played.errors:
        known = ", ".join(sorted({t.gpu for t in timings})) or "nothing at all"
        raise click.ClickException(f"no measurements of {gpu or 'anything'}; there are {known}")
    sources, totals = validation.errors(selected), validation.by_gpu(selected)
    if as_json:
        values = {
            "sources": [asdict(row) for row in sources],
            "gpus": [asdict(row) for row in totals],
            "runs": runs_json(played),
        }
        click.echo(json.dumps(values, indent=1))
        return
    console = Console()
    if selected:
        console.print(errors_table("the analytic model against measurements", sources))
        console.print(errors_table("over all values of a GPU", totals))
    show_runs(played, rows=False, as_json=False)
    unseen = [gpu for gpu in catalogue.gpus().values() if gpu.name not in {t.gpu for t in timings}]
    similar = ", ".join(gpu.name for gpu in unseen if gpu.fitted)
    datasheet = ", ".join(gpu.name for gpu in unseen if not gpu.fitted)
    if similar:
        console.print(f"no measurements of {similar}: constants from a GPU of its kind")
    if datasheet:
        console.print(f"no measurements of {datasheet}: datasheet peaks and default fractions")


def errors_table(title: str, rows: Sequence[ModelError]) -> Table:
    """Errors of the analytic model for people, in 80 columns."""
    columns = ("GPU", "source", "engine", "value", "n", "median", "P90", "bias")
    table = error_table(title, *columns)
    for row in rows:
        table.add_row(
            row.gpu if row.gpus in (None, 1) else f"{row.gpus}x{row.gpu}",
            row.source,
            row.engine,
            row.metric,
            str(row.n),
            f"{row.median:.1%}",
            f"{row.p90:.0%}",
            f"{row.bias:.2f}",
        )
    return table


def _edges(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """The edges of an option as numbers; none if it was left out. Raises BadParameter."""
    try:
        return tuple(int(edge) for edge in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"counts with commas between them, not `{value}`") from None


@profile.command(name="import")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--from", "tool", required=True, type=click.Choice(TOOLS), help="Who wrote FILES.")
@click.option("--gpu", required=True,
              help="GPU type: a name (L4, …) or a file of GPUs; with enough points any name.",
)  # fmt: skip
@click.option("--model", required=True,
              help="Model: a name (Llama-3-8B, …), a config.json or a file of models; with enough "
              "points any name.")  # fmt: skip
@click.option("--out", required=True, type=FILE, help="Profile to write.")
@click.option(
    "--tensor-parallel-size", type=int, default=1, show_default=True, help="GPUs per engine."
)
@click.option("--engine", default="vllm-v1", show_default=True, help="Engine, for the prior.")
@click.option(
    "--dtype", default="fp16", show_default=True, type=click.Choice(["fp16", "bf16", "fp8"]),
    help="Weights and KV cache.",
)  # fmt: skip
@click.option("--max-num-seqs", type=int, help="The engine's limit; default: its usual one.")
@click.option("--max-num-batched-tokens", type=int, default=2048, show_default=True,
              help="The engine's limit.")  # fmt: skip
@click.option("--max-model-len", type=int,
              help="The engine's limit; default: 8192, or what the rates reach.")  # fmt: skip
@click.option("--kv-tokens", type=int, help="KV tokens that the engine reported at its start.")
@click.option("--entry", help="melange: the GPU's name in gpu_info; default: --gpu.")
@click.option(
    "--input-edges", callback=_edges,
    help="melange: ends of its input buckets, as 25,100,250; default: the paper's.",
)  # fmt: skip
@click.option(
    "--output-edges", callback=_edges,
    help="melange: ends of its output buckets; default: the paper's.",
)  # fmt: skip
@click.option("--slo", help="melange, aibrix: the SLO that its rates were measured under.")
def import_(
    files: tuple[Path, ...],
    tool: str,
    out: Path,
    entry: str | None,
    input_edges: tuple[int, ...],
    output_edges: tuple[int, ...],
    slo: str | None,
    **limits: object,
) -> None:
    """Make a profile from other tools' results.

    vllm-bench, guidellm, aiperf: measured at several loads; give every result of one engine and
    GPU type. melange, aibrix: one file with the best rate by size under an SLO that cannot be
    changed afterwards; the profile says so.
    """
    source = f"{tool}: {', '.join(file.name for file in files)}"
    stated = {name: value for name, value in limits.items() if value is not None}
    try:
        stated["gpu"], stated["model"] = catalogue.named(str(stated["gpu"]), str(stated["model"]))
        if tool in ("melange", "aibrix"):
            if len(files) != 1:
                raise click.UsageError(f"{tool}: one file makes one profile")
            edges = {"input_to": input_edges, "output_to": output_edges}
            name = entry or _gpu_name(stated["gpu"])
            fields = _fixed_rates(files[0], tool, name, {k: v for k, v in edges.items() if v}, slo)
        else:
            read = {"vllm-bench": importers.vllm_bench, "guidellm": importers.guidellm}
            fields = {"points": read.get(tool, importers.aiperf)(files)}
        origin = {"format": FORMAT, "origin": "imported", "source": source}
        # What the user states wins over what a file implies, such as the longest context.
        spec = ProfileFile(**origin, **fields | stated)  # type: ignore[arg-type]
        profile = profiles.build(spec)
        profiles.write(spec, out)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    _show_import(profile, out)


def _gpu_name(gpu: object) -> str:
    return gpu.name if isinstance(gpu, Gpu) else str(gpu)


def _fixed_rates(
    file: Path, tool: str, entry: str, edges: dict[str, tuple[int, ...]], slo: str | None
) -> dict[str, object]:
    """A profile's fields from a file of rates by size, which hold for one SLO alone."""
    if tool == "melange":
        rates, stated = importers.melange_rates(file, entry, **edges), "not stated"
    else:
        rates, stated = importers.aibrix(file)
    longest = rates.input_to[-1] + rates.output_to[-1]
    return {"rates": rates, "baked_slo": slo or stated, "max_model_len": longest}


def _show_import(profile: Profile, out: Path) -> None:
    """Print what the profile is worth, in a few lines; warnings on stderr."""
    click.echo(f"{out}: {profile.model} on {profile.gpu_label}")
    if profile.calibration is not None:
        fitted = profile.calibration
        click.echo(
            f"fitted to {fitted.n} values, up to {fitted.largest:.0f} in flight, "
            f"median error {fitted.error:.1%}: "
            f"{float(fitted.decode_s(0.0, 0.0)) * 1e3:.2f} ms per iteration, "
            f"{fitted.sequence_s * 1e6:.0f} µs per sequence, "
            f"{fitted.context_s * 1e9:.1f} ns per context token, "
            f"{fitted.prompt_s * 1e6:.1f} µs per prompt token"
        )
        if fitted.n < 6:  # as many as the fit has constants
            click.echo("few values: most constants are the analytic model's, scaled", err=True)
    if profile.baked_slo is not None:
        click.echo(
            f"fixed rates under the SLO `{profile.baked_slo}`: plans for another SLO are wrong",
            err=True,
        )


profile.add_command(measure)

"""The subcommand `profile measure`: options in, a measured profile out. Computes nothing itself.

Owns what is asked of the user and what is printed while it lasts and at its end.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom
from statistics import median

import click
import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from cuvee.options import OUTPUT_FILE, POSITIVE
from cuvee.progress import Work
from loadtest.measure import journal, run, virtual
from loadtest.measure.choice import Bounds
from loadtest.measure.client import HttpBackend, ListedModel
from loadtest.measure.load import Size
from loadtest.measure.run import MeasureResult, Step
from loadtest.measure.subject import Subject, errors
from planner.engine import catalogue, profiles
from planner.engine.hardware import ENGINES
from planner.engine.profiles import Profile, find_profile
from planner.errors import PlannerError
from planner.slo import Slo

BUSY = 0.7  # of one CPU: this process is late to see tokens
# Sizes that `--emulated` judges: none of them is among those that are measured.
JUDGED: tuple[Size, ...] = (
    (200, 100), (300, 300), (800, 80), (1000, 200), (150, 400), (2500, 300), (600, 250),
    (1500, 100),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """The command's options, but those of the backend's place."""

    gpu: str | None
    model: str | None
    served_model_name: str | None
    engine: str
    dtype: str
    tensor_parallel_size: int
    max_num_seqs: int | None
    max_num_batched_tokens: int
    max_model_len: int | None
    kv_tokens: int | None
    slo: Slo
    budget_s: float
    out: Path


@click.command()
@click.option(
    "--url", help="The backend, such as http://127.0.0.1:8000. It must serve nobody else."
)
@click.option(
    "--emulated",
    metavar="PROFILE",
    help="Instead of --url: a simulated engine in virtual time, and how far the result is from it.",
)
@click.option("--out", required=True, type=OUTPUT_FILE, help="Profile to write.")
@click.option("--gpu", help="GPU type: a name (L4, …) or a file of GPUs; any name will do.")
@click.option(
    "--model",
    help="Model: a name (Llama-3-8B, …), a config.json or a file of models; any name will do.  "
    "[default: the name that the backend serves it by]",
)
@click.option("--served-model-name", help="Name in the API.  [default: the first of /v1/models]")
@click.option(
    "--api-key", "key", envvar="CUVEE_API_KEY", show_envvar=True, help="The key it asks for."
)
@click.option(
    "--ttft", "ttft_s", type=POSITIVE, default=2.0, show_default=True, help="TTFT target, seconds."
)
@click.option(
    "--tpot", "tpot_s", type=POSITIVE, default=0.1, show_default=True,
    help="TPOT target, seconds: loads grow until it breaks, and the fit is best there.",
)  # fmt: skip
@click.option(
    "--budget", "budget_min", type=POSITIVE, default=60.0, show_default=True,
    help="Minutes of measuring at most; the same command goes on later.",
)  # fmt: skip
@click.option("--fresh", is_flag=True, help="Begin anew, and do not go on where the last one was.")
@click.option(
    "--tensor-parallel-size", type=click.IntRange(1), default=1, show_default=True,
    help="GPUs per engine.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(tuple(ENGINES)), default="vllm-v1", show_default=True,
    help="Engine, for its default limits.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["fp16", "bf16", "fp8"]), default="fp16", show_default=True,
    help="Weights and KV cache.",
)  # fmt: skip
@click.option("--max-num-seqs", type=click.IntRange(1), help="The engine's limit.")
@click.option(
    "--max-num-batched-tokens", type=click.IntRange(1), default=2048, show_default=True,
    help="The engine's limit.",
)  # fmt: skip
@click.option(
    "--max-model-len", type=click.IntRange(2), help="The engine's limit.  [default: as it says]"
)
@click.option(
    "--kv-tokens", type=click.IntRange(1), help="KV tokens that fit.  [default: as its metrics say]"
)
def measure(
    url: str | None,
    emulated: str | None,
    key: str | None,
    fresh: bool,
    ttft_s: float,
    tpot_s: float,
    budget_min: float,
    **stated: object,
) -> None:
    """Measure a running backend, and make a profile of it.

    Few loads, each chosen from those before: one user, then more until a promise breaks, at sizes
    far apart and then where the fit is worst. It ends when another size changes nothing. After each
    load all is saved beside --out: the same command goes on there. Exits with 1 for a backend that
    is busy or fails.
    """
    if (url is None) == (emulated is None):
        raise click.UsageError("give --url or --emulated")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise click.BadParameter("must be printable ASCII", param_hint="--api-key")
    try:
        slo = Slo(ttft_s=ttft_s, tpot_s=tpot_s)
        options = MeasureOptions(slo=slo, budget_s=60 * budget_min, **stated)  # type: ignore[arg-type]
        if fresh:
            journal.remove(journal.beside(options.out))
        if url is not None:
            if options.gpu is None:
                raise click.UsageError("--gpu says on which GPU the backend runs")
            uvloop.run(_over_http(url, key, options))
        else:
            uvloop.run(_in_virtual_time(str(emulated), options))
    except PlannerError as error:
        raise click.ClickException(str(error)) from error


async def _over_http(url: str, key: str | None, options: MeasureOptions) -> None:
    async with HttpBackend(url, key=key, random=SystemRandom()) as backend:
        listed = _listed(await backend.models(), options.served_model_name)
        gauges = await backend.gauges()
        if gauges is None:
            click.echo(
                "no metrics of an engine at /metrics: others on it are noticed by timing alone",
                err=True,
            )
        kv_tokens = options.kv_tokens or (gauges.kv_tokens if gauges else None)
        subject = _subject(options, listed, kv_tokens, await backend.version())
        await backend.prepare(listed.name, options.max_model_len or listed.max_model_len)
        await _measured(backend, subject, options, f"cuvee profile measure --url {url}")


def _listed(models: tuple[ListedModel, ...], name: str | None) -> ListedModel:
    """The model to measure: the one of that name, or the first."""
    for one in models:
        if name in (None, one.name):
            return one
    if name is not None:
        return ListedModel(name, None)
    raise click.ClickException("/v1/models lists no model: give --served-model-name")


def _subject(
    options: MeasureOptions, listed: ListedModel, kv_tokens: int | None, version: str | None
) -> Subject:
    """What is measured, as far as options and backend say. Raises UsageError where that is too
    little for any profile."""
    model = options.model or listed.name.rpartition("/")[2]
    gpu = str(options.gpu)
    known = catalogue.find_gpu(gpu, Path()) and catalogue.find_model(model, Path())
    if not known and kv_tokens is None:
        raise click.UsageError(
            f"{gpu} or {model} has no row, and the backend does not say how many tokens of KV fit: "
            "give --kv-tokens, which the engine printed at its start, or names with a row"
        )
    gpu_row, model_row = catalogue.named(gpu, model)
    return Subject(
        gpu=gpu_row,
        model=model_row,
        engine=options.engine,
        dtype=options.dtype,
        tensor_parallel_size=options.tensor_parallel_size,
        served_as=listed.name,
        max_num_batched_tokens=options.max_num_batched_tokens,
        max_num_seqs=options.max_num_seqs,
        max_model_len=options.max_model_len or listed.max_model_len,
        kv_tokens=kv_tokens,
        engine_version=version,
    )


async def _in_virtual_time(name: str, options: MeasureOptions) -> None:
    """Measure a simulated engine, and compare the result with the engine itself."""
    truth = find_profile(name, Path())
    roofline = truth.roofline
    if roofline is None:
        raise click.ClickException(f"{name}: an emulated engine needs the numbers of its GPU")
    shipped = catalogue.gpus().get(roofline.gpu.name), catalogue.models().get(roofline.model.name)
    subject = Subject(
        gpu=roofline.gpu.name if roofline.gpu == shipped[0] else roofline.gpu,
        model=roofline.model.name if roofline.model == shipped[1] else roofline.model,
        engine=roofline.engine.name,
        dtype="fp8" if roofline.weight_bytes == 1 else "fp16",
        tensor_parallel_size=truth.gpus, served_as=truth.model,
        max_num_batched_tokens=truth.max_num_batched_tokens, max_num_seqs=truth.max_num_seqs,
        max_model_len=truth.max_model_len, kv_tokens=truth.kv_capacity,
    )  # fmt: skip
    backend = virtual.VirtualBackend(truth)
    profile = await _measured(backend, subject, options, f"cuvee profile measure --emulated {name}")
    _show_truth(profile, truth, options.slo)


async def _measured(
    backend: run.Measurable, subject: Subject, options: MeasureOptions, source: str
) -> Profile:
    """Measure, write the profile, and print what it is worth."""
    path = journal.beside(options.out)
    before = len(journal.load(path, subject))
    if before:
        click.echo(f"goes on after {before} loads in {path}; --fresh begins anew")
    bounds = Bounds(
        slo=options.slo,
        longest=subject.longest,
        seats=subject.max_num_seqs or ENGINES[subject.engine].sequences,
        kv_tokens=subject.kv_tokens,
    )
    with Work("the first load") as work:
        result = await run.measure(
            backend, subject, bounds, path=path, budget_s=options.budget_s,
            on_step=partial(_show_step, work),
        )  # fmt: skip
    profile = subject.profile(result.measured)
    if profile is None:
        goes_on = "" if result.settled else ". The same command goes on"
        raise click.ClickException(
            f"{result.why}, which is too little for a profile: it takes "
            f"{subject.lack(result.measured)}{goes_on}"
        )
    profiles.write(subject.spec(result.measured, source), options.out)
    _show_result(result, profile, bounds, options.out)
    if result.settled:
        journal.remove(path)
    else:
        click.echo(f"it would have gone on: the same command does, from {path}")
    return profile


def _show_step(work: Work, step: Step) -> None:
    """A line for each load: what it was, what it came to, and how long the rest takes."""
    one, left = step.measurement, "the last one"
    if step.left_s is not None:
        left = f"about {max(1, round(step.left_s / 60))} min left, "
        left += f"{max(0, round(step.budget_s / 60))} at most"
    work.say(f"load {step.number + 1}")
    work.ends_in(step.left_s)
    work.echo(
        f"{step.number:3d}. {one.input_tokens:5.0f} in {one.output_tokens:4.0f} out "
        f"{one.load.users:4d} users: TTFT {one.ttft_s:6.3f} s, TPOT {one.tpot_s * 1e3:6.1f} ms, "
        f"{one.rate:7.2f} req/s   {left}"
    )
    if step.doubt is not None:
        click.echo(f"measured again, because {step.doubt}", err=True)
    if one.own_cpu > BUSY:
        click.echo(
            f"this process took {one.own_cpu:.0%} of a CPU for that load: its times may be too "
            "long. Measure from a faster machine, or with a smaller --max-num-seqs",
            err=True,
        )


def _show_result(result: MeasureResult, profile: Profile, bounds: Bounds, out: Path) -> None:
    """Why it ended, how far the fit is from its points, and what the backend sustains."""
    assert profile.calibration is not None
    off = errors(profile, result.measured)
    worst = max(off, key=lambda size: off[size])
    click.echo(f"{out}: {profile.model} on {profile.gpu_label}: ended because {result.why}")
    click.echo(
        f"fitted to {profile.calibration.n} values of {len(result.measured)} loads: median error "
        f"{profile.calibration.error:.1%}, worst TPOT {off[worst]:.1%} "
        f"(at {worst[0]} in, {worst[1]} out), by size {median(off.values()):.1%}"
    )
    if profile.calibration.error > 0.05 or off[worst] > 0.25:
        click.echo("the fit is poor: plan with a margin, or measure again", err=True)
    inputs, outputs = np.array(bounds.sizes(), dtype=float).T
    capacity = profile.capacity(inputs, outputs, bounds.slo)
    table = Table("in", "out", "n*", "X, req/s", title=f"TPOT {bounds.slo.tpot_s * 1e3:g} ms")
    for row in zip(inputs, outputs, capacity.n_star, capacity.rate, strict=True):
        table.add_row(f"{row[0]:.0f}", f"{row[1]:.0f}", f"{row[2]:.1f}", f"{row[3]:.2f}")
    Console().print(table)


def _show_truth(profile: Profile, truth: Profile, slo: Slo) -> None:
    """n* and X of sizes that were not measured, beside what the engine itself does."""
    table = Table("in", "out", "n*", "measured", "X, req/s", "measured", title="the engine itself")
    for size in JUDGED:
        played = virtual.played_n_star(truth, size, slo.tpot_s)
        if played is None:
            continue
        inputs, outputs = np.array([size], dtype=float).T
        found = profile.capacity(inputs, outputs, slo)
        n_star, rate = float(found.n_star[0]), float(found.rate[0])
        table.add_row(
            str(size[0]), str(size[1]),
            f"{played[0]:.1f}", f"{n_star / played[0] - 1:+.1%}",
            f"{played[1]:.2f}", f"{rate / played[1] - 1:+.1%}",
        )  # fmt: skip
    if table.row_count:
        Console().print(table)
    else:
        click.echo("memory or seats bound all judged sizes, not the TPOT target")

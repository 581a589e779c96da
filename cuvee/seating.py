"""What `init` and `serve --quick` do alike: ask engines what they are, and people for the rest.

Owns the questions and what is printed of each engine. What follows from the answers is
`gateway/preflight/draft.py`'s.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import uvloop

from gateway.config.addresses import url_fault
from gateway.discovery.kubernetes.facts import Facts
from gateway.discovery.kubernetes.gpus import part_of_gpu, same_gpu
from gateway.preflight.draft import SeatedEngine, likely_gpus, weights_of
from gateway.preflight.introduction import Introduced, introduce
from planner import shipped
from planner.document import shown
from planner.engine import catalogue
from planner.engine.profiles import LABEL
from planner.errors import PlannerError

ANY_GPU = "A100-80G"  # for `--quick`, where nothing tells: in the middle of what there is


class EnginePlace(NamedTuple):
    """An engine that is to be asked. gpu: by its label, `None` if it is not known. kubernetes: the
    section that finds it."""

    url: str
    gpu: str | None = None
    kubernetes: Mapping[str, Any] = {}


class Asking(NamedTuple):
    """How engines and people are asked. guess: take what is likely where nobody says it."""

    gpu: str | None = None
    weights: str | None = None
    key: str | None = None
    timeout_s: float = 5.0
    guess: bool = False

    @property
    def person(self) -> bool:
        """Whether somebody is there to be asked."""
        return not self.guess and sys.stdin.isatty() and sys.stderr.isatty()


def places(arguments: Sequence[str]) -> list[EnginePlace]:
    """The engines of a command's arguments, `URL` or `URL=GPU`. Raises BadParameter."""
    found: dict[str, EnginePlace] = {}
    for argument in arguments:
        url, _, gpu = argument.partition("=")
        url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        if fault := url_fault(url):
            raise click.BadParameter(f"{fault}: {argument}", param_hint="URL")
        if url in found:
            raise click.BadParameter(f"stands twice: {url}", param_hint="URL")
        found[url] = EnginePlace(url, gpu_label(gpu) if gpu else None)
    return list(found.values())


def gpu_label(text: str) -> str:
    """A GPU type as the catalogue spells it, with its number: `2xH100`. Raises BadParameter."""
    match = LABEL.fullmatch(text.strip())
    name = None if match is None else shipped.lookup(match[2], {g: g for g in catalogue.gpus()})
    if match is None or name is None:
        raise click.BadParameter(shipped.unknown(text, catalogue.gpus()), param_hint="GPU")
    return name if match[1] in (None, "1") else f"{match[1]}x{name}"


def gpu_of_facts(found: Facts) -> str | None:
    """The GPU of a pod by what its labels say; `None` if they do not, or if it is a part of one."""
    product = found.product
    if product is None or found.part is not None or part_of_gpu(product) is not None:
        return None
    fitting = [gpu for gpu in catalogue.gpus() if same_gpu(product, gpu, {})]
    if not fitting:
        return None
    count = found.gpus or found.tensor_parallel_size or 1
    best = max(fitting, key=len)
    return best if count == 1 else f"{count}x{best}"


def seated(wanted: Sequence[EnginePlace], asking: Asking) -> list[SeatedEngine]:
    """The engines with all that a configuration needs to know of them.

    Prints a line for each on standard error. Exits with 1 if one cannot be asked; raises UsageError
    where a GPU or a model is neither known nor asked for.
    """
    urls = [place.url for place in wanted]
    told = uvloop.run(introduce(urls, key=asking.key, timeout_s=asking.timeout_s))
    for one in told:
        click.echo(f"{'no' if one.fault else 'ok'}  {one.url}  {described(one)}", err=True)
    if any(one.fault for one in told):
        sys.exit(1)
    engines: list[SeatedEngine] = []
    answers: dict[object, str] = {}
    for place, one in zip(wanted, told, strict=True):
        weights = asking.weights or weights_of(one) or _weights(one, asking, answers)
        gpu = place.gpu or asking.gpu or _gpu(one, weights, asking, answers)
        engines.append(SeatedEngine(one, gpu, weights, place.kubernetes))
    return engines


def described(one: Introduced) -> str:
    """What an engine said, in one line, which no name in it can end or colour."""
    if one.fault is not None:
        return one.fault
    engine = f"{one.engine or 'an engine'} {shown(one.version or '')}".strip()
    words = [f"{engine} serves `{shown(one.model)}`"]
    if one.limits.context is not None:
        words.append(f"context {one.limits.context:,}")
    if one.limits.kv_tokens is not None:
        words.append(f"{one.limits.kv_tokens:,} tokens of KV")
    if one.adapters:
        words.append(f"adapters {', '.join(map(shown, one.adapters))}")
    return ", ".join(words)


def _weights(one: Introduced, asking: Asking, answers: dict[object, str]) -> str:
    """The model of the catalogue, or a path, that a person names; asked once for each name."""
    if one.model in answers:
        return answers[one.model]
    text = f"{one.url} serves `{shown(one.model)}`, which is no model that ships"
    if asking.guess:  # `serve` has no option for it
        raise click.UsageError(
            f"{text}: `cuvee init {one.url} --weights MODEL`, with the one that it was made from, "
            "writes a file to serve"
        )
    if not asking.person:
        raise click.UsageError(
            f"{text}: give --weights, the model that it was made from ({', '.join(_near(one))}) or "
            "the path of its config.json"
        )
    click.echo(f"{text}.", err=True)
    while True:
        told = click.prompt("Model that it was made from, or path of its config.json", err=True)
        try:
            known = catalogue.find_model(told, Path())
            if known is not None:
                answers[one.model] = str(Path(told).resolve()) if Path(told).exists() else told
                return answers[one.model]
            click.echo(shipped.unknown(told, catalogue.models()), err=True)
        except PlannerError as error:
            click.echo(str(error), err=True)


def _near(one: Introduced) -> list[str]:
    """Names of the catalogue, as examples."""
    every = list(catalogue.models())
    return every[:3] if one.model else every


def _gpu(one: Introduced, weights: str, asking: Asking, answers: dict[object, str]) -> str:
    """The GPU that a person names; engines with the same model and the same KV are asked for once,
    because they are of the same kind."""
    likely = likely_gpus(one, weights)
    if asking.guess:
        return likely[0] if likely else ANY_GPU
    kind = one.model, one.limits
    if one.limits.kv_tokens is not None and kind in answers:
        return answers[kind]
    seems = f"; by its KV it may be {' or '.join(likely[:3])}" if likely else ""
    if not asking.person:
        raise click.UsageError(
            f"{one.url}: no engine tells its GPU: give --gpu, or {one.url}=GPU{seems}"
        )
    click.echo(f"{one.url} does not tell its GPU{seems}.", err=True)
    proposed = answers.get("last") or (likely[0] if likely else None)
    while True:
        told = click.prompt("GPU, as H100 or 2xH100", default=proposed, err=True)
        try:
            answers[kind] = answers["last"] = gpu_label(told)
            return answers[kind]
        except click.BadParameter as error:
            click.echo(error.message, err=True)

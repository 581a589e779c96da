"""The file of a profile (`cuvee-profile/1`): its keys, their bounds, and what goes together.

Owns the format and every mistake that can be found in it before a profile is made of it: all of
them at once, each one line with its key. Knows nothing of SLOs or capacity.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from planner import shipped
from planner.engine import catalogue
from planner.engine.fit import shortage
from planner.engine.hardware import ENGINES, Gpu, Model
from planner.engine.points import Point, unusable
from planner.engine.rates import Rates
from planner.errors import InvalidFile, InvalidValue, PlannerError
from planner.files import lines, outside, parts, refuse

FORMAT: Literal["cuvee-profile/1"] = "cuvee-profile/1"
CONTEXT = 8192  # `max_model_len` where a profile states none, and the model's own is no shorter
Origin = Literal["analytic", "measured", "imported"]
Gpus = Annotated[int, Meta(ge=1, le=1024, description="in GPUs, 1 to 1,024")]
Sequences = Annotated[int, Meta(ge=1, le=1_000_000, description="1 to a million")]
Tokens = Annotated[int, Meta(ge=1, le=10**12, description="in tokens, at least 1")]
# What stands for a required key while the rest of a file is looked through.
STAND_IN = {"format": FORMAT, "origin": "analytic", "gpu": "H100", "model": "Llama-3-8B"}


class ProfileFile(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The file format: GPU, model and engine, the engine's limits by vLLM's names.

    gpu, model: a name, the numbers, or the path of a file; a path is relative to the profile.
    engine_version: of the engine that was measured, as it tells it (`0.11.2`).
    max_model_len: default: 8,192 tokens, or the model's own context if it is shorter.
    A measured or imported profile has `points`, or `rates` together with `baked_slo`.
    """

    format: Literal["cuvee-profile/1"]
    origin: Origin
    gpu: str | Gpu
    model: str | Model
    engine: str = "vllm-v1"
    engine_version: str | None = None
    dtype: Literal["fp16", "bf16", "fp8"] = "fp16"
    tensor_parallel_size: Gpus = 1
    max_num_seqs: Sequences | None = None
    max_num_batched_tokens: Tokens = 2048
    max_model_len: Tokens | None = None
    kv_tokens: Tokens | None = None
    source: str | None = None
    baked_slo: str | None = None
    points: tuple[Point, ...] = ()
    rates: Rates | None = None

    def __post_init__(self) -> None:
        refuse(outside(self))


class Mistake(NamedTuple):
    """Why a file makes no profile. keys: those that it is about; error: says it, in lines."""

    keys: frozenset[str]
    error: PlannerError


def read(path: Path) -> ProfileFile:
    """A profile's file without mistakes. Raises InvalidFile with a line for each that it has."""
    found = parts(path, ProfileFile)
    spec = ProfileFile(**(STAND_IN | found.values))
    texts = [lines(path, found.problems)] if found.problems else []
    for mistake in mistakes(spec, path.parent):
        if mistake.keys & found.wrong:
            continue
        # A mistake in the file of a GPU or a model names that file already.
        own = not isinstance(mistake.error, InvalidFile)
        text = str(mistake.error)
        texts.append(lines(path, text.splitlines()) if own else text)
    if texts:
        raise InvalidFile("\n".join(texts))
    return spec


def check(spec: ProfileFile, root: Path) -> None:
    """Raises InvalidValue with a line for each mistake, or InvalidFile if one is in a file that
    spec names. root: folder of the paths in spec.
    """
    errors = [mistake.error for mistake in mistakes(spec, root)]
    text = "\n".join(map(str, errors))
    if any(isinstance(error, InvalidFile) for error in errors):
        raise InvalidFile(text)
    if errors:
        raise InvalidValue(text)


def mistakes(spec: ProfileFile, root: Path) -> Iterator[Mistake]:
    """What is wrong with a file whose keys, each by itself, are right."""
    yield from _sources(spec)
    gpu: Gpu | None = None
    model: Model | None = None
    readable = True
    for key in ("gpu", "model"):
        try:
            if key == "gpu":
                gpu = catalogue.find_gpu(spec.gpu, root)
            else:
                model = catalogue.find_model(spec.model, root)
        except PlannerError as error:
            readable = False
            yield Mistake(frozenset([key]), error)
    if readable and (gpu is None or model is None):
        yield from _without_rows(spec, gpu, model)
    if model is not None:
        yield from _of_model(spec, model)
        # Weights that are published in fewer bits are computed with in fp16: only the KV is fp8.
        fp8 = spec.dtype == "fp8" and (model.weight_bytes or 1) >= 1
        if gpu is not None and fp8 and gpu.tflops.fp8 is None:
            yield _mistake("dtype", f"fp8, and {gpu.name} has no fp8 units", "gpu", "model")


def max_model_len(spec: ProfileFile, model: Model | None) -> int:
    """The longest prompt and output of one request, in tokens: as stated, or the default."""
    context = None if model is None else model.context
    return spec.max_model_len or min(CONTEXT, context or CONTEXT)


def _mistake(key: str, text: str, *others: str) -> Mistake:
    return Mistake(frozenset([key, *others]), InvalidValue(f"{key}: {text}"))


def _sources(spec: ProfileFile) -> Iterator[Mistake]:
    """The engine, and parts of a file that exclude each other."""
    if shipped.lookup(spec.engine, ENGINES) is None:
        yield _mistake("engine", shipped.unknown(spec.engine, ENGINES))
    measured = bool(spec.points) + (spec.rates is not None)
    kinds = ("points", "rates")
    if spec.origin == "analytic" and measured:
        yield _mistake("origin", "an analytic profile has neither points nor rates", *kinds)
    if spec.origin != "analytic" and measured != 1:
        text = f"a profile of origin {spec.origin} needs points or rates"
        yield _mistake("points", text, "origin", *kinds)
    if (spec.rates is None) != (spec.baked_slo is None):
        text = "belongs to rates, and rates cannot be without it"
        yield _mistake("baked_slo", text, *kinds)
    if spec.points:
        for line in unusable(spec.points):
            yield Mistake(frozenset(["points"]), InvalidValue(line))


def _without_rows(spec: ProfileFile, gpu: Gpu | None, model: Model | None) -> Iterator[Mistake]:
    """Names without a row, unless the points suffice without it."""
    if unusable(spec.points) and spec.points:
        return
    need = shortage(spec.points)
    if need is None and spec.kv_tokens is None:
        need = "kv_tokens, which the engine reported at its start"
    if need is None:
        return
    for key, row, known in (("gpu", gpu, catalogue.gpus()), ("model", model, catalogue.models())):
        if row is None:
            text = shipped.unknown(str(getattr(spec, key)), known)
            yield _mistake(key, f"{text} Give its numbers; to do without, it takes {need}")


def _of_model(spec: ProfileFile, model: Model) -> Iterator[Mistake]:
    """What an engine would refuse for this model at its start."""
    gpus, longest = spec.tensor_parallel_size, spec.max_model_len
    if model.query_heads % gpus:
        text = f"{model.query_heads} attention heads of {model.name} do not divide by {gpus} GPUs"
        yield _mistake("tensor_parallel_size", text, "model")
    # Rates of another planner reach as far as its table does: an engine served that.
    if longest is None or model.context is None or spec.rates is not None:
        return
    if longest > model.context:
        text = f"{longest} is beyond the context of {model.name}, {model.context} tokens"
        yield _mistake("max_model_len", text, "model")

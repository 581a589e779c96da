"""How far the analytic model is from public measurements of engines.

Owns the format of `configs/profiles/measured/*.csv` and, for each kind of measurement, the formula
that predicts it. Nothing here enters a plan: it says how much an analytic profile can be trusted.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner import shipped
from planner.engine import catalogue
from planner.engine.hardware import ENGINES, EngineKind
from planner.engine.roofline import CORNER, Roofline, roofline
from planner.errors import InvalidFile

METRICS = ("makespan", "ttft", "tpot", "layer-prompt", "layer-decode", "layer-linear")
COLUMNS = (
    "gpu", "gpus", "model", "engine", "metric", "input_tokens", "output_tokens", "batch", "ms",
)  # fmt: skip
LEAST_MS = 1e-3  # nothing here is faster: less is a mistake of units
LAYER_S = 0.03e-3  # host cost of one layer in the engine that Helix timed
LONGEST_TTFT = 8192  # prompt tokens of a batch beyond which the engine splits the prefill

# vLLM 0.2 without CUDA graphs: every layer waits for its host, which differs by machine.
_EAGER_FLOOR_S = {"A100-80G": 0.50e-3, "H100": 0.36e-3}
_EAGER = replace(
    ENGINES["vllm-v0"], name="vllm-eager", request_s=6e-3, prompts=16, prefill_floor_s=0.50e-3
)
_BARE = replace(
    ENGINES["vllm-v0"], name="layers", iteration_s=0.0, sequence_s=0.0, request_s=0.0, layer_s=0.0
)
# TensorRT-LLM of 2024, whose runtime was C++; since 1.0 it is Python, and costs more on the host.
_TENSORRT_2024 = replace(
    ENGINES["tensorrt-llm"], iteration_s=1.5e-3, sequence_s=10e-6, request_s=0.5e-3,
    prefill_floor_s=0.05e-3, layer_s=22e-6, all_reduce=1.0,
)  # fmt: skip
_ENGINES = ENGINES | {_EAGER.name: _EAGER, _BARE.name: _BARE, "tensorrt-llm": _TENSORRT_2024}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One measured time: of a batch (makespan, ttft), of a token (tpot), or of one layer.

    source: the file's stem. gpus: tensor parallelism. batch: requests submitted together.
    input_tokens, output_tokens: of each request; layers: tokens in the batch, and 0.
    """

    source: str
    gpu: str
    gpus: int
    model: str
    engine: str
    metric: str
    input_tokens: int
    output_tokens: int
    batch: int
    measured_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelError:
    """How far the model is from n timings: |predicted/measured − 1| as median and 90th percentile,
    and the median of predicted/measured.
    """

    gpu: str
    source: str
    engine: str
    gpus: int | None
    metric: str
    n: int
    median: float
    p90: float
    bias: float


def read_timings(path: Path) -> tuple[Timing, ...]:
    """Reads measurements. Raises InvalidFile naming file, line and column."""
    try:
        with path.open(newline="") as lines:
            reader = csv.DictReader(lines)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InvalidFile(f"{path}:1: the columns must be {','.join(COLUMNS)}")
            return tuple(_timing(path, number, row) for number, row in enumerate(reader, 2))
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error


def _timing(path: Path, line: int, row: dict[str, str]) -> Timing:
    def name(column: str, known: Iterable[str]) -> str:
        found = shipped.lookup(row[column] or "", {one: one for one in known})
        if found is None:
            text = shipped.unknown(row[column] or "", known)
            raise InvalidFile(f"{path}:{line}: {column}: {text}")
        return found

    def number(column: str, least: float) -> float:
        try:
            value = float(row[column])
        except (TypeError, ValueError):
            raise InvalidFile(f"{path}:{line}: {column}: no number: `{row[column]}`") from None
        if least <= value < float("inf"):
            return value
        raise InvalidFile(f"{path}:{line}: {column}: must be at least {least:g}: {value}")

    return Timing(
        source=path.stem,
        gpu=name("gpu", catalogue.gpus()),
        gpus=int(number("gpus", 1)),
        model=name("model", catalogue.models()),
        engine=name("engine", _ENGINES),
        metric=name("metric", METRICS),
        input_tokens=int(number("input_tokens", 1)),
        output_tokens=int(number("output_tokens", 0)),
        batch=int(number("batch", 1)),
        measured_s=number("ms", LEAST_MS) / 1e3,
    )


def usable(timing: Timing) -> bool:
    """Whether the source can be trusted with this value, and the formula is meant for it.

    Left out: prompts of more than 8,192 tokens in all; 70B on two A100 or H100 with a batch of 64,
    which did not fit; one-layer times rounded to 1 or 2 ms; decode batches above 32 of unknown
    context; layers under tensor parallelism, whose link the source does not state.
    """
    if timing.metric == "ttft" and timing.batch * timing.input_tokens > LONGEST_TTFT:
        return False
    if timing.metric in ("ttft", "tpot") and timing.gpus == 2 and timing.batch == 64:
        return False
    if timing.metric in ("layer-prompt", "layer-decode"):
        ms = timing.measured_s * 1e3
        rounded = ms < 2.5 and abs(ms - round(ms)) < 1e-9
        decode = timing.metric == "layer-decode" and timing.batch > 32
        return not (rounded or decode or timing.gpus > 1)
    return True


def roofline_of(timing: Timing) -> Roofline:
    """The analytic model of the measured backend, with the host costs of its engine."""
    engine: EngineKind = _ENGINES[timing.engine]
    if timing.engine == _EAGER.name:
        engine = replace(engine, decode_floor_s=_EAGER_FLOOR_S[timing.gpu])
    gpu, model = catalogue.gpus()[timing.gpu], catalogue.models()[timing.model]
    return roofline(gpu, model, engine, gpus=timing.gpus)


def predicted_s(timing: Timing) -> float:
    """The analytic model's value of a timing, in seconds.

    makespan: `N·t_pre + o·(N/B)·t_dec(B, i + o/2)` with B what memory and `max_num_seqs` admit.
    ttft: the prefill of all prompts of the batch at once, and one request's host cost.
    tpot: `t_dec(B, i + o/2)`.
    """
    backend, count = roofline_of(timing), timing.batch
    inputs, outputs = timing.input_tokens, timing.output_tokens
    context = inputs + outputs / 2
    if timing.metric == "makespan":
        fits = backend.kv_capacity // context if backend.kv_capacity >= inputs + outputs else 0
        batch = float(min(count, max(fits, 1.0), backend.engine.sequences))
        prefill_s = backend.prefill_share_s(float(inputs))
        return float(count * prefill_s + outputs * count / batch * backend.decode_s(batch, context))
    if timing.metric == "ttft":
        squares = float(count) * inputs * inputs
        prefill_s = backend.step_s(float(count * inputs), 0.0, 0.0, squares, prefill=True)
        return float(prefill_s + backend.engine.request_s)
    if timing.metric == "tpot":
        return float(backend.decode_s(float(count), context))
    return _layer_s(backend, timing)


def _layer_s(backend: Roofline, timing: Timing) -> float:
    """Seconds of one layer's linear parts over a batch of tokens; prompts with their attention."""
    layers, tokens = backend.model.layers, timing.input_tokens
    memory_s = backend.weight_bytes * backend.block_flop / 2 / layers
    memory_s /= backend.gpus * backend.gpu.bandwidth * backend.gpu.achieved.memory
    compute_s = backend.block_flop * tokens / layers / backend.flops
    linear_s = (memory_s**CORNER + compute_s**CORNER) ** (1 / CORNER)
    if timing.metric == "layer-linear":
        return float(linear_s)
    squares = tokens * tokens if timing.metric == "layer-prompt" else 0
    return float(linear_s + backend.attention_s * squares / layers + LAYER_S)


def errors(timings: Iterable[Timing]) -> tuple[ModelError, ...]:
    """The error by GPU, source, engine, number of GPUs and metric; unusable timings left out."""
    rows: dict[tuple[str, str, str, int, str], list[Timing]] = {}
    for t in filter(usable, timings):
        rows.setdefault((t.gpu, t.source, t.engine, t.gpus, t.metric), []).append(t)
    return tuple(
        _error(group, gpu=gpu, source=source, engine=engine, gpus=gpus, metric=metric)
        for (gpu, source, engine, gpus, metric), group in sorted(rows.items())
    )


def by_gpu(timings: Iterable[Timing]) -> tuple[ModelError, ...]:
    """The error over all usable timings of each GPU."""
    rows: dict[str, list[Timing]] = {}
    for timing in filter(usable, timings):
        rows.setdefault(timing.gpu, []).append(timing)
    return tuple(
        _error(group, gpu=gpu, source="all", engine="all", gpus=None, metric="all")
        for gpu, group in sorted(rows.items())
    )


def spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Median and 90th percentile of |ratio − 1|, and the median of predicted/measured `ratios`."""
    distance = np.abs(np.array(ratios) - 1)
    return float(np.median(distance)), float(np.quantile(distance, 0.9)), float(np.median(ratios))


def _error(
    timings: Sequence[Timing], *, gpu: str, source: str, engine: str, gpus: int | None, metric: str
) -> ModelError:
    ratios = [predicted_s(timing) / timing.measured_s for timing in timings]
    median, p90, bias = spread(ratios)
    return ModelError(
        gpu=gpu,
        source=source,
        engine=engine,
        gpus=gpus,
        metric=metric,
        n=len(timings),
        median=median,
        p90=p90,
        bias=bias,
    )

"""Results of other tools, read as the points or rates of a profile.

Owns the formats of vLLM's `bench serve`, guidellm, aiperf, Mélange and AIBrix as far as a profile
needs them and ignores their other keys. Times become seconds, sizes mean tokens.
Knows nothing of GPUs, prices or plans.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from planner import shipped
from planner.engine.points import Point, checked
from planner.engine.rates import Rates
from planner.errors import InvalidFile, InvalidValue
from planner.files import converted, lines

PAPER_INPUT_TO = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
PAPER_OUTPUT_TO = (25, 100, 250, 500, 1000, 2000)
SECONDS = {"ms": 1e-3, "sec": 1.0, "s": 1.0, "us": 1e-6, "ns": 1e-9}

T = TypeVar("T")


class VllmBench(msgspec.Struct):
    """What `vllm bench serve --save-result` wrote, as far as a point needs it."""

    completed: int
    total_input_tokens: float
    total_output_tokens: float
    request_throughput: float
    mean_tpot_ms: float
    mean_ttft_ms: float


class Mean(msgspec.Struct):
    """guidellm's summary of one distribution."""

    mean: float


class Successful(msgspec.Struct):
    """guidellm keeps one distribution per outcome."""

    successful: Mean


class GuideMetrics(msgspec.Struct):
    """guidellm's metrics of one benchmark."""

    requests_per_second: Successful
    prompt_token_count: Successful
    output_token_count: Successful
    time_to_first_token_ms: Successful
    inter_token_latency_ms: Successful


class GuideBenchmark(msgspec.Struct):
    """One benchmark: one load."""

    metrics: GuideMetrics


class GuideReport(msgspec.Struct):
    """A guidellm report: the benchmarks of a sweep."""

    benchmarks: tuple[GuideBenchmark, ...]


class AiperfMetric(msgspec.Struct):
    """One metric of an aiperf summary."""

    avg: float
    unit: str


class AiperfSummary(msgspec.Struct):
    """An aiperf summary, as far as a point needs it."""

    request_throughput: AiperfMetric
    input_sequence_length: AiperfMetric
    output_sequence_length: AiperfMetric
    time_to_first_token: AiperfMetric
    inter_token_latency: AiperfMetric


class MelangeGpu(msgspec.Struct):
    """One GPU type of a Mélange config: cost per hour, best rate by bucket (inputs × outputs)."""

    cost: float
    tputs: tuple[tuple[float, ...], ...]


class MelangeConfig(msgspec.Struct):
    """A Mélange config: everything that planner knows. Shapes are checked by `melange`."""

    gpu_info: dict[str, MelangeGpu]
    workload_distribution: tuple[tuple[float, ...], ...]
    total_request_rate: float
    slice_factor: int = 1


class AibrixProfile(msgspec.Struct):
    """An AIBrix GPU profile. indexes: output sizes, input sizes; tputs: a row per output size."""

    gpu: str
    cost: float
    tputs: tuple[tuple[float, ...], ...]
    indexes: tuple[tuple[int, ...], tuple[int, ...]]
    slos: dict[str, Any] | None = None


def vllm_bench(paths: Sequence[Path]) -> tuple[Point, ...]:
    """The points of `vllm bench serve` results, one file per load."""
    points = []
    for path in paths:
        result = _decoded(path, VllmBench)
        if result.completed < 1:
            raise InvalidFile(f"{path}: completed: no request succeeded")
        points.append(
            Point(
                input_tokens=result.total_input_tokens / result.completed,
                output_tokens=result.total_output_tokens / result.completed,
                rate=result.request_throughput,
                tpot_s=result.mean_tpot_ms / 1e3,
                ttft_s=result.mean_ttft_ms / 1e3,
            )
        )
    return _checked(paths, points)


def guidellm(paths: Sequence[Path]) -> tuple[Point, ...]:
    """The points of guidellm reports, one per benchmark in them."""
    points = [
        Point(
            input_tokens=metrics.prompt_token_count.successful.mean,
            output_tokens=metrics.output_token_count.successful.mean,
            rate=metrics.requests_per_second.successful.mean,
            tpot_s=metrics.inter_token_latency_ms.successful.mean / 1e3,
            ttft_s=metrics.time_to_first_token_ms.successful.mean / 1e3,
        )
        for path in paths
        for metrics in (benchmark.metrics for benchmark in _decoded(path, GuideReport).benchmarks)
    ]
    return _checked(paths, points)


def aiperf(paths: Sequence[Path]) -> tuple[Point, ...]:
    """The points of aiperf summaries, JSON or CSV, one file per load."""
    points = []
    for path in paths:
        summary = _summary(path) if path.suffix == ".csv" else _decoded(path, AiperfSummary)
        points.append(
            Point(
                input_tokens=summary.input_sequence_length.avg,
                output_tokens=summary.output_sequence_length.avg,
                rate=summary.request_throughput.avg,
                tpot_s=_seconds(path, "inter_token_latency", summary.inter_token_latency),
                ttft_s=_seconds(path, "time_to_first_token", summary.time_to_first_token),
            )
        )
    return _checked(paths, points)


def _summary(path: Path) -> AiperfSummary:
    """The CSV form: rows `Name (unit),avg,…` and, after an empty line, `Name (unit),value`."""
    entries: dict[str, AiperfMetric] = {}
    for number, row in enumerate(csv.reader(_text(path).splitlines()), 1):
        label, _, rest = row[0].partition(" (") if len(row) > 1 else ("", "", "")
        name = label.strip().lower().replace(" ", "_")
        if name in AiperfSummary.__struct_fields__:
            try:
                value = float(row[1].replace(",", ""))
            except ValueError:
                raise InvalidFile(f"{path}:{number}: {name}: not a number: `{row[1]}`") from None
            entries[name] = AiperfMetric(avg=value, unit=rest.rstrip(")"))
    for name in AiperfSummary.__struct_fields__:
        if name not in entries:
            raise InvalidFile(f"{path}: no row `{name.replace('_', ' ').title()}`")
    return AiperfSummary(**entries)


def _seconds(path: Path, name: str, entry: AiperfMetric) -> float:
    if entry.unit not in SECONDS:
        raise InvalidFile(f"{path}: {name}: unknown unit `{entry.unit}`")
    return entry.avg * SECONDS[entry.unit]


def melange(path: Path) -> MelangeConfig:
    """A Mélange config, its tables checked. Raises InvalidFile naming the key."""
    config = _decoded(path, MelangeConfig)
    rows = len(config.workload_distribution)
    columns = len(config.workload_distribution[0]) if rows else 0
    tables = {"workload_distribution": config.workload_distribution}
    for name, gpu in config.gpu_info.items():
        tables[f"gpu_info.{name}.tputs"] = gpu.tputs
        if not 0 <= gpu.cost < float("inf"):
            raise InvalidFile(f"{path}: gpu_info.{name}.cost: must be ≥ 0: {gpu.cost}")
    for where, table in tables.items():
        if len(table) != rows or any(len(row) != columns for row in table):
            raise InvalidFile(f"{path}: {where}: a hole: every table must be {rows} × {columns}")
        for i, row in enumerate(table):
            for o, value in enumerate(row):
                if not 0 <= value < float("inf"):
                    raise InvalidFile(f"{path}: {where}[{i}][{o}]: must be ≥ 0: {value}")
    if not columns or not config.gpu_info:
        raise InvalidFile(f"{path}: a config needs gpu_info and workload_distribution")
    if not 0 < config.total_request_rate < float("inf") or config.slice_factor < 1:
        raise InvalidFile(f"{path}: total_request_rate, slice_factor: must be positive")
    return config


def melange_rates(
    path: Path,
    gpu: str,
    input_to: tuple[int, ...] = PAPER_INPUT_TO,
    output_to: tuple[int, ...] = PAPER_OUTPUT_TO,
) -> Rates:
    """The best rates of one GPU type of a Mélange config, by its name there.

    The config does not say which sizes its buckets end at: by default those of the paper.
    """
    config = melange(path)
    found = shipped.lookup(gpu, config.gpu_info)
    if found is None:
        known = ", ".join(config.gpu_info)
        raise InvalidFile(f"{path}: gpu_info: no data for `{gpu}`; there are {known}")
    return _rates(path, input_to, output_to, found.tputs)


def aibrix(path: Path) -> tuple[Rates, str]:
    """The best rates of an AIBrix profile, and its SLO as text."""
    profile = _decoded(path, AibrixProfile)
    outputs, inputs = profile.indexes
    if len(profile.tputs) != len(outputs) or any(len(row) != len(inputs) for row in profile.tputs):
        shape = f"{len(outputs)} × {len(inputs)}"
        raise InvalidFile(f"{path}: tputs: a hole: indexes ask for {shape} values")
    slo = ", ".join(f"{key} {value}" for key, value in (profile.slos or {}).items())
    rates = _rates(path, inputs, outputs, tuple(zip(*profile.tputs, strict=True)))
    return rates, slo or "not stated"


def _rates(
    path: Path, inputs: Sequence[int], outputs: Sequence[int], rate: tuple[tuple[float, ...], ...]
) -> Rates:
    try:
        return Rates(input_to=tuple(inputs), output_to=tuple(outputs), rate=rate)
    except ValueError as error:
        raise InvalidFile(f"{path}: {error}") from error


def _checked(paths: Sequence[Path], points: list[Point]) -> tuple[Point, ...]:
    try:
        return checked(points)
    except InvalidValue as error:
        where = Path(", ".join(map(str, paths)))
        raise InvalidFile(lines(where, str(error).splitlines())) from error


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}: cannot be read: {error}") from error


def _decoded(path: Path, form: type[T]) -> T:
    """A file as a value of type `form`."""
    # Not msgspec's own reader: Python writes NaN and Infinity into JSON, which msgspec refuses
    # anywhere. In keys that are read they are refused later, elsewhere they do no harm.
    try:
        raw = json.loads(_text(path))
    except ValueError as error:
        raise InvalidFile(f"{path}: {error}") from error
    value, problems = converted(raw, form)
    if problems:
        raise InvalidFile(lines(path, problems))
    return value

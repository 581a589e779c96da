"""Measured runs of whole engines: what was asked of one, and the latencies that its clients saw.

Owns two public formats, told apart by their columns. A serving run is an open loop of constant
rates (columns of the inference-sim project: `experiment, hardware, …, stage_rates, …`); a
closed-loop run is a fixed number of users who ask again at once (columns of AIConfigurator's
`silicon_sample.csv`: `id, backend, …, concurrency, …`). Knows no formula.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planner import shipped
from planner.engine import catalogue
from planner.errors import InvalidFile, InvalidValue

# Of each prompt of a serving run, the share that an earlier request left in the KV cache. The
# format does not state it: conversations of several turns with one system prompt. With 0.8 the
# TTFT of runs of one engine at several rates and sizes is met with the same constants.
CACHED_SHARE = 0.8
SERVING = ("experiment", "hardware", "model", "precision", "tp", "stage", "in_tokens", "out_tokens",
           "stage_rates", "stage_s", "ttft_mean_ms", "itl_mean_ms", "e2e_mean_ms")  # fmt: skip
CLOSED = ("backend", "model_path", "system", "precision", "isl", "osl", "tp_size", "pp_size",
          "concurrency", "ttft_ms", "tpot_ms")  # fmt: skip
ENGINE_NAMES = {"vllm": "vllm-v1", "trtllm": "tensorrt-llm", "sglang": "sglang"}
NODE_GPUS = 8  # more are in several nodes, whose link no GPU's row states
MOST = 10_000_000.0  # of any number: more is none that was measured
MOST_USERS = 100_000
MOST_RATE = 10_000.0  # requests/s
BATCHED = "max_num_batched_tokens"
BATCHED_TOKENS = 8192  # prompt tokens of an iteration, where the format does not state them
ENDINGS = re.compile(r"-(instruct|chat|hf|it|fp8|v\d[\d.]*|\d{4})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, or one stage of it.

    label: names it for people. engine: name of its kind. fp8: whether weights and KV have 8 bits.
    stages: (requests/s, seconds) one after another, of a serving run; empty for a closed loop.
    users: of a closed loop; 0 for a serving run. cached_share: of each prompt. measured_s: by
    metric (`ttft`, `itl`, `e2e`), means in seconds.
    """

    label: str
    gpu: str
    gpus: int
    model: str
    engine: str
    fp8: bool
    input_tokens: int
    output_tokens: int
    max_num_batched_tokens: int
    stages: tuple[tuple[float, float], ...] = ()
    users: int = 0
    cached_share: float = 0.0
    measured_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Unplayable:
    """A row that cannot be played. line: in the file. reason: why, for people."""

    line: int
    reason: str


def read_runs(path: Path) -> tuple[list[Run], list[Unplayable]]:
    """Reads a file of either format. Raises InvalidFile for a file that cannot be read or is of
    neither, and for a number that is none, naming line and column."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, restval="")
            columns = set(reader.fieldnames or ())
            read = next((f for c, f in _FORMATS if set(c) <= columns), None)
            if read is None:
                missing = ", ".join(name for name in SERVING if name not in columns)
                raise InvalidFile(f"{path}:1: not a file of runs: no column {missing}")
            runs, left = [], []
            for line, row in enumerate(reader, 2):
                try:
                    runs.append(read(row))
                except _CannotPlay as reason:
                    left.append(Unplayable(line, str(reason)))
                except InvalidValue as error:
                    raise InvalidFile(f"{path}:{line}: {error}") from error
            return runs, left
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{path}: is no CSV in UTF-8: {error}") from error


class _CannotPlay(Exception):
    """Why a row cannot be played."""


def _serving(row: dict[str, str]) -> Run:
    rates, seconds = _numbers(row, "stage_rates", MOST_RATE), _numbers(row, "stage_s")
    if row["stage"] == "-1":
        if not rates or None in rates or len(seconds) != len(rates):
            raise _CannotPlay("a whole run without the rate and the seconds of every stage")
        stages = tuple((r, s) for r, s in zip(rates, seconds, strict=True) if r and s)
    else:
        stage = 0 if row["stage"] == "0" else int(_number(row, "stage"))
        rate = rates[stage] if stage < len(rates) else None
        if rate is None:
            raise _CannotPlay("a stage without a rate")
        long_s = seconds[stage] if stage < len(seconds) else None
        stages = ((rate, long_s or 600.0),)
    return Run(
        label=f"{row['experiment']} stage {row['stage']}",
        gpu=_gpu(row["hardware"]),
        gpus=int(_number(row, "tp")),
        model=_model(row["model"]),
        engine="vllm-v1",
        fp8=row["precision"].casefold() == "fp8",
        input_tokens=int(_number(row, "in_tokens")),
        output_tokens=int(_number(row, "out_tokens")),
        max_num_batched_tokens=int(
            _parsed(row.get("max_num_batched_tokens") or str(BATCHED_TOKENS), BATCHED, MOST)
        ),
        stages=stages,
        cached_share=CACHED_SHARE,
        measured_s={m: _number(row, f"{m}_mean_ms") / 1e3 for m in ("ttft", "itl", "e2e")},
    )


def _closed_loop(row: dict[str, str]) -> Run:
    engine = ENGINE_NAMES.get(row["backend"], row["backend"])
    gpus = int(_number(row, "tp_size"))
    if gpus > NODE_GPUS or (row["pp_size"] or "1") != "1":
        raise _CannotPlay(f"one replica over more than {NODE_GPUS} GPUs, or in pipeline stages")
    if (row.get("attention_dp_size") or "1") != "1":
        raise _CannotPlay("attention in data parallel")
    outputs = int(_number(row, "osl"))
    measured_s = {"ttft": _number(row, "ttft_ms") / 1e3, "itl": _number(row, "tpot_ms") / 1e3}
    if measured_s["ttft"] > measured_s["itl"] * outputs:
        raise _CannotPlay("users queue for the seats of the engine, whose number is not stated")
    return Run(
        label=row.get("id") or row["model_path"],
        gpu=_gpu(row["system"]),
        gpus=gpus,
        model=_model(row["model_path"]),
        engine=engine,
        fp8=row["precision"] == "fp8",
        input_tokens=int(_number(row, "isl")),
        output_tokens=outputs,
        max_num_batched_tokens=BATCHED_TOKENS,
        users=int(_number(row, "concurrency", MOST_USERS)),
        measured_s=measured_s,
    )


_FORMATS = ((SERVING, _serving), (CLOSED, _closed_loop))


def _number(row: dict[str, str], column: str, most: float = MOST) -> float:
    """A number above 0 and at most `most`. Raises InvalidValue naming the column."""
    return _parsed(row[column], column, most)


def _numbers(row: dict[str, str], column: str, most: float = MOST) -> list[float | None]:
    """Numbers that semicolons part; `None` for one that is not stated (`?`)."""
    stated = [n for n in (row[column] or "").split(";") if n]
    return [None if n == "?" else _parsed(n, column, most) for n in stated]


def _parsed(text: str | None, column: str, most: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise InvalidValue(f"{column}: no number: `{text}`") from None
    if not 0 < value <= most:
        raise InvalidValue(f"{column}: must be above 0 and at most {most:,.0f}: {value:g}")
    return value


def _gpu(name: str) -> str:
    """The shipped GPU that a name means: `A100-80GB`, `h100_sxm`."""
    plain = re.sub(r"(_sxm|_pcie)$", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"(\d+)GB$", r"\1G", plain)
    found = shipped.lookup(plain, catalogue.gpus())
    if found is None:
        raise _CannotPlay(f"no row of the GPU {name}")
    return found.name


def _model(path: str) -> str:
    """The shipped model that a name on Hugging Face means, by the source of its row or by its name
    without what does not change its shape (`-Instruct`, `-hf`, a date)."""
    wanted = _plain(path)
    for model in catalogue.models().values():
        source = (model.source or "").partition("huggingface.co/")[2]
        if wanted in (_plain(model.name), _plain(source)):
            return model.name
    raise _CannotPlay(f"no row of the model {path}")


def _plain(path: str) -> str:
    return ENDINGS.sub("", path.rpartition("/")[2].casefold())

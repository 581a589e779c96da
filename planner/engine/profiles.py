"""What one backend can do, by request size. Knows SLOs as arguments; nothing of buckets or demand.

A profile file (`cuvee-profile/1`) names its origin. `analytic` profiles come from the roofline,
`measured` and `imported` ones hold points at several loads, to which a linear engine model is
fitted. The SLO is applied when a plan is made and is never baked into the file, with one exception
that says so: tables of best rates imported from planners that fix the SLO when they profile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from planner.engine.fit import Calibration, Point, Rates, checked, fit
from planner.engine.hardware import ENGINES, GPUS, MODELS
from planner.engine.roofline import Number, Roofline
from planner.errors import InvalidFile, InvalidValue
from planner.files import decoded
from planner.sizes import FloatArray
from planner.slo import Slo

FORMAT = "cuvee-profile/1"
BoolArray = NDArray[np.bool_]
Origin = Literal["analytic", "measured", "imported"]
LEAST_BATCH = 1.0  # below one sequence in flight there is nothing to serve
BISECTIONS = 20  # n* to a millionth of its range


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capacity:
    """What a backend sustains within an SLO, by size: n_star in flight, rate in requests/s.

    Both arrays have the shape of the sizes and are 0 where the SLO cannot hold.
    """

    n_star: FloatArray
    rate: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A roofline, the engine's scheduler limits by vLLM's names, and what was measured if anything.

    calibration: a linear engine model fitted to measurements; it takes the roofline's place for
    every time. rates: best rates found under `baked_slo`; capacity then ignores the SLO it is asked
    for. kv_tokens: tokens of KV that the engine reported; default: the roofline's estimate.
    """

    roofline: Roofline
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    origin: Origin = "analytic"
    calibration: Calibration | None = None
    rates: Rates | None = None
    baked_slo: str | None = None
    kv_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "kv_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidValue(f"{name} must be at least 1: {value}")
        if self.kv_capacity == 0:
            raise InvalidValue(f"{self.model} does not fit into {self.gpus} × {self.gpu}")

    @property
    def model(self) -> str:
        """The name of the model that the backend serves."""
        return self.roofline.model.name

    @property
    def gpu(self) -> str:
        """The name of the GPU type."""
        return self.roofline.gpu.name

    @property
    def gpus(self) -> int:
        """How many of these GPUs one backend takes: its tensor parallelism."""
        return self.roofline.gpus

    @property
    def gpu_label(self) -> str:
        """The GPU type with its number if that is not 1: `2xA100-80G`."""
        return self.gpu if self.gpus == 1 else f"{self.gpus}x{self.gpu}"

    @property
    def kv_capacity(self) -> int:
        """Tokens of KV that fit: what the engine reported, else the roofline's estimate."""
        return self.roofline.kv_capacity if self.kv_tokens is None else self.kv_tokens

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds of prefill per prompt token, at the size of a full prefill iteration."""
        tokens = self.max_num_batched_tokens
        return float(self.times.prefill_s(float(tokens))) / tokens

    @property
    def times(self) -> Roofline | Calibration:
        """How long decode and prefill take: as measured where there is anything, else analytic."""
        return self.roofline if self.calibration is None else self.calibration

    def tpot_s(self, batch: Number, inputs: Number, outputs: Number) -> Number:
        """Seconds per output token with `batch` requests of one size in flight, prefill included:
        `t_dec(B, i + o/2) + B·t_pre(i)/o`; rises with B.
        """
        return self._pace(inputs, outputs)(batch)

    def _pace(self, inputs: Number, outputs: Number) -> Callable[[Number], Number]:
        """`tpot_s` of one size as a function of B alone: the prefill is computed once."""
        share_s, context = self.times.prefill_share_s(inputs) / outputs, inputs + outputs / 2
        return lambda batch: self.times.decode_s(batch, context) + batch * share_s

    def capacity(self, inputs: FloatArray, outputs: FloatArray, slo: Slo) -> Capacity:
        """The largest steady concurrency and rate within the SLO, for (N,) sizes in tokens.

        n* is the largest B ≤ min(KV/(i + o/2), max_num_seqs) with TPOT(B) ≤ the target, by
        bisection. By Little's law X = B/(o·TPOT(B)). Infeasible: no such B ≥ 1, a prompt whose own
        prefill and first step exceed the TTFT target, or a context beyond `max_model_len`.
        With `rates` X is theirs, and n* the B that has it.
        """
        inputs, outputs = np.broadcast_arrays(
            np.asarray(inputs, dtype=float), np.maximum(np.asarray(outputs, dtype=float), 1.0)
        )
        context = inputs + outputs
        fits = np.where(
            self.kv_capacity >= context, np.floor(self.kv_capacity / (inputs + outputs / 2)), 0.0
        )
        high = np.minimum(fits, self.max_num_seqs)
        if self.rates is not None:
            return self._fixed(self.rates, inputs, outputs, high)
        # A single output token has no TPOT: only memory and TTFT bound it.
        target_s = np.where(outputs < 2, np.inf, slo.tpot_s)
        tpot_s = self._pace(inputs, outputs)

        def holds(batch: FloatArray) -> BoolArray:
            return np.asarray(tpot_s(batch) <= target_s)

        low = np.full_like(high, LEAST_BATCH)
        first_s = self.times.prefill_s(inputs) + self.times.decode_s(low, context)
        feasible = (
            (high >= low) & holds(low) & (first_s <= slo.ttft_s) & (context <= self.max_model_len)
        )
        batch = np.where(feasible, _largest(holds, high), 0.0)
        safe = np.maximum(batch, LEAST_BATCH)
        rate = np.where(feasible, safe / (outputs * tpot_s(safe)), 0.0)
        return Capacity(n_star=batch, rate=rate)

    def _fixed(
        self, rates: Rates, inputs: FloatArray, outputs: FloatArray, high: FloatArray
    ) -> Capacity:
        rate = np.where(inputs + outputs <= self.max_model_len, rates.of(inputs, outputs), 0.0)
        tpot_s = self._pace(inputs, outputs)

        def holds(batch: FloatArray) -> BoolArray:
            return np.asarray(batch <= rate * outputs * tpot_s(batch))

        batch = _largest(holds, np.maximum(high, LEAST_BATCH))
        return Capacity(n_star=np.where(rate > 0, batch, 0.0), rate=rate)


def _largest(holds: Callable[[FloatArray], BoolArray], high: FloatArray) -> FloatArray:
    """The largest batch in [1, high] that holds, where everything below one that holds does."""
    low, top = np.full_like(high, LEAST_BATCH), high
    full = holds(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        right = holds(middle)
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    return np.where(full, top, low)


class ProfileFile(
    msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The file format: GPU, model and engine by name, the engine's limits by vLLM's names.

    A measured or imported profile has `points`, or `rates` together with `baked_slo`.
    """

    format: Literal["cuvee-profile/1"]
    origin: Origin
    gpu: str
    model: str
    engine: str = "vllm-v0"
    dtype: Literal["fp16", "bf16", "fp8"] = "fp16"
    tensor_parallel_size: int = 1
    max_num_seqs: int | None = None
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    kv_tokens: int | None = None
    source: str | None = None
    baked_slo: str | None = None
    points: tuple[Point, ...] = ()
    rates: Rates | None = None


def read_profile(path: Path) -> Profile:
    """Reads a profile file. Raises InvalidFile naming the file and the key."""
    spec = decoded(path, ProfileFile)
    try:
        return build(spec)
    except InvalidValue as error:
        raise InvalidFile(f"{path}: {error}") from error


def build(spec: ProfileFile) -> Profile:
    """The profile a file describes, its points fitted. Raises InvalidValue naming the key."""
    _check(spec)
    engine = ENGINES[spec.engine]
    width = 1 if spec.dtype == "fp8" else 2
    roofline = Roofline(
        gpu=GPUS[spec.gpu],
        model=MODELS[spec.model],
        engine=engine,
        gpus=spec.tensor_parallel_size,
        weight_bytes=width,
        kv_bytes=width,
    )
    return Profile(
        roofline=roofline,
        max_num_seqs=spec.max_num_seqs or engine.sequences,
        max_num_batched_tokens=spec.max_num_batched_tokens,
        max_model_len=spec.max_model_len,
        origin=spec.origin,
        calibration=fit(checked(spec.points), roofline) if spec.points else None,
        rates=spec.rates,
        baked_slo=spec.baked_slo,
        kv_tokens=spec.kv_tokens,
    )


def write(spec: ProfileFile, path: Path) -> None:
    """Writes a profile file. Raises InvalidFile if it cannot be written."""
    try:
        path.write_bytes(msgspec.yaml.encode(spec))
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be written: {error.strerror}") from error


def _check(spec: ProfileFile) -> None:
    for kind, name, known in (
        ("gpu", spec.gpu, tuple(GPUS)),
        ("model", spec.model, tuple(MODELS)),
        ("engine", spec.engine, tuple(ENGINES)),
    ):
        if name not in known:
            raise InvalidValue(f"{kind}: unknown `{name}`; known are {', '.join(known)}")
    measured = bool(spec.points) + (spec.rates is not None)
    if spec.origin == "analytic" and measured:
        raise InvalidValue("origin: an analytic profile has neither points nor rates")
    if spec.origin != "analytic" and measured != 1:
        raise InvalidValue(f"points: a profile of origin {spec.origin} needs points or rates")
    if (spec.rates is None) != (spec.baked_slo is None):
        raise InvalidValue("baked_slo: belongs to rates, and rates cannot be without it")

"""What one backend can do, by request size. Knows SLOs as arguments; nothing of buckets or demand.

A profile file (`cuvee-profile/1`) names its origin. `analytic` profiles come from the roofline;
the SLO is applied when a plan is made and is never baked into the file.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from planner.errors import InvalidFile, InvalidValue
from planner.hardware import ENGINES, GPUS, MODELS
from planner.roofline import Roofline
from planner.sizes import FloatArray
from planner.slo import Slo

FORMAT = "cuvee-profile/1"
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
    """An analytic profile: a roofline and the engine's scheduler limits, by vLLM's names."""

    roofline: Roofline
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"{name} must be at least 1: {getattr(self, name)}")
        if self.roofline.kv_capacity == 0:
            gpus = f"{self.roofline.gpus} × {self.gpu}"
            raise InvalidValue(f"{self.roofline.model.name} does not fit into {gpus}")

    @property
    def gpu(self) -> str:
        """The GPU type, `2xA100-80G` for tensor parallelism over two."""
        gpus = self.roofline.gpus
        return self.roofline.gpu.name if gpus == 1 else f"{gpus}x{self.roofline.gpu.name}"

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds of prefill per prompt token, at the size of a full prefill iteration."""
        tokens = self.max_num_batched_tokens
        return float(self.roofline.prefill_s(float(tokens))) / tokens

    def capacity(self, inputs: FloatArray, outputs: FloatArray, slo: Slo) -> Capacity:
        """The largest steady concurrency and rate within the SLO, for (N,) sizes in tokens.

        n* is the largest B ≤ min(KV/(i + o/2), max_num_seqs) with TPOT(B) ≤ the target, by
        bisection: TPOT(B) = t_dec(B, i + o/2) + B·t_pre(i)/o rises with B. By Little's law
        X = B/(o·TPOT(B)). Infeasible: no such B ≥ 1, a prompt whose own prefill and first step
        exceed the TTFT target, or a context beyond `max_model_len`.
        """
        inputs, outputs = np.broadcast_arrays(
            np.asarray(inputs, dtype=float), np.maximum(np.asarray(outputs, dtype=float), 1.0)
        )
        context = inputs + outputs
        memory = np.where(
            self.roofline.kv_capacity >= context,
            np.floor(self.roofline.kv_capacity / (inputs + outputs / 2)),
            0.0,
        )
        prefill_s = self.roofline.prefill_share_s(inputs) / outputs

        def tpot_s(batch: FloatArray) -> FloatArray:
            decode_s = self.roofline.decode_s(batch, inputs + outputs / 2)
            return np.asarray(decode_s + batch * prefill_s)

        high = np.minimum(memory, self.max_num_seqs)
        # A single output token has no TPOT: only memory and TTFT bound it.
        target_s = np.where(outputs < 2, np.inf, slo.tpot_s)
        low = np.full_like(high, LEAST_BATCH)
        first_s = self.roofline.prefill_s(inputs) + self.roofline.decode_s(low, context)
        feasible = (
            (high >= low)
            & (tpot_s(low) <= target_s)
            & (first_s <= slo.ttft_s)
            & (context <= self.max_model_len)
        )
        full = tpot_s(high) <= target_s
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            holds = tpot_s(middle) <= target_s
            low, high = np.where(holds, middle, low), np.where(holds, high, middle)
        batch = np.where(full, np.minimum(memory, self.max_num_seqs), low)
        batch = np.where(feasible, batch, 0.0)
        safe = np.maximum(batch, LEAST_BATCH)
        rate = np.where(feasible, safe / (outputs * tpot_s(safe)), 0.0)
        return Capacity(n_star=batch, rate=rate)


class ProfileFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format: GPU, model and engine by name, the engine's limits by vLLM's names."""

    format: Literal["cuvee-profile/1"]
    origin: Literal["analytic"]
    gpu: str
    model: str
    engine: str = "vllm-v0"
    dtype: Literal["fp16", "bf16", "fp8"] = "fp16"
    tensor_parallel_size: int = 1
    max_num_seqs: int | None = None
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    source: str | None = None


def read(path: Path) -> Profile:
    """Reads a profile file. Raises InvalidFile naming the file and the key."""
    try:
        spec = msgspec.yaml.decode(path.read_bytes(), type=ProfileFile)
        return build(spec)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, InvalidValue) as error:
        raise InvalidFile(f"{path}: {error}") from error


def build(spec: ProfileFile) -> Profile:
    """The profile a file describes. Raises InvalidValue for an unknown GPU, model or engine."""
    for kind, name, known in (
        ("gpu", spec.gpu, tuple(GPUS)),
        ("model", spec.model, tuple(MODELS)),
        ("engine", spec.engine, tuple(ENGINES)),
    ):
        if name not in known:
            raise InvalidValue(f"{kind}: unknown `{name}`; known are {', '.join(known)}")
    engine = ENGINES[spec.engine]
    width = 1 if spec.dtype == "fp8" else 2
    return Profile(
        roofline=Roofline(
            gpu=GPUS[spec.gpu],
            model=MODELS[spec.model],
            engine=engine,
            gpus=spec.tensor_parallel_size,
            weight_bytes=width,
            kv_bytes=width,
        ),
        max_num_seqs=spec.max_num_seqs or engine.sequences,
        max_num_batched_tokens=spec.max_num_batched_tokens,
        max_model_len=spec.max_model_len,
    )

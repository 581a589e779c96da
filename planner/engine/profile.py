"""A backend as the planner knows it: its engine's limits, and what it sustains within an SLO.

Must not know files: `profiles` reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from planner.engine.calibration import Calibration
from planner.engine.capacity import LEAST_BATCH, BoolArray, Capacity, hits, largest
from planner.engine.hardware import Schedule
from planner.engine.prefill import Mix, PromptSchedule, added, prompt_schedule
from planner.engine.profile_file import Origin
from planner.engine.rates import Rates
from planner.engine.roofline import Number, Roofline
from planner.errors import InvalidValue
from planner.sizes import FloatArray
from planner.slo import Slo

SLOWED = 2.0  # pace of a request that misses its TPOT alone: twice that is no worse a miss
UNMEASURED = 0.10  # more than the median error of any GPU type that was measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a backend is, the engine's scheduler limits by vLLM's names, and how long it takes.

    gpu, gpus: the name of its GPU type, and how many of them one backend takes (its tensor
    parallelism). roofline: the analytic model, `None` where gpu or model is a name without a row.
    calibration: an engine model fitted to measurements; it takes the roofline's place for
    every time. rates: best rates found under `baked_slo`; capacity then ignores the SLO it is asked
    for. kv_tokens: tokens of KV that the engine reported; default: the roofline's estimate.
    usd_per_gpu_hour: the price that the GPU's own numbers state. schedule: the engine's.
    engine_version: for which the profile was fitted; `None` where it does not say.
    """

    gpu: str
    model: str
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    gpus: int = 1
    roofline: Roofline | None = None
    origin: Origin = "analytic"
    calibration: Calibration | None = None
    rates: Rates | None = None
    baked_slo: str | None = None
    kv_tokens: int | None = None
    usd_per_gpu_hour: float | None = None
    schedule: Schedule = "mixed"
    engine_version: str | None = None

    def __post_init__(self) -> None:
        limits = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "kv_tokens", "gpus")
        for name in limits:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidValue(f"{name} must be at least 1: {value}")
        if self.roofline is None and (self.calibration is None or self.kv_tokens is None):
            raise InvalidValue("a profile without a roofline needs a calibration and kv_tokens")
        if self.kv_capacity == 0:
            raise InvalidValue(f"{self.model} does not fit into {self.gpus} × {self.gpu}")

    @property
    def gpu_label(self) -> str:
        """The GPU type with its number if that is not 1: `2xA100-80G`."""
        return self.gpu if self.gpus == 1 else f"{self.gpus}x{self.gpu}"

    @property
    def kv_capacity(self) -> int:
        """Tokens of KV that fit: what the engine reported, else the roofline's estimate."""
        if self.kv_tokens is None and self.roofline is not None:
            return self.roofline.kv_capacity
        return self.kv_tokens or 0

    @property
    def error(self) -> float:
        """How far predicted times lie from measured ones, a share: of a calibration the median over
        its points, else that of the GPU type, and `UNMEASURED` where nobody measured it."""
        if self.calibration is not None:
            return self.calibration.error
        known = None if self.roofline is None else self.roofline.gpu.error
        return UNMEASURED if known is None else known

    def slowed(self, factor: float) -> "Profile":
        """The profile of the same backend when everything takes `factor` times as long."""
        rates = self.rates
        if rates is not None:
            table = tuple(tuple(rate / factor for rate in row) for row in rates.rate)
            rates = msgspec.structs.replace(rates, rate=table)
        return replace(
            self,
            roofline=self.roofline and self.roofline.slowed(factor),
            calibration=self.calibration and self.calibration.slowed(factor),
            rates=rates,
        )

    @property
    def prompts(self) -> PromptSchedule:
        """How prompts get into iterations."""
        return prompt_schedule(
            self.schedule, self.max_num_batched_tokens, self.max_num_seqs, self.max_model_len
        )

    @property
    def prompt_budget(self) -> int:
        """Tokens that one iteration can take."""
        return int(self.prompts.budget)

    @property
    def frontend(self) -> tuple[float, float]:
        """What a client waits beside the engine's iterations: seconds, and iterations."""
        if self.calibration is not None:
            return self.calibration.first_s, 0.0
        if self.roofline is None:
            return 0.0, 0.0
        return self.roofline.engine.frontend_s, self.roofline.engine.frontend_steps

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds of prefill per prompt token, at the size of a full prefill iteration."""
        tokens = self.max_num_batched_tokens
        return float(self.times.prefill_s(float(tokens))) / tokens

    @property
    def times(self) -> Roofline | Calibration:
        """The model of decode and prefill times: fitted where there are points, else analytic."""
        times = self.calibration or self.roofline
        assert times is not None  # checked by __post_init__
        return times

    def tpot_s(
        self, batch: Number, inputs: Number, outputs: Number, cached: Number = 0.0
    ) -> Number:
        """Seconds per output token with `batch` requests of one size in flight, the prefill of the
        others included: `t_dec(B, i + o/2) + (B − 1)·t_pre/o`, t_pre being what a prompt adds;
        rises with B. A request's own prefill is over when its first token is out, so it is part of
        its TTFT. cached: of the input, prefix hits.
        """
        return self._pace(inputs, outputs, 1.0, cached)(batch)

    def _pace(
        self, inputs: Number, outputs: Number, own: float, cached: Number = 0.0
    ) -> Callable[[Number], Number]:
        """`t_dec + (B − own)·t_pre/o` of one size as a function of B alone. own 1: TPOT; own 0:
        what one token takes of the backend, by Little's law `B/(o·X)`."""
        times, prompts, context = self.times, self.prompts, inputs + outputs / 2
        hit = hits(inputs, cached)

        def pace(batch: Number) -> Number:
            mix = Mix(batch=batch, inputs=inputs, outputs=outputs, cached=hit)
            prompt = added(times, prompts, mix)
            delaying = np.maximum(batch - own * prompt.together, 0.0)
            return times.decode_s(batch, context) + delaying / outputs * prompt.seconds

        return pace

    def capacity(
        self, inputs: FloatArray, outputs: FloatArray, slo: Slo, cached: Number = 0.0
    ) -> Capacity:
        """`takes`, and 0 where the SLO cannot hold."""
        found = self.takes(inputs, outputs, slo, cached)
        n_star, rate = (np.where(found.promised, of, 0.0) for of in (found.n_star, found.rate))
        return Capacity(n_star=n_star, rate=rate, promised=found.promised)

    def takes(
        self, inputs: FloatArray, outputs: FloatArray, slo: Slo, cached: Number = 0.0
    ) -> Capacity:
        """The largest steady concurrency and rate within the SLO, for (N,) sizes in tokens.

        cached: (N,) of the inputs, prefix hits: they are not computed, but take KV and are read.

        n* is the largest B ≤ min(KV/(i + o/2), max_num_seqs) with TPOT(B) ≤ the target, by
        bisection. By Little's law X = B/(o·t_dec(B) + B·t_pre): a request is there while its own
        prompt is prefilled, too. Not promised: no such B ≥ 1, or a prompt whose own prefill and
        first step exceed the TTFT target. Such a request is served all the same, beside others:
        where alone it already misses the TPOT, n* is that of `SLOWED` times its pace alone. 0 for a
        context beyond `max_model_len` or the KV.
        With `rates`, X is the table's rate, whatever hits, and n* the B that gives it.
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
        tpot_s, token_s = (self._pace(inputs, outputs, own, cached) for own in (1.0, 0.0))
        low = np.full_like(high, LEAST_BATCH)
        alone_s = np.asarray(tpot_s(low))
        paced = alone_s <= target_s
        target_s = np.where(paced, target_s, SLOWED * alone_s)

        def holds(batch: FloatArray) -> BoolArray:
            return np.asarray(tpot_s(batch) <= target_s)

        frontend_s, steps = self.frontend
        first_s = self.times.prefill_s(inputs, hits(inputs, cached))
        first_s = first_s + (1 + steps) * self.times.decode_s(low, context) + frontend_s
        held = (high >= low) & (context <= self.max_model_len)
        batch = np.where(held, largest(holds, np.maximum(high, low)), 0.0)
        safe = np.maximum(batch, LEAST_BATCH)
        rate = np.where(held, safe / (outputs * token_s(safe)), 0.0)
        promised = held & paced & (first_s <= slo.ttft_s)
        return Capacity(n_star=batch, rate=rate, promised=promised)

    def _fixed(
        self, rates: Rates, inputs: FloatArray, outputs: FloatArray, high: FloatArray
    ) -> Capacity:
        rate = np.where(inputs + outputs <= self.max_model_len, rates.of(inputs, outputs), 0.0)
        token_s = self._pace(inputs, outputs, 0.0)

        def holds(batch: FloatArray) -> BoolArray:
            return np.asarray(batch <= rate * outputs * token_s(batch))

        batch = largest(holds, np.maximum(high, LEAST_BATCH))
        promised = np.asarray(rate > 0)
        return Capacity(n_star=np.where(promised, batch, 0.0), rate=rate, promised=promised)


def analytic(
    backend: Roofline, *, max_num_seqs: int, max_num_batched_tokens: int, max_model_len: int
) -> Profile:
    """The profile of a roofline alone."""
    return Profile(
        gpu=backend.gpu.name,
        model=backend.model.name,
        gpus=backend.gpus,
        roofline=backend,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        usd_per_gpu_hour=backend.gpu.usd_per_hour,
        schedule=backend.engine.schedule,
    )

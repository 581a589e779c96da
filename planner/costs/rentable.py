"""What could be rented for a model: a pool for every GPU type with a price, alone and together.

Owns which pools there are and which of them no plan for a demand needs. Must not know where prices
come from, nor how fleets are found and played.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner import shipped
from planner.engine import catalogue, profiles
from planner.engine.hardware import Model
from planner.engine.profile_file import CONTEXT, FORMAT, ProfileFile
from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads
from planner.sizes import FloatArray

ENGINE = "vllm-v1"  # what is installed where nothing runs yet
PARALLEL = (1, 2, 4, 8)  # GPUs of one backend: a machine has eight
PROMISES_NOTHING = "holds the promise for hardly any of these requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A backend that cannot be used, and why. name: as a pool of it would have."""

    gpu: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rentable:
    """The pools that could be rented, and the backends that could not."""

    pools: tuple[Pool, ...]
    left_out: tuple[LeftOut, ...] = ()


def rentable_pools(name: str, model: Model, usd: Mapping[str, float], *, longest: int) -> Rentable:
    """The pools of every GPU type with a price in which a model fits, on 1, 2, 4 or 8 GPUs.

    name: of the model, as requests have it. usd: $ per GPU-hour by GPU type. longest: tokens of the
    longest request, which engines are started for if the model's context and their memory allow.
    Raises InvalidValue if no pool is left.
    """
    pools: list[Pool] = []
    left_out: list[LeftOut] = []
    for gpu, price in usd.items():
        if shipped.lookup(gpu, catalogue.gpus()) is None:
            reason = shipped.unknown(gpu, catalogue.gpus())
            left_out.append(LeftOut(gpu=gpu, name=gpu, reason=reason))
            continue
        for gpus in PARALLEL:
            label = gpu if gpus == 1 else f"{gpus}x{gpu}"
            try:
                profile = _profile(gpu, gpus, model, longest)
            except InvalidValue as error:
                left_out.append(LeftOut(gpu=gpu, name=label, reason=str(error)))
                continue
            pools.append(Pool(name=label, model=name, profile=profile, usd_per_hour=price * gpus))
    if not pools:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out)
        raise InvalidValue(f"{model.name}: no GPU with a price can serve it: {reasons}")
    return Rentable(pools=tuple(pools), left_out=tuple(left_out))


def promised(demand: Demand, pool: Pool) -> tuple[float, float]:
    """The share of the requests whose promise one backend of a pool can hold, by itself, and the
    mean load of these requests in backends."""
    share = load = 0.0
    cells = demand.buckets.grid.cells
    rate = demand.rate[demand.bucket] * demand.share
    for c, slo_class in enumerate(demand.buckets.classes):
        rows = demand.bucket // cells == c
        if slo_class.model == pool.model and rows.any():
            sizes = demand.input_tokens[rows], demand.output_tokens[rows]
            able = pool.profile.capacity(*sizes, slo_class.slo).rate
            share += float(rate[rows][able > 0].sum()) / demand.total_rate
            load += float((rate[rows][able > 0] / able[able > 0]).sum())
    return share, load


def holding(rentable: Rentable, demand: Demand) -> Rentable:
    """Without the pools that hold the promise for no more requests than may miss it.

    Raises InvalidValue if no pool is left.
    """
    slo = demand.buckets.classes[0].slo
    held = [promised(demand, pool)[0] > 1 - slo.attainment for pool in rentable.pools]
    able = tuple(pool for pool, holds in zip(rentable.pools, held, strict=True) if holds)
    idle = [
        LeftOut(gpu=pool.gpu, name=pool.name, reason=PROMISES_NOTHING)
        for pool, holds in zip(rentable.pools, held, strict=True)
        if not holds
    ]
    if not able:
        raise InvalidValue(
            f"no GPU with a price holds TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s:g} s for these "
            "requests, not even for one at a time"
        )
    return Rentable(pools=able, left_out=(*rentable.left_out, *idle))


def undominated(demand: Demand, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Without the pools beside which another one costs no more and is no slower for any size.

    No plan needs such a pool: the other's backends could stand in its place one by one. Of equal
    pools the first stays.
    """
    seconds = bucket_loads(demand, pools).seconds[demand.rate > 0]
    return tuple(
        pool
        for p, pool in enumerate(pools)
        if not any(_dominates(seconds, pools, q, p) for q in range(len(pools)) if q != p)
    )


def _profile(gpu: str, gpus: int, model: Model, longest: int) -> profiles.Profile:
    """The analytic profile of one backend. Raises InvalidValue if the engine could not start."""
    context = None if longest <= CONTEXT else min(longest, model.context or longest)
    spec = ProfileFile(
        format=FORMAT,
        origin="analytic",
        gpu=gpu,
        model=model,
        engine=ENGINE,
        tensor_parallel_size=gpus,
        max_model_len=context,
    )
    profile = profiles.build(spec)
    # An engine does not start with a context that its memory cannot hold once.
    return replace(profile, max_model_len=min(profile.max_model_len, profile.kv_capacity))


def _dominates(seconds: FloatArray, pools: Sequence[Pool], q: int, p: int) -> bool:
    """Whether pool q makes pool p useless. seconds: (B, P) of one request."""
    if pools[q].model != pools[p].model or pools[q].usd_per_hour > pools[p].usd_per_hour:
        return False
    equal = pools[q].usd_per_hour == pools[p].usd_per_hour and np.array_equal(
        seconds[:, q], seconds[:, p]
    )
    return bool(np.all(seconds[:, q] <= seconds[:, p])) and (not equal or q < p)

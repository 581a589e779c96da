"""What-if questions: the same demand under another promise, price or choice of GPUs.

A change is text: `tpot_s=0.06`, `ttft_s=1`, `attainment=0.999`, `rate=40`, `price.H100=5` ($ per
GPU-hour, or per backend-hour of a pool by name), `without=A10G`, `with=L4` or `with=L4:0.80`;
several changes are joined by commas. Must not know how plans are found or shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner import shipped
from planner.engine import catalogue
from planner.engine.hardware import Gpu
from planner.engine.profiles import Profile, analytic
from planner.engine.roofline import roofline
from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision

TARGETS = ("ttft_s", "tpot_s", "attainment")
KINDS = f"{', '.join(TARGETS)}, rate, price.GPU, without, with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A change, and the cheapest plan under it."""

    change: str
    plan: Plan


def alternative(
    change: str, demand: Demand, pools: tuple[Pool, ...], *, usd: Mapping[str, float] | None = None
) -> Alternative:
    """The cheapest plan after a change, or after several joined by commas.

    usd: $ per GPU-hour of GPU types that the change may add. Raises InvalidValue for a change that
    is no `KEY=VALUE` or names nothing known.
    """
    # In order: a later change sees the earlier ones, so a GPU that was added can be priced anew.
    changed_demand, changed_pools = demand, pools
    for single in change.split(","):
        changed_demand, changed_pools = apply_change(
            single.strip(), changed_demand, changed_pools, usd or {}
        )
    return Alternative(change=change, plan=provision(changed_demand, changed_pools))


def apply_change(
    change: str, demand: Demand, pools: tuple[Pool, ...], usd: Mapping[str, float]
) -> tuple[Demand, tuple[Pool, ...]]:
    """Demand and pools after one change. Raises as `alternative` does."""
    key, equals, value = change.partition("=")
    if not equals or not value:
        raise InvalidValue(f"what-if `{change}`: must be KEY=VALUE with KEY of {KINDS}")
    if key in TARGETS:
        return with_target(demand, key, _number(change, value)), pools
    if key == "rate":
        return demand.scaled_to(_number(change, value)), pools
    if key.startswith("price."):
        return demand, _priced(change, pools, key.removeprefix("price."), _number(change, value))
    if key == "without":
        left = tuple(pool for pool in pools if not _is_named(pool, value))
        if not left or len(left) == len(pools):
            raise InvalidValue(f"what-if `{change}`: {_known(pools, 'one of several')}")
        return demand, left
    if key == "with":
        return demand, (*pools, *_added(change, pools, value, usd))
    raise InvalidValue(f"what-if `{change}`: unknown `{key}`; known are {KINDS}")


def with_target(demand: Demand, target: str, value: float) -> Demand:
    """The demand with one target, a name of `TARGETS`, at another value in every class's SLO."""
    classes = tuple(
        replace(slo_class, slo=replace(slo_class.slo, **{target: value}))
        for slo_class in demand.buckets.classes
    )
    return replace(demand, buckets=replace(demand.buckets, classes=classes))


def _priced(change: str, pools: tuple[Pool, ...], name: str, usd: float) -> tuple[Pool, ...]:
    """The pools with another price: of a pool by its name, or of all pools of a GPU type."""
    if not any(_is_named(pool, name) for pool in pools):
        raise InvalidValue(f"what-if `{change}`: {_known(pools, 'a GPU or a pool')}")
    return tuple(
        replace(pool, usd_per_hour=usd * (1 if name == pool.name else pool.gpus))
        if _is_named(pool, name)
        else pool
        for pool in pools
    )


def _added(
    change: str, pools: tuple[Pool, ...], value: str, usd: Mapping[str, float]
) -> tuple[Pool, ...]:
    """A new pool of one GPU type for every model, with the analytic profile and no upper bound."""
    name, colon, price = value.partition(":")
    row = shipped.lookup(name, catalogue.gpus())
    if row is None:
        raise InvalidValue(f"what-if `{change}`: {shipped.unknown(name, catalogue.gpus())}")
    gpu = row.name
    if not colon and gpu not in usd:
        raise InvalidValue(f"what-if `{change}`: no price known; say with={gpu}:USD")
    dollars = _number(change, price) if colon else usd[gpu]
    first = {pool.model: pool for pool in reversed(pools)}  # reversed: the first of a model stays
    return tuple(
        Pool(
            name=f"new {gpu}" if len(first) == 1 else f"new {gpu} {model}",
            model=model,
            profile=_profile(change, pool.profile, row),
            usd_per_hour=dollars,
        )
        for model, pool in first.items()
    )


def _profile(change: str, like: Profile, gpu: Gpu) -> Profile:
    """The profile of one GPU with the model, dtype and engine limits of another profile."""
    old = like.roofline
    if old is None:
        raise InvalidValue(f"what-if `{change}`: no figures of {like.model} but measured points")
    widths = {"weight_bytes": old.weight_bytes, "kv_bytes": old.kv_bytes}
    return analytic(
        roofline(gpu, old.model, old.engine, **widths),
        max_num_seqs=like.max_num_seqs,
        max_num_batched_tokens=like.max_num_batched_tokens,
        max_model_len=like.max_model_len,
    )


def _is_named(pool: Pool, name: str) -> bool:
    """Whether a name, of a pool or of a GPU type in any case, is that of a pool."""
    return pool.name == name or pool.gpu.lower() == name.lower()


def _known(pools: tuple[Pool, ...], wanted: str) -> str:
    names = dict.fromkeys(pool.gpu for pool in pools)
    return f"must name {wanted}; there are {', '.join(names)}"


def _number(change: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidValue(f"what-if `{change}`: not a number: `{text}`") from None

"""The same demand under another promise, price or choice of GPUs, and what that would cost.

A change is text: `tpot_s=0.06`, `ttft_s=1`, `attainment=0.999`, `rate=40`, `price.H100=5` ($ per
GPU-hour, or per backend-hour of a pool by name), `without=A10G`, `with=L4` or `with=L4:0.80`;
several in one are joined by commas. Knows demands and pools only.
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
    """One change, and the cheapest plan under it."""

    change: str
    plan: Plan

    @property
    def unserved_share(self) -> float:
        total = sum(self.plan.rate)
        return sum(u.rate for u in self.plan.unserved) / total if total else 0.0


def alternative(
    change: str, demand: Demand, pools: tuple[Pool, ...], *, usd: Mapping[str, float] | None = None
) -> Alternative:
    """What a change would cost. usd: $ per GPU-hour of GPUs that the change may add.

    Raises InvalidValue for a change that says nothing or names nothing known.
    """
    changed, fleet = demand, pools
    for one in change.split(","):
        changed, fleet = apply(one.strip(), changed, fleet, usd or {})
    return Alternative(change=change, plan=provision(changed, fleet))


def apply(
    change: str, demand: Demand, pools: tuple[Pool, ...], usd: Mapping[str, float]
) -> tuple[Demand, tuple[Pool, ...]]:
    """Demand and pools after one change."""
    key, equals, value = change.partition("=")
    if not equals or not value:
        raise InvalidValue(f"what-if `{change}`: must be KEY=VALUE with KEY of {KINDS}")
    if key in TARGETS:
        return promised(demand, key, _number(change, value)), pools
    if key == "rate":
        return demand.scaled_to(_number(change, value)), pools
    if key.startswith("price."):
        return demand, _priced(change, pools, key.removeprefix("price."), _number(change, value))
    if key == "without":
        left = tuple(pool for pool in pools if not _is(pool, value))
        if not left or len(left) == len(pools):
            raise InvalidValue(f"what-if `{change}`: {_known(pools, 'one of several')}")
        return demand, left
    if key == "with":
        return demand, (*pools, *_added(change, pools, value, usd))
    raise InvalidValue(f"what-if `{change}`: unknown `{key}`; known are {KINDS}")


def promised(demand: Demand, target: str, value: float) -> Demand:
    """The demand with one target of every class's SLO at another value."""
    classes = tuple(
        replace(kind, slo=replace(kind.slo, **{target: value})) for kind in demand.buckets.classes
    )
    return replace(demand, buckets=replace(demand.buckets, classes=classes))


def _priced(change: str, pools: tuple[Pool, ...], what: str, usd: float) -> tuple[Pool, ...]:
    if not any(_is(pool, what) for pool in pools):
        raise InvalidValue(f"what-if `{change}`: {_known(pools, 'a GPU or a pool')}")
    return tuple(
        replace(pool, usd_per_hour=usd * (1 if what == pool.name else pool.gpus))
        if _is(pool, what)
        else pool
        for pool in pools
    )


def _added(
    change: str, pools: tuple[Pool, ...], value: str, usd: Mapping[str, float]
) -> tuple[Pool, ...]:
    """A pool of one GPU type for every model, by the analytic profile, as many as it takes."""
    name, colon, price = value.partition(":")
    row = shipped.lookup(name, catalogue.gpus())
    if row is None:
        raise InvalidValue(f"what-if `{change}`: {shipped.unknown(name, catalogue.gpus())}")
    gpu = row.name
    if not colon and gpu not in usd:
        raise InvalidValue(f"what-if `{change}`: no price known; say with={gpu}:USD")
    dollars = _number(change, price) if colon else usd[gpu]
    first = {pool.model: pool for pool in reversed(pools)}
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
    """What one GPU does with the model, dtype and engine limits of another profile."""
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


def _is(pool: Pool, what: str) -> bool:
    return pool.name == what or pool.gpu.lower() == what.lower()


def _known(pools: tuple[Pool, ...], kind: str) -> str:
    names = dict.fromkeys(pool.gpu for pool in pools)
    return f"must name {kind}; there are {', '.join(names)}"


def _number(change: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidValue(f"what-if `{change}`: not a number: `{text}`") from None

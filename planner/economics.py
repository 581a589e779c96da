"""What plans cost: prices of GPUs, and what the same demand costs on one GPU type alone.

A price file (`cuvee-prices/1`) names where and when each price was read: prices move the plan as
much as profiles do. Knows nothing of how plans are found.
"""

import datetime
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from planner.errors import InvalidFile
from planner.model import Demand, Plan, Pool
from planner.solve import provision


class Price(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """US dollars per GPU-hour, and where that was read."""

    usd: float
    source: str
    region: str
    date: datetime.date
    instance: str | None = None


class PriceFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format; the entries are read one by one, so that errors can name them."""

    format: Literal["cuvee-prices/1"]
    usd_per_gpu_hour: dict[str, Any]


def prices(path: Path) -> Mapping[str, float]:
    """US dollars per GPU-hour by GPU name. Raises InvalidFile naming the file and the key."""
    try:
        file = msgspec.yaml.decode(path.read_bytes(), type=PriceFile)
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidFile(f"{path}: {error}") from error
    return {gpu: _price(path, gpu, entry).usd for gpu, entry in file.usd_per_gpu_hour.items()}


def single_types(
    demand: Demand,
    pools: tuple[Pool, ...],
    *,
    time_limit_s: float = 5.0,
    gap: float = 1e-4,
) -> dict[str, Plan]:
    """For each GPU type the cheapest plan that uses it alone, as many of it as that takes.

    `2xA100-80G` counts as A100-80G. A type that cannot serve everything says so in `unserved`:
    its cost is then for less work than the others'.
    """
    plans = {}
    for gpu in dict.fromkeys(pool.profile.roofline.gpu.name for pool in pools):
        alone = tuple(
            replace(pool, max_backends=None)
            for pool in pools
            if pool.profile.roofline.gpu.name == gpu
        )
        plans[gpu] = provision(demand, alone, time_limit_s=time_limit_s, gap=gap)
    return plans


def best_single(plans: Mapping[str, Plan]) -> str | None:
    """The GPU type whose plan is cheapest among those that serve everything; None: none does."""
    able = {gpu: plan.usd_per_hour for gpu, plan in plans.items() if not plan.unserved}
    return min(able, key=lambda gpu: able[gpu], default=None)


def _price(path: Path, gpu: str, entry: Any) -> Price:
    key = f"usd_per_gpu_hour.{gpu}"
    try:
        price = msgspec.convert(entry, Price)
    except msgspec.ValidationError as error:
        raise InvalidFile(f"{path}: {key}: {error}") from error
    if not 0 <= price.usd < math.inf:
        raise InvalidFile(f"{path}: {key}.usd: must be finite and not negative: {price.usd}")
    return price

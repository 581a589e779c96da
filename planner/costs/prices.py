"""Prices of GPUs, from a file (`cuvee-prices/1`) that names source and date of each.

Source and date are required, because prices move a plan as much as profiles do. Must not know
plans.
"""

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from planner.errors import InvalidFile
from planner.files import decoded

MOST_USD = 1000.0  # of one GPU for an hour: no offer is near it, and prices in cents are above


class Price(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """US dollars per GPU-hour, with source, region and date of the offer."""

    usd: float
    source: str
    region: str
    date: datetime.date
    instance: str | None = None


class PriceFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format. Entries are decoded one by one, so that an error can name its entry."""

    format: Literal["cuvee-prices/1"]
    usd_per_gpu_hour: dict[str, Any]


def read_prices(path: Path) -> Mapping[str, float]:
    """US dollars per GPU-hour by GPU name. Raises InvalidFile naming the file and the key."""
    return {gpu: price.usd for gpu, price in read_list(path).items()}


def read_list(path: Path) -> Mapping[str, Price]:
    """Prices with their sources and dates by GPU name. Raises as `read_prices`."""
    file = decoded(path, PriceFile)
    return {gpu: _price(path, gpu, entry) for gpu, entry in file.usd_per_gpu_hour.items()}


def _price(path: Path, gpu: str, entry: Any) -> Price:
    key = f"usd_per_gpu_hour.{gpu}"
    try:
        price = msgspec.convert(entry, Price)
    except msgspec.ValidationError as error:
        raise InvalidFile(f"{path}: {key}: {error}") from error
    if not 0 <= price.usd < math.inf:
        raise InvalidFile(f"{path}: {key}.usd: must be finite and not negative: {price.usd}")
    if price.usd == 0:
        text = "0: nobody rents out GPUs for nothing, and a plan would take all there are"
        raise InvalidFile(f"{path}: {key}.usd: {text}; for what is paid for there is `reserved`")
    if price.usd > MOST_USD:
        text = f"{price.usd:g}: in dollars per GPU-hour, at most {MOST_USD:g}"
        raise InvalidFile(f"{path}: {key}.usd: {text}")
    return price

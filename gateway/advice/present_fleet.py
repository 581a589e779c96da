"""What runs now, as its user names it, and what it costs beside another fleet. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner import shipped
from planner.engine import catalogue
from planner.errors import InvalidValue

NAMED = re.compile(r"(?:(\d+)[xX])?([^=]+?)(?:=(\d+))?")
MOST_GPUS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentEngines:
    """Engines of one kind. gpus: of each, of this GPU type. count: engines."""

    gpu: str
    gpus: int
    count: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.count} {self.gpu if self.gpus == 1 else f'{self.gpus}x{self.gpu}'}"


def present_engines(named: Sequence[str], engines: int | None) -> tuple[PresentEngines, ...]:
    """The engines that run. named: `A10G`, `2xH100`, or `A10G=3` where there are several kinds.
    engines: how many there are, as far as that is known. Raises InvalidValue."""
    found = [_engines(text, engines if len(named) == 1 else None) for text in named]
    total = sum(one.count for one in found)
    if found and engines is not None and total != engines:
        raise InvalidValue(
            f"--gpu names {total} engines, and {engines} are watched: write the numbers of each "
            "kind, as --gpu A10G=3 --gpu 2xH100=1"
        )
    return tuple(found)


def bill(present: Sequence[PresentEngines], usd: Mapping[str, float]) -> float:
    """What they cost, $/h. usd: $ per GPU-hour. Raises InvalidValue for a GPU without a price."""
    whole = 0.0
    for one in present:
        price = shipped.lookup(one.gpu, usd)
        if price is None:
            raise InvalidValue(f"{one.gpu} has no price in the price list")
        whole += one.count * one.gpus * price
    return whole


def _engines(text: str, engines: int | None) -> PresentEngines:
    match = NAMED.fullmatch(text)
    if match is None:
        raise InvalidValue(f"--gpu {text}: must be a GPU type, as A10G, 2xH100 or A10G=3")
    gpus, gpu, count = int(match[1] or 1), match[2], match[3]
    if shipped.lookup(gpu, catalogue.gpus()) is None:
        raise InvalidValue(f"--gpu: {shipped.unknown(gpu, catalogue.gpus())}")
    number = int(count) if count is not None else (1 if engines is None else engines)
    if not 1 <= gpus <= MOST_GPUS or number < 1:
        raise InvalidValue(f"--gpu {text}: there is at least one of each")
    return PresentEngines(gpu=gpu, gpus=gpus, count=number)

"""What changes from one plan to another: backends, shares of request sizes, cost, proofs.

Compares plans as JSON (`planner/model/plan_json`), so that one may be of a file or of a gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from planner.errors import InvalidFile

LEAST_MOVED = 0.01  # of the requests: less is what chance makes of the same demand
LEAST_USD = 0.005  # $/h
Cell = tuple[str, str, int, int, int, int]  # model, class, edges of the input and of the output


class CellJson(msgspec.Struct, frozen=True):
    """A bucket in the JSON of a plan."""

    model: str
    slo_class: str
    input: tuple[int, int]
    output: tuple[int, int]

    @property
    def key(self) -> Cell:
        return (self.model, self.slo_class, *self.input, *self.output)

    @property
    def words(self) -> str:
        """For people."""
        named = self.model if self.slo_class == "default" else f"{self.model} {self.slo_class}"
        inputs, outputs = (f"{low}–{high}" for low, high in (self.input, self.output))
        return f"{named} in {inputs} out {outputs}"


class BucketsJson(msgspec.Struct, frozen=True):
    """The buckets in the JSON of a plan."""

    cells: tuple[CellJson, ...]


class CertificateJson(msgspec.Struct, frozen=True):
    """The certificate in the JSON of a plan, as far as plans are compared by it."""

    attainment: float
    target: float
    holds: bool


class PlanJson(msgspec.Struct, frozen=True):
    """A plan as `plan_figures` writes it, as far as plans are compared."""

    plan_id: str
    usd_per_hour: float
    lower_bound_usd_per_hour: float
    pools: tuple[str, ...]
    backends: dict[str, int]
    buckets: BucketsJson
    rate: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    certificate: CertificateJson | None = None

    def shares(self) -> dict[Cell, dict[str, float]]:
        """By bucket the shares of the pools that serve it."""
        rows = zip(self.buckets.cells, self.weights, strict=True)
        return {
            cell.key: {pool: w for pool, w in zip(self.pools, row, strict=True) if w > 0}
            for cell, row in rows
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedShare:
    """A bucket of which other pools get other shares. moved: of its requests. rate: requests/s.
    before, after: shares by pool."""

    what: str
    rate: float
    moved: float
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """A plan beside the one before. backends: by pool, before and after. moves: the buckets that
    move, most requests first; `None` where sizes are cut otherwise, so that none compare. moved: of
    all requests, those that would go to another pool."""

    before: PlanJson
    after: PlanJson
    backends: Mapping[str, tuple[int, int]]
    moves: tuple[MovedShare, ...] | None
    moved: float

    @property
    def changes(self) -> bool:
        """Whether backends start or stop, the bill is another one, or more requests go to another
        pool than chance would move."""
        usd = abs(self.after.usd_per_hour - self.before.usd_per_hour)
        counts = any(then != now for then, now in self.backends.values())
        return counts or usd >= LEAST_USD or self.moves is None or self.moved >= LEAST_MOVED


def plan_of(value: Any) -> PlanJson:
    """A plan of its JSON. Raises InvalidFile."""
    try:
        plan = msgspec.convert(value, PlanJson)
    except msgspec.ValidationError as error:
        raise InvalidFile(f"no plan as JSON: {error}") from error
    if not len(plan.buckets.cells) == len(plan.weights) == len(plan.rate):
        raise InvalidFile("no plan as JSON: its buckets, weights and rates differ in number")
    if any(len(row) != len(plan.pools) for row in plan.weights):
        raise InvalidFile("no plan as JSON: a row of weights has not one for each pool")
    return plan


def read_plan(path: Path) -> PlanJson:
    """A plan that was saved: the answer of `/cuvee/plan`, or of `cuvee plan --json`. Raises
    InvalidFile."""
    try:
        return plan_of(msgspec.json.decode(path.read_bytes()))
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path}: not JSON: {error}") from error
    except InvalidFile as error:
        raise InvalidFile(f"{path}: {error}") from error


def plan_change(before: PlanJson, after: PlanJson) -> PlanChange:
    """What changes from one plan to another."""
    names = dict.fromkeys([*before.backends, *after.backends])
    counts = {n: (before.backends.get(n, 0), after.backends.get(n, 0)) for n in names}
    then, now = before.shares(), after.shares()
    moves: list[MovedShare] | None = None
    moved = 0.0
    if then.keys() == now.keys():
        moves = []
        total = sum(after.rate) or sum(before.rate)
        rates = after.rate if sum(after.rate) else before.rate
        for cell, rate in zip(after.buckets.cells, rates, strict=True):
            share = _moved(then[cell.key], now[cell.key])
            if share >= LEAST_MOVED and rate > 0:
                moves.append(
                    MovedShare(
                        what=cell.words, rate=rate, moved=share, before=then[cell.key],
                        after=now[cell.key],
                    )
                )  # fmt: skip
            moved += share * rate / total if total else 0.0
        moves.sort(key=lambda one: -one.moved * one.rate)
    return PlanChange(
        before=before, after=after, backends=counts,
        moves=None if moves is None else tuple(moves), moved=moved,
    )  # fmt: skip


def _moved(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Of the requests of a bucket, those that another pool gets; all where one of the two has no
    pool."""
    names = {*before, *after}
    steps = [after.get(name, 0.0) - before.get(name, 0.0) for name in names]
    return max(sum(s for s in steps if s > 0), -sum(s for s in steps if s < 0), 0.0)

"""One model of a subproblem that several models share: its buckets, pools, costs and bounds.

Must not know how a program is solved.
"""

from dataclasses import dataclass, replace

import numpy as np

from planner.program.subproblem import (
    EXACT,
    CountBounds,
    FleetCosts,
    SpotRegion,
    Subproblem,
)
from planner.sizes import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelPart:
    """One model: the places of its buckets (rows) and of its pools (columns) in the whole."""

    rows: IntArray
    columns: IntArray


def model_parts(whole: Subproblem) -> list[ModelPart]:
    """The models of a subproblem; a pool that can serve nothing belongs to the first one."""
    models = np.unique(whole.model_index)
    able = [np.isfinite(whole.mean[whole.model_index == model]).any(axis=0) for model in models]
    owner = np.argmax(able, axis=0)
    return [
        ModelPart(
            rows=np.flatnonzero(whole.model_index == model), columns=np.flatnonzero(owner == i)
        )
        for i, model in enumerate(models)
    ]


def part_costs(whole: Subproblem, part: ModelPart, usd: FloatArray) -> FleetCosts:
    """The costs of one model's backends; usd: (m,) of all."""
    costs, columns = whole.costs, part.columns
    return replace(
        costs,
        usd=usd[columns],
        reserved=costs.reserved[columns],
        running=costs.running[columns],
    )


def _bounds(whole: Subproblem, part: ModelPart, limits: FloatArray) -> CountBounds:
    """The bounds of one model's counts within (k + 1,) limits."""
    bounds, columns = whole.bounds, part.columns
    gpus, stock = bounds.gpus[:, columns], limits[:-1]
    # Implied by the stocks; a tight bound on each count makes the relaxation tighter.
    most = np.divide(stock[:, None], gpus, where=gpus > 0, out=np.full_like(gpus, np.inf))
    most = np.floor(most.min(axis=0, initial=np.inf) + EXACT)
    least = bounds.least[columns]
    return CountBounds(
        least=least,
        most=np.maximum(least, np.minimum(bounds.most[columns], most)),
        gpus=gpus,
        stock=stock,
        budget_usd=float(limits[-1]),
    )


def cut(whole: Subproblem, part: ModelPart, limits: FloatArray, usd: FloatArray) -> Subproblem:
    """The subproblem of one model within (k + 1,) limits, at (m,) prices."""
    rows, columns, availability = part.rows, part.columns, whole.availability
    return Subproblem(
        bucket_index=whole.bucket_index[rows],
        pool_index=whole.pool_index[columns],
        model_index=whole.model_index[rows],
        rate=whole.rate[rows],
        mean=whole.mean[np.ix_(rows, columns)],
        variance=whole.variance[np.ix_(rows, columns)],
        prefill=whole.prefill.subproblem(rows, columns),
        costs=part_costs(whole, part, usd),
        bounds=_bounds(whole, part, limits),
        availability=replace(
            availability,
            away=availability.away[columns],
            confidence=availability.confidence[columns],
        ),
        regions=tuple(
            SpotRegion(
                rows=np.searchsorted(rows, region.rows),
                columns=np.searchsorted(columns, region.columns),
                most=region.most,
            )
            for region in whole.regions
            if np.isin(region.columns, columns).all()
        ),
    )

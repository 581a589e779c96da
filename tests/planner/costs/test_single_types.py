"""The same demand on one GPU type."""

from pathlib import Path

import numpy as np
import pytest

from planner.costs import prices
from planner.costs.single_types import single_types
from planner.engine import profiles
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
GPUS = ("L4", "A10G", "A100-80G", "H100")


def fleet() -> tuple[Pool, ...]:
    usd = prices.read_prices(CONFIGS / "prices" / "aws-2026-07.yaml")
    return tuple(
        Pool(
            name=gpu.lower(),
            model="m",
            profile=profiles.read_profile(CONFIGS / f"profiles/llama-3-8b/{gpu}.yaml"),
            usd_per_hour=usd[gpu],
            max_backends=None,
        )
        for gpu in GPUS
    )


def demand(seed: int, rate: float, tpot_s: float) -> Demand:
    random = np.random.default_rng(seed)
    grid = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
    inputs = np.clip(random.lognormal(6, 1, 500), 2, 5000).round()
    outputs = np.clip(random.lognormal(5, 1, 500), 1, 900).round()
    buckets = Buckets(classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=tpot_s)),), grid=grid)
    return demand_from_samples(
        buckets, grid.cell_of(inputs, outputs), inputs, outputs, duration_s=50, dispersion=(2.0,)
    ).scaled_to(rate)


@pytest.mark.parametrize(("seed", "rate", "tpot_s"), [(1, 3, 0.12), (2, 15, 0.08), (3, 60, 0.06)])
def test_a_single_type_never_beats_the_mix(seed: int, rate: float, tpot_s: float):
    """Each type's plan uses that type alone, and none that serves everything is cheaper."""
    asked, pools = demand(seed, rate, tpot_s), fleet()
    mix = provision(asked, pools)

    alone = single_types(asked, pools)
    able = [plan for plan in alone.values() if not plan.unserved]

    assert set(alone) == set(GPUS)
    assert able
    assert all(mix.usd_per_hour <= plan.usd_per_hour + 1e-9 for plan in able)
    assert all(len(plan.pools) == 1 for plan in alone.values())


def test_a_type_that_cannot_serve_everything_says_so():
    """L4 cannot hold 50 ms for an 8B model: its plan names the reason, and another type can."""
    alone = single_types(demand(1, 5, 0.05), fleet())

    assert alone["L4"].unserved_share > 0
    assert all("no pool holds TPOT 0.05 s" in bucket.reason for bucket in alone["L4"].unserved)
    assert any(plan.unserved_share == 0 for plan in alone.values())

"""The offers of models that share limits: they fit together, and what they prove is true."""

import itertools
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program import search
from planner.program.decompose import subproblems
from planner.program.highs import HighsProgram
from planner.program.limits import Limits, Stock
from planner.program.negotiation import Negotiation
from planner.program.problem import Problem
from planner.program.solve import assign, provision
from planner.program.subproblem import EXACT, Subproblem
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
USD = {"L4": 0.8, "H100": 6.88}
LIMIT_S = 60.0


def pool(gpu: str, model: str) -> Pool:
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
    profile = profiles.build(spec)
    return Pool(name=f"{gpu}-{model}", model=model, profile=profile, usd_per_hour=USD[gpu])


POOLS = tuple(pool(gpu, model) for model in ("m", "n") for gpu in USD)


def demand(seed: int, rate: float = 20.0) -> Demand:
    """Two models with some hundred sizes each."""
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6.3, 1.1, 400), 2, 7000).round()
    outputs = np.clip(random.lognormal(4.8, 1, 400), 1, 1000).round()
    classes = tuple(SloClass(model=m, slo=Slo(ttft_s=2, tpot_s=0.08)) for m in ("m", "n"))
    buckets = Buckets(classes=classes, grid=GRID)
    bucket = GRID.cell_of(inputs, outputs) + GRID.cells * random.integers(0, 2, 400)
    return demand_from_samples(
        buckets, bucket, inputs, outputs, duration_s=100.0, dispersion=(2.0, 2.0)
    ).scaled_to(rate)


def limits(l4: int, h100: int, **options: Any) -> Limits:
    return Limits(stock=(Stock(gpu="L4", most=l4), Stock(gpu="H100", most=h100)), **options)


def market(asked: Demand, bounds: Limits) -> tuple[Subproblem, Negotiation]:
    (whole,) = subproblems(Problem.of(asked, POOLS, bounds))
    programs = partial(HighsProgram, ends_s=time.perf_counter() + LIMIT_S, gap=1e-4)
    return whole, Negotiation(whole, programs)


@pytest.mark.parametrize("seed", range(3))
def test_what_fits_costs_what_the_models_cost_alone(seed: int):
    """A stock that is large enough changes nothing, and the gap is still proven."""
    asked = demand(seed)

    plan = provision(asked, POOLS, limits(500, 500))

    free = provision(asked, POOLS)
    assert plan.usd_per_hour == pytest.approx(free.usd_per_hour)
    assert plan.gap <= free.gap + 1e-9
    assert not plan.unserved


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("most", [(4, 2), (6, 1), (12, 0)])
def test_offers_are_within_the_stock_and_the_bound_is_true(seed: int, most: tuple[int, int]):
    """No fleet within the stock that holds all demand is cheaper than what is proven."""
    asked = demand(seed, 8.0)
    whole, offers = market(asked, limits(*most))

    offers.ask()
    offers.take_turns()
    offers.haggle(None)
    best = offers.best()

    assert whole.legal(best.backends)
    assert whole.counts(best.weights) == pytest.approx(best.backends)
    cheapest = min(
        (
            sum(n * p.usd_per_hour for n, p in zip(counts, POOLS, strict=True))
            for counts in itertools.product(*(range(most[g] + 1) for _ in "mn" for g in (0, 1)))
            if counts[0] + counts[2] <= most[0] and counts[1] + counts[3] <= most[1]
            if holds(asked, counts)
        ),
        default=None,
    )
    if offers.serves_all:
        assert cheapest is not None
        assert best.usd * (1 - best.gap) <= cheapest + EXACT


def holds(asked: Demand, counts: tuple[int, ...]) -> bool:
    """Whether a fleet serves everything: each model alone, as no backend serves both."""
    plan = assign(asked, POOLS, counts)
    need = zip(plan.load, plan.tail, counts, strict=True)
    return not plan.unserved and all(load + tail <= n + EXACT for load, tail, n in need)


@pytest.mark.parametrize("seed", range(3))
def test_improving_never_makes_it_worse(seed: int):
    """Neither more unserved nor, of as much, dearer."""
    whole, offers = market(demand(seed, 40.0), limits(8, 1))
    offers.ask()
    shares = search.least_unserved(whole, HighsProgram(whole, ends_s=np.inf, gap=0.0))
    assert shares is not None
    offers.divide(shares)
    before = whole.lost(offers.best().weights)

    offers.improve()

    assert whole.lost(offers.best().weights) <= before + EXACT


def test_a_budget_is_shared_too():
    """What all models cost together is within it."""
    asked = demand(0, 40.0)
    free = provision(asked, POOLS).usd_per_hour

    plan = provision(asked, POOLS, Limits(budget_usd_per_hour=0.6 * free))

    assert plan.usd_per_hour <= 0.6 * free + EXACT
    assert plan.unserved
    assert plan.relaxation is not None


def test_scarce_gpus_go_where_they_are_needed():
    """A model that runs on nothing else gets them, though another one would like them more."""
    asked = demand(1, 40.0)
    cheap = [replace(p, usd_per_hour=1.0) if p.gpu == "H100" else p for p in POOLS]
    pools = tuple(p for p in cheap if p.name != "L4-m")
    wanted = dict(zip((p.name for p in pools), provision(asked, pools).backends, strict=True))
    most = wanted["H100-m"] + 1  # some requests of n, too, run on nothing else

    plan = provision(asked, pools, limits(100, most))

    assert wanted["H100-m"] + wanted["H100-n"] > most
    assert not plan.unserved


def test_a_running_fleet_is_counted_in_all_models():
    """Switching costs are those of the whole fleet; nothing is moved without need."""
    asked = demand(2)
    plan = provision(asked, POOLS, limits(20, 20))

    again = provision(
        asked, POOLS, replace(limits(20, 20), running=plan.backends, start_usd=5.0, stop_usd=5.0)
    )

    assert again.backends == plan.backends
    assert again.switching_usd_per_hour == 0

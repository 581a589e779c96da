"""Models that share a limit, planned one by one: never worse than as one program."""

import time
from functools import partial

import pytest

from planner.program import by_model, search
from planner.program.decompose import subproblems
from planner.program.highs import HighsProgram
from planner.program.limits import Limits, Stock
from planner.program.problem import Problem
from planner.program.subproblem import DUST
from tests.planner.program.test_negotiation import POOLS, demand

LIMIT_S = 60.0


@pytest.mark.parametrize(("l4", "h100"), [(500, 500), (30, 1), (6, 2), (8, 0)])
def test_it_is_as_good_as_one_program(l4: int, h100: int):
    """It leaves no more unserved, and what serves as much is no dearer."""
    stock = (Stock(gpu="L4", most=l4), Stock(gpu="H100", most=h100))
    (whole,) = subproblems(Problem.of(demand(3, 20.0), POOLS, Limits(stock=stock)))
    programs = partial(HighsProgram, ends_s=time.perf_counter() + LIMIT_S, gap=1e-4)

    split = by_model.min_cost(whole, programs)

    one = search.min_cost(whole, programs(whole))
    assert whole.legal(split.backends)
    assert whole.lost(split.weights) <= whole.lost(one.weights) + DUST
    if whole.lost(one.weights) <= DUST:
        assert split.usd <= one.usd * (1 + 1e-4)


def test_one_model_is_one_program():
    """Nothing is shared, so nothing is divided."""
    of_one = tuple(pool for pool in POOLS if pool.model == "m")
    (whole,) = subproblems(Problem.of(demand(0), of_one, Limits()))
    programs = partial(HighsProgram, ends_s=time.perf_counter() + LIMIT_S, gap=1e-4)

    assert by_model.min_cost(whole, programs).usd == search.min_cost(whole, programs(whole)).usd

"""One model of a subproblem: all that is its own, and what is left of what is shared."""

import numpy as np
import pytest

from planner.program.decompose import subproblems
from planner.program.limits import Limits, Stock
from planner.program.parts import cut, model_parts
from planner.program.problem import Problem
from planner.program.subproblem import Subproblem
from tests.planner.program.test_negotiation import POOLS, demand


@pytest.fixture
def whole() -> Subproblem:
    stock = (Stock(gpu="L4", most=9), Stock(gpu="H100", most=4))
    (both,) = subproblems(Problem.of(demand(0), POOLS, Limits(stock=stock)))
    return both


def test_every_model_is_a_part(whole):
    """Each bucket and each pool belongs to one model."""
    parts = model_parts(whole)

    rows = np.concatenate([part.rows for part in parts])
    columns = np.concatenate([part.columns for part in parts])
    assert sorted(rows) == list(range(len(whole.rate)))
    assert sorted(columns) == list(range(len(whole.costs.usd)))


def test_a_part_has_what_is_left(whole):
    """Its loads are those of the whole; its counts fit into what others leave."""
    part = model_parts(whole)[1]
    left = np.array([5.0, 0.0, 100.0])

    one = cut(whole, part, left, whole.costs.usd)

    assert np.array_equal(one.mean, whole.mean[np.ix_(part.rows, part.columns)])
    assert np.array_equal(one.bucket_index, whole.bucket_index[part.rows])
    assert dict(zip(one.pool_index.tolist(), one.bounds.most.tolist(), strict=True)) == {2: 5, 3: 0}
    assert one.bounds.budget_usd == 100.0
    assert one.legal(np.array([5.0, 0.0]))
    assert not one.legal(np.array([5.0, 1.0]))

"""Mélange's integer program over slices of buckets, solved by CBC through PuLP.

    min  Σ_j usd[j]·B[j]
    s.t. Σ_j A[i,j] = 1                    for every slice i
         Σ_i A[i,j]·load[i,j] ≤ B[j]       B integer

A slice goes to one GPU type whole. The slices of a bucket are all alike, so one integer, how many
of them a type gets, may stand for their binaries: the same program without its symmetry. Must not
know how loads are made, nor Cuvée's own program, which has no slices.
"""

import numpy as np
import pulp

from planner.errors import SolverFailed
from planner.sizes import FloatArray


def assign_slices(
    load: FloatArray,
    usd: FloatArray,
    slices: int,
    *,
    per_variable: int = 1,
    gap: float | None = None,
    time_limit_s: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Counts (P,), and the share (B, P) of its slices that each type is given.

    load: (B, P) of a whole bucket, infinite where a type cannot serve it. per_variable: how many
    slices of a bucket one variable counts; 1 makes it binary. gap: relative, CBC's own if `None`.
    Raises SolverFailed if CBC ended without a solution.
    """
    # Buckets without demand have no slices.
    owner = np.repeat(np.flatnonzero(load.max(axis=1) > 0), slices // per_variable)
    problem = pulp.LpProblem("slices", pulp.LpMinimize)
    counts = _counts(problem, usd)
    rows, columns = np.nonzero(np.isfinite(load[owner]))
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    given = [
        problem.add_variable(f"a{n:06}", 0, per_variable, pulp.LpInteger) for n in range(len(pairs))
    ]
    slice_load = (load[owner[rows], columns] / slices).tolist()
    _add_rows(problem, pairs, given, slice_load, counts, per_variable)
    problem.solve(_cbc(gap, time_limit_s))
    if any(count.varValue is None for count in counts):
        raise SolverFailed("CBC ended without a solution")
    shares = np.zeros(load.shape)
    # Rounded: CBC's integers are off by its tolerance.
    taken = np.array([round(variable.varValue) for variable in given]) / slices
    np.add.at(shares, (owner[rows], columns), taken)
    # Not the status: PuLP says `Optimal` at a time limit too, with whatever values CBC left.
    if not np.allclose(shares[owner].sum(axis=1), 1.0):
        raise SolverFailed("CBC was stopped before it had a solution: it left a slice unassigned")
    return np.array([float(round(count.varValue)) for count in counts]), shares


def _cbc(gap: float | None, time_limit_s: float | None) -> pulp.LpSolver:
    """The CBC that PuLP ships, by its path: the class named after it warns that it will go."""
    solver = pulp.COIN_CMD(
        path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False, gapRel=gap, timeLimit=time_limit_s
    )
    if not solver.available():
        raise SolverFailed("CBC, which PuLP ships, cannot be run on this machine")
    return solver


def _counts(problem: pulp.LpProblem, usd: FloatArray) -> list[pulp.LpVariable]:
    """The counts B, and the objective."""
    counts = [problem.add_variable(f"b{p}", 0, cat=pulp.LpInteger) for p in range(len(usd))]
    costs = zip(counts, usd.tolist(), strict=True)
    problem.setObjective(pulp.LpAffineExpression(list(costs)))
    return counts


def _add_rows(
    problem: pulp.LpProblem,
    pairs: list[tuple[int, int]],
    given: list[pulp.LpVariable],
    load: list[float],
    counts: list[pulp.LpVariable],
    whole: float,
) -> None:
    """The rows: the variables of each slice sum to `whole`; what a type is given fits its count.

    pairs: slice and type of each variable in `given`; load: of one slice there.
    """
    of_slice: dict[int, list[tuple[pulp.LpVariable, float]]] = {}
    of_type: list[list[tuple[pulp.LpVariable, float]]] = [[(count, -1.0)] for count in counts]
    for (row, column), variable, need in zip(pairs, given, load, strict=True):
        of_slice.setdefault(row, []).append((variable, 1.0))
        of_type[column].append((variable, need))
    for terms in of_slice.values():
        row_sum = pulp.LpAffineExpression(terms)
        problem.addConstraint(pulp.LpConstraint(row_sum, pulp.LpConstraintEQ, rhs=whole))
    for terms in of_type:
        slack = pulp.LpAffineExpression(terms)
        problem.addConstraint(pulp.LpConstraint(slack, pulp.LpConstraintLE, rhs=0.0))

"""The integer program of one subproblem, stated with PuLP and solved with HiGHS.

With shares f[b,p], unserved shares u[b], counts y[p] (integer) and pools in use w[p] (binary):

    min  Σ_p usd[p]·(y[p] − reserved[p])⁺ + start·(y[p] − running[p])⁺ + stop·(running[p] − y[p])⁺
    s.t. Σ_p f[b,p] + u[b] = 1              f only where the pool holds the bucket's SLO
         M_p + √V_p ≤ y[p] − spare·w[p]     M_p = Σ_b λ_b E[1/X] f,  V_p = Σ_b κ²z λ_b E[1/(X n*)] f
         f[b,p] ≤ w[p]                      min[p] ≤ y[p] ≤ max[p]
         Σ_p gpus[p]·y[p] ≤ stock           Σ_p usd[p]·(y[p] − reserved[p])⁺ ≤ budget
         Σ_{p in a zone's spot} Σ_b λ_b f[b,p] ≤ most_share·Σ_b λ_b

Shares are continuous, because the router can realise any share; so the only integers are one count
and one binary for each pool, and no slices of buckets that are all alike. `√V` is replaced by its
tangent, `√V ≤ √V₀/2 + V/(2√V₀)`, which is safe (`tangents`), the constant only for pools in use. A
spot pool's y grows by a slope and a constant from what must be ready (`Availability.margin`). The
gap of a solution is that to the bound at its tangents; the fluid bound is that of the whole.

u is 0 unless that is impossible. Then the rate left unserved is minimised first, and the cost with
that fixed: no price can make it pay to drop a request. With y given, the peak t in
`M_p + √V_p ≤ t·y[p]` is minimised instead.

PuLP builds the model once for a subproblem. Between solves only coefficients, costs and bounds are
changed in HiGHS, so that each solve starts from the last basis. Together with `baselines`, which
uses CBC, this is the only module that imports PuLP. Must not know which fleets are searched.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pulp

from planner.program.lp import LpSolution
from planner.program.subproblem import Subproblem
from planner.sizes import FloatArray

# The solver's tolerance on rows and integers, well within `subproblem.EXACT`. HiGHS' own default
# for integers is 1e-6: all that the exact check allows a count to miss.
TIGHT = 1e-8
INTEGER = 1  # HiGHS' kInteger
FEASIBLE = 2  # HiGHS' kSolutionStatusFeasible
# Up to so many pools, and hence integers, HiGHS' heuristics cost more than the branching that they
# save: without these options 54 problems with 4 and 12 pools took 1.1 to 1.3 times the CPU time.
SMALL = 8
SMALL_OPTIONS = {
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
}
# Seconds that every solve may take even when the time is up: a plan needs an answer to all of its
# subproblems, and the first of them may have used the time of the others.
LEAST_S = 0.1
# Of the time that is left: the rest is for other models, and for the search of the limit to lift.
LOOSE = 0.6

Row = tuple[dict[int, float], int, float]  # coefficients by column, sense, right side


class HighsProgram:
    """The program of one subproblem in HiGHS: a `lp.Program`.

    Columns in their order: a share for each feasible pair of bucket and pool; u for each bucket if
    demand may be unserved (`loose`); w, then y for each pool; t; for each pool with reserved
    backends the part of y that is paid for; and, if changes cost, backends started and stopped for
    each pool. t is fixed at 0 but for `min_peak`. Each use sets the bounds of w and y, and the
    coefficients of the rows that hold the pools.
    """

    def __init__(
        self, subproblem: Subproblem, *, ends_s: float, gap: float, loose: bool = False
    ) -> None:
        """ends_s: when the time is up, on `time.perf_counter`. gap: relative, of the integers."""
        self.subproblem, self.gap, self._ends_s = subproblem, gap, ends_s
        costs = subproblem.costs
        n, m = subproblem.mean.shape
        self._rows, self._cols = np.isfinite(subproblem.mean).nonzero()
        self._u = len(self._rows)
        self._w = self._u + (n if loose else 0)
        self._y, self._t = self._w + m, self._w + 2 * m
        self._paid = {int(p): i for i, p in enumerate(np.flatnonzero(costs.reserved), self._t + 1)}
        self._moved = self._t + 1 + len(self._paid)
        self._ends = self._moved + (2 * m if costs.start_usd or costs.stop_usd else 0)
        self._finite = np.where(np.isfinite(subproblem.mean), subproblem.mean, 0.0)
        # The rows that hold pools: row and column of every coefficient, and its value in HiGHS now,
        # so that only coefficients that differ are sent.
        pools = np.arange(m)
        self._held_row = n + np.concatenate([self._cols, pools, pools])
        shares = np.arange(self._u)
        self._held_column = np.concatenate([shares, self._w + pools, np.full(m, self._t)])
        self._held_value = np.full(self._u + 2 * m, np.nan)
        self._highs, self._integers_declared = self._open(), False

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self._ends_s

    def loosened(self) -> "HighsProgram":
        """The same program in which demand may be unserved, within `LOOSE` of the time."""
        now_s = time.perf_counter()
        ends_s = now_s + LOOSE * max(0.0, self._ends_s - now_s)
        return HighsProgram(self.subproblem, ends_s=ends_s, gap=self.gap, loose=True)

    def _open(self) -> Any:
        """HiGHS with the program in it. Integers are declared when they are first needed: often a
        list of fleets makes the integer program unnecessary."""
        solver = pulp.HiGHS(
            mip=False,
            msg=False,
            # The cores belong to the gateway. And HiGHS has one scheduler in a process: a second
            # program with another number of threads ends without a solution.
            threads=1,
            gapRel=self.gap,
            primal_feasibility_tolerance=TIGHT,
            mip_feasibility_tolerance=TIGHT,
            **(SMALL_OPTIONS if len(self.subproblem.costs.usd) <= SMALL else {}),
        )
        problem = self._build()
        solver.createAndConfigureSolver(problem)
        solver.buildSolverModel(problem)
        return problem.solverModel

    def _build(self) -> pulp.LpProblem:
        problem = pulp.LpProblem("fleet", pulp.LpMinimize)
        columns = self._columns(problem)
        rows = [*self._demand_rows(), *self._limit_rows()]
        for number, (row, sense, right) in enumerate(rows):
            terms = pulp.LpAffineExpression([(columns[i], value) for i, value in row.items()])
            problem.addConstraint(pulp.LpConstraint(terms, sense, f"r{number}", right))
        # Any objective: each use sets its own.
        problem.setObjective(pulp.LpAffineExpression([(columns[self._y], 1.0)]))
        return problem

    def _columns(self, problem: pulp.LpProblem) -> list[pulp.LpVariable]:
        """The variables, with names in the order of the columns: PuLP sorts variables by name."""
        most = np.full(self._ends, np.inf)
        most[self._u : self._w] = most[self._t] = 0.0
        return [
            problem.add_variable(
                f"c{column:06}",
                0.0,
                None if most[column] else 0.0,
                pulp.LpInteger if self._w <= column < self._t else pulp.LpContinuous,
            )
            for column in range(self._ends)
        ]

    def _demand_rows(self) -> Iterator[Row]:
        """The rows that serve each bucket (n), hold each pool (m), and open each pool (m).

        A pool is opened by one row, `Σ_b f[b,p] ≤ n_p·w[p]`, the sum of the rows `f[b,p] ≤ w[p]`:
        the same for a binary w, with n rows fewer for each pool.
        """
        n, m = self.subproblem.mean.shape
        loose = self._w > self._u
        of_bucket: list[list[int]] = [[self._u + b] if loose else [] for b in range(n)]
        of_pool: list[list[int]] = [[] for _ in range(m)]
        for column, (b, p) in enumerate(self._pairs()):
            of_bucket[b].append(column)
            of_pool[p].append(column)
        for b in range(n):
            yield dict.fromkeys(of_bucket[b], 1.0), pulp.LpConstraintEQ, 1.0
        for p in range(m):  # every use sets the coefficients of the shares, of w and of t
            yield {self._w + p: 1.0, self._y + p: -1.0, self._t: -1.0}, pulp.LpConstraintLE, 0.0
        for p in range(m):
            used = dict.fromkeys(of_pool[p], 1.0)
            open_ = {self._w + p: -float(max(1, len(used)))}
            yield used | open_, pulp.LpConstraintLE, 0.0

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Bucket and pool of every share, in the order of the columns."""
        return zip(self._rows.tolist(), self._cols.tolist(), strict=True)

    def _limit_rows(self) -> Iterator[Row]:
        """The rows for paid, started and stopped backends, stocks, the budget and spot regions."""
        subproblem, costs, bounds = self.subproblem, self.subproblem.costs, self.subproblem.bounds
        m = len(costs.usd)
        for p, paid in self._paid.items():
            yield {self._y + p: 1.0, paid: -1.0}, pulp.LpConstraintLE, float(costs.reserved[p])
        for p in range(m) if self._ends > self._moved else ():
            y, up, down = self._y + p, self._moved + p, self._moved + m + p
            yield {y: 1.0, up: -1.0, down: 1.0}, pulp.LpConstraintEQ, float(costs.running[p])
        for gpus, stock in zip(bounds.gpus, bounds.stock, strict=True):
            taken = {self._y + int(p): float(gpus[p]) for p in np.flatnonzero(gpus)}
            yield taken, pulp.LpConstraintLE, float(stock)
        if np.isfinite(bounds.budget_usd):
            yield dict(self._bill()), pulp.LpConstraintLE, float(bounds.budget_usd)
        for region in subproblem.regions:
            rows, zone = set(region.rows.tolist()), set(region.columns.tolist())
            spot = {
                column: float(subproblem.rate[b])
                for column, (b, p) in enumerate(self._pairs())
                if b in rows and p in zone
            }
            yield spot, pulp.LpConstraintLE, region.most

    def _bill(self) -> Iterator[tuple[int, float]]:
        """The columns that cost money, and the price of each."""
        for p, usd in enumerate(self.subproblem.costs.usd.tolist()):
            yield self._paid.get(p, self._y + p), usd

    def min_cost(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares and counts of least cost; `None` if infeasible or without an answer in time."""
        costs, m = self.subproblem.costs, len(points)
        usd = dict(self._bill())
        if self._ends > self._moved:
            usd |= dict.fromkeys(range(self._moved, self._moved + m), costs.start_usd)
            usd |= dict.fromkeys(range(self._moved + m, self._ends), costs.stop_usd)
        self._free_counts(points, ready, usd)
        return self._run(relaxed=relaxed)

    def min_unserved(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares that leave the least requests/s unserved."""
        self.allow(np.ones(len(self.subproblem.rate)))
        rate = dict(enumerate(self.subproblem.rate.tolist(), self._u))
        self._free_counts(points, ready, rate)
        return self._run(relaxed=relaxed)

    def min_peak(self, points: FloatArray, room: FloatArray) -> LpSolution | None:
        """Shares of least peak of `M + √V` relative to (m,) room."""
        self._set_tangents(points, room, np.ones(len(room)), np.zeros(len(room)))
        self._set_costs({self._t: 1.0})
        open_ = (room > 0).astype(float)
        self._close_shares(open_)
        self._set_bounds(self._w, open_, open_)
        self._set_bounds(self._y, 0 * room, 0 * room)
        self._set_bounds(self._t, np.zeros(1), np.full(1, np.inf))
        return self._run(relaxed=True)

    def allow(self, unserved: FloatArray) -> None:
        """Let u go up to (n,) these shares."""
        self._set_bounds(self._u, 0 * unserved, unserved)

    def _free_counts(self, points: FloatArray, ready: FloatArray, costs: dict[int, float]) -> None:
        """Set the program up for counts that are to be found; costs: by column."""
        bounds = self.subproblem.bounds
        margin = self.subproblem.availability.margin(ready)
        self._set_tangents(points, np.zeros(len(points)), *margin)
        self._set_costs(costs)
        self._close_shares(np.ones(len(points)))
        self._set_bounds(self._w, np.zeros(len(points)), np.ones(len(points)))
        self._set_bounds(self._y, bounds.least, bounds.most)
        self._set_bounds(self._t, np.zeros(1), np.zeros(1))

    def _set_tangents(
        self, points: FloatArray, room: FloatArray, slope: FloatArray, constant: FloatArray
    ) -> None:
        """Set `slope·(M + V/(2√V₀)) + (slope·√V₀/2 + constant)·w ≤ y + room·t` for every pool."""
        root = np.sqrt(points)
        slopes = (self._finite + self.subproblem.variance / (2 * root)) * slope
        values = np.concatenate([
            slopes[self._rows, self._cols],
            slope * root / 2 + constant,
            -room,
        ])  # fmt: skip
        changed = np.flatnonzero(values != self._held_value)
        change = self._highs.changeCoeff
        for row, column, value in zip(
            self._held_row[changed].tolist(),
            self._held_column[changed].tolist(),
            values[changed].tolist(),
            strict=True,
        ):
            change(row, column, value)
        self._held_value = values

    def _set_costs(self, costs: dict[int, float]) -> None:
        """Set the objective; columns without a cost get 0."""
        values = np.zeros(self._ends - self._u)
        values[np.array(list(costs)) - self._u] = list(costs.values())
        columns = np.arange(self._u, self._ends, dtype=np.int32)
        self._highs.changeColsCost(len(columns), columns, values)

    def _close_shares(self, open_: FloatArray) -> None:
        """Fix the shares of closed pools at 0, where there are many pools.

        w = 0 forbids them already, but they slow the simplex method down: by 7 % with 48 pools.
        """
        if len(open_) > SMALL:
            most = np.where(open_ > 0, np.inf, 0.0)[self._cols]
            self._set_bounds(0, np.zeros_like(most), most)

    def _set_bounds(self, first: int, least: FloatArray, most: FloatArray) -> None:
        columns = np.arange(first, first + len(least), dtype=np.int32)
        self._highs.changeColsBounds(len(columns), columns, least, most)

    def _run(self, *, relaxed: bool) -> LpSolution | None:
        # HiGHS compares its limit with the time of all runs of this model together.
        left_s = max(LEAST_S, self._ends_s - time.perf_counter())
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + left_s)
        if not relaxed:
            self._declare_integers()
        self._highs.setOptionValue("solve_relaxation", relaxed)
        # A relaxation starts from the last basis, which is worth more than presolve: with 48 pools
        # a search with presolve took 1.2 times as long.
        self._highs.setOptionValue("presolve", "off" if relaxed else "choose")
        self._highs.run()
        info = self._highs.getInfo()
        # Not the status of the model: PuLP calls it `Optimal` at a time limit too, whatever was
        # found, so the gap is computed from the bound.
        if info.primal_solution_status != FEASIBLE:
            return None
        n, m = self.subproblem.mean.shape
        solution = self._highs.getSolution()
        weights = np.zeros((n, m))
        weights[self._rows, self._cols] = np.clip(np.array(solution.col_value)[: self._u], 0.0, 1.0)
        prices = np.zeros(m)
        if relaxed:
            # Duals of the rows that hold pools; those of ≤ rows in a minimisation are negative.
            prices = np.maximum(0.0, -np.array(solution.row_dual)[n : n + m])
        bound = info.objective_function_value if relaxed else info.mip_dual_bound
        return LpSolution(weights=weights, bound=bound, prices=prices)

    def _declare_integers(self) -> None:
        if self._integers_declared:
            return
        columns = np.arange(self._w, self._t, dtype=np.int32)
        integer = np.full(len(columns), INTEGER, dtype=np.uint8)
        self._highs.changeColsIntegrality(len(columns), columns, integer)
        self._integers_declared = True

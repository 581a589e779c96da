"""The integer program: backends per pool and the share of every bucket that each pool serves.

With shares f[b,p], unserved shares u[b], counts y[p] (integer) and pools in use w[p] (binary):

    min  Σ_p usd[p]·(y[p] − reserved[p])⁺ + start·(y[p] − running[p])⁺ + stop·(running[p] − y[p])⁺
    s.t. Σ_p f[b,p] + u[b] = 1              f only where the pool holds the bucket's SLO
         M_p + √V_p ≤ y[p] − spare·w[p]     M_p = Σ_b λ_b E[1/X] f,  V_p = Σ_b κ²z λ_b E[1/(X n*)] f
         f[b,p] ≤ w[p]                      min[p] ≤ y[p] ≤ max[p]
         Σ_p gpus[p]·y[p] ≤ stock           Σ_p usd[p]·(y[p] − reserved[p])⁺ ≤ budget
         Σ_{p in a zone's spot} Σ_b λ_b f[b,p] ≤ most_share·Σ_b λ_b

`√V` is concave, so its tangent at any V₀ > 0 lies above it and is safe: `√V ≤ √V₀/2 + V/(2√V₀)`,
the constant only for pools in use. A spot pool's y grows by a slope and a constant from what must
be ready (`Subproblem.margin`). How tangents settle and which fleets are tried is in `search`. The
gap is that to the bound at the tangents; the fluid bound is that of the whole.

u is 0 unless that is impossible. Then the rate left unserved is made least first, and the cost with
that fixed: no price can make it pay to drop a request. `assign` has y given and minimises the peak
t in `M_p + √V_p ≤ t·y[p]`. Models that no limit couples are programs of their own.

PuLP builds a program once; between rounds only its coefficients change. The status word is not
trusted (it is `Optimal` at a time limit too). Nothing else imports PuLP.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pulp

from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import search
from planner.program.assemble import assemble, relaxation
from planner.program.headroom import Loads, loads
from planner.program.limits import UNLIMITED, Limits, lifted
from planner.program.search import LpSolution
from planner.program.subproblem import Subproblem, subproblems
from planner.sizes import FloatArray

TIGHT = 1e-8  # the solver's own tolerance on rows: well within fleet.EXACT
INTEGER = 1  # HiGHS' kInteger
FEASIBLE = 2  # HiGHS' kSolutionStatusFeasible
SMALL = 8  # pools: with so few integers the solver's heuristics cost more than the tree itself
SMALL_OPTIONS = {
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
}
LEAST_S = 0.1  # that every part may take when the time is up: a plan must have all parts

Row = tuple[dict[int, float], int, float]


def provision(
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits = UNLIMITED,
    *,
    time_limit_s: float = 5.0,
    gap: float = 1e-4,
) -> Plan:
    """The cheapest fleet found that serves the demand within its SLOs, and who serves what.

    time_limit_s bounds the search over all models; gap: when a cost is near enough to its bound.
    What cannot be served is named in `Plan.unserved`; if limits are the reason they are lifted one
    at a time, all within as much time again, and `Plan.relaxation` is the one that helps most.
    Raises InvalidValue if min_backends are beyond the limits, and SolverFailed if the solver ended
    without any solution.
    """
    start_s = time.perf_counter()
    limits.check(pools)
    needs = loads(demand, pools)
    found = _provision(demand, pools, limits, needs, (start_s, time_limit_s, gap))
    if not found.unserved:
        return found
    able = {p for u in found.unserved for p in np.flatnonzero(needs.feasible[u.bucket]).tolist()}
    ends_s, options = time.perf_counter() + time_limit_s, []
    for name, kind, looser in lifted(limits, pools, found.backends, able):
        now_s = time.perf_counter()
        if now_s < ends_s:
            effort = (now_s, ends_s - now_s, gap)
            other = _provision(demand, kind, looser, needs, effort)
            options.append(relaxation(name, limits, pools, other))
    best = min(options, key=lambda o: (round(o.unserved_rate, 6), o.usd_per_hour), default=None)
    missing = sum(bucket.rate for bucket in found.unserved)
    helps = best is not None and best.unserved_rate < missing - 1e-6
    took_s = time.perf_counter() - start_s
    return replace(found, relaxation=best if helps else None, solve_s=took_s)


def assign(
    demand: Demand,
    pools: tuple[Pool, ...],
    backends: tuple[int, ...],
    *,
    time_limit_s: float = 5.0,
) -> Plan:
    """The shares that keep the peak utilisation of the given fleet least; it may exceed 1.

    backends: (P,) counts that are ready. Buckets that only pools without a backend could serve are
    unserved. What a spot pool may serve at most is for `provision` to mind.
    """
    start_s = time.perf_counter()
    if len(backends) != len(pools) or min(backends, default=0) < 0:
        raise InvalidValue(f"backends: one count ≥ 0 for each of {len(pools)} pools: {backends}")
    counts = np.array(backends, dtype=float)
    needs = loads(demand, pools)
    running = replace(
        needs,
        seconds=np.where(counts > 0, needs.seconds, np.inf),
        variance=np.where(counts > 0, needs.variance, np.inf),
        feasible=needs.feasible & (counts > 0),
    )
    plain = tuple(replace(pool, spot=None) for pool in pools)
    shares = []
    for subproblem in subproblems(demand, plain, running, None):
        program = HighsProgram(subproblem, ends_s=start_s + time_limit_s, gap=0.0)
        shares.append(
            (subproblem, search.min_peak(subproblem, program, counts[subproblem.pool_index]), 0.0)
        )
    took_s = time.perf_counter() - start_s
    return assemble("assign", demand, pools, UNLIMITED, needs, counts, shares, took_s)


def _provision(
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits,
    needs: Loads,
    effort: tuple[float, float, float],
) -> Plan:
    (start_s, time_limit_s, gap), found = effort, []
    for subproblem in subproblems(demand, pools, needs, limits):
        program = HighsProgram(subproblem, ends_s=start_s + time_limit_s, gap=gap)
        found.append((subproblem, search.min_cost(subproblem, program)))
    backends = np.array([float(pool.min_backends) for pool in pools])
    for subproblem, best in found:
        backends[subproblem.pool_index] = best.backends
    shares = [(subproblem, best.weights, best.gap * best.usd) for subproblem, best in found]
    took_s = time.perf_counter() - start_s
    return assemble("provision", demand, pools, limits, needs, backends, shares, took_s)


class HighsProgram:
    """One part in HiGHS, in three uses: least cost, least unserved rate, least peak.

    Columns: the shares, u if demand may be unserved (`loose`), then w, y and t, then for each pool
    what of y is paid for, started and stopped. t is fixed at 0 except for the peak; the bounds of w
    and y are set with the use, and so is what a backend of each pool can take.
    """

    def __init__(
        self, subproblem: Subproblem, *, ends_s: float, gap: float, loose: bool = False
    ) -> None:
        self.subproblem, self.gap, self._ends_s = subproblem, gap, ends_s
        n, m = subproblem.mean.shape
        self._rows, self._cols = np.isfinite(subproblem.mean).nonzero()
        self._u = len(self._rows)
        self._w = self._u + (n if loose else 0)
        self._y, self._t = self._w + m, self._w + 2 * m
        self._paid = {
            int(p): i for i, p in enumerate(np.flatnonzero(subproblem.reserved), self._t + 1)
        }
        self._moved = self._t + 1 + len(self._paid)  # m columns up, m down, if a change costs
        self._ends = self._moved + (2 * m if subproblem.start_usd or subproblem.stop_usd else 0)
        self._finite = np.where(np.isfinite(subproblem.mean), subproblem.mean, 0.0)
        # The rows that hold pools: row and column of every coefficient, and what it is now.
        each = np.arange(m)
        self._held = n + np.concatenate([self._cols, each, each])
        shares = np.arange(self._u)
        self._holders = np.concatenate([shares, self._w + each, np.full(m, self._t)])
        self._set = np.full(self._u + 2 * m, np.nan)
        self._highs, self._whole = self._opened(), False

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self._ends_s

    def loosened(self) -> "HighsProgram":
        """The same in which demand may be unserved."""
        return HighsProgram(self.subproblem, ends_s=self._ends_s, gap=self.gap, loose=True)

    def _opened(self) -> Any:
        """HiGHS with the program in it, its integers not declared yet: often it needs none."""
        solver = pulp.HiGHS(
            mip=False,
            msg=False,
            threads=1,
            gapRel=self.gap,
            primal_feasibility_tolerance=TIGHT,
            mip_feasibility_tolerance=TIGHT,
            **(SMALL_OPTIONS if len(self.subproblem.usd) <= SMALL else {}),
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
        problem.setObjective(pulp.LpAffineExpression([(columns[self._y], 1.0)]))
        return problem

    def _columns(self, problem: pulp.LpProblem) -> list[pulp.LpVariable]:
        """The variables, named so that PuLP, which sorts by name, keeps their order."""
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
        """Serve each bucket (n), hold each pool (m, no tangent yet), open each pool (m)."""
        n, m = self.subproblem.mean.shape
        loose = self._w > self._u
        of_bucket: list[list[int]] = [[self._u + b] if loose else [] for b in range(n)]
        of_pool: list[list[int]] = [[] for _ in range(m)]
        for column, (b, p) in enumerate(self._pairs()):
            of_bucket[b].append(column)
            of_pool[p].append(column)
        for b in range(n):
            yield dict.fromkeys(of_bucket[b], 1.0), pulp.LpConstraintEQ, 1.0
        for p in range(m):  # what each share takes is set before every use
            yield {self._w + p: 1.0, self._y + p: -1.0, self._t: -1.0}, pulp.LpConstraintLE, 0.0
        for p in range(m):
            used = dict.fromkeys(of_pool[p], 1.0)
            open_ = {self._w + p: -float(max(1, len(used)))}
            yield used | open_, pulp.LpConstraintLE, 0.0

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Bucket and pool of every share."""
        return zip(self._rows.tolist(), self._cols.tolist(), strict=True)

    def _limit_rows(self) -> Iterator[Row]:
        """What is paid, started and stopped; stocks, the budget, and zones of spot pools."""
        subproblem, m = self.subproblem, len(self.subproblem.usd)
        for p, paid in self._paid.items():
            yield {self._y + p: 1.0, paid: -1.0}, pulp.LpConstraintLE, float(subproblem.reserved[p])
        for p in range(m) if self._ends > self._moved else ():
            y, up, down = self._y + p, self._moved + p, self._moved + m + p
            yield {y: 1.0, up: -1.0, down: 1.0}, pulp.LpConstraintEQ, float(subproblem.running[p])
        for gpus, stock in zip(subproblem.caps, subproblem.stock, strict=True):
            taken = {self._y + int(p): float(gpus[p]) for p in np.flatnonzero(gpus)}
            yield taken, pulp.LpConstraintLE, float(stock)
        if np.isfinite(subproblem.budget):
            yield dict(self._bill()), pulp.LpConstraintLE, float(subproblem.budget)
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
        for p, usd in enumerate(self.subproblem.usd.tolist()):
            yield self._paid.get(p, self._y + p), usd

    def min_cost(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares (n, m) of least cost; tangents at (m,) points, spot margins at (m,) ready."""
        subproblem, m = self.subproblem, len(points)
        costs = dict(self._bill())
        if self._ends > self._moved:
            costs |= dict.fromkeys(range(self._moved, self._moved + m), subproblem.start_usd)
            costs |= dict.fromkeys(range(self._moved + m, self._ends), subproblem.stop_usd)
        self._free(points, ready, costs)
        return self._run(relaxed=relaxed)

    def min_unserved(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares that leave the least rate unserved."""
        self.allow(np.ones(len(self.subproblem.rate)))
        self._free(points, ready, dict(enumerate(self.subproblem.rate.tolist(), self._u)))
        return self._run(relaxed=relaxed)

    def min_peak(self, points: FloatArray, room: FloatArray) -> LpSolution | None:
        """Shares of least peak of `M + √V` relative to (m,) room."""
        self._tangents(points, room, np.ones(len(room)), np.zeros(len(room)))
        self._costs({self._t: 1.0})
        open_ = (room > 0).astype(float)
        self._shares(open_)
        self._bounds(self._w, open_, open_)
        self._bounds(self._y, 0 * room, 0 * room)
        self._bounds(self._t, np.zeros(1), np.full(1, np.inf))
        return self._run(relaxed=True)

    def allow(self, unserved: FloatArray) -> None:
        """Lets u go up to (n,) these shares."""
        self._bounds(self._u, 0 * unserved, unserved)

    def _free(self, points: FloatArray, ready: FloatArray, costs: dict[int, float]) -> None:
        self._tangents(points, np.zeros(len(points)), *self.subproblem.margin(ready))
        self._costs(costs)
        self._shares(np.ones(len(points)))
        self._bounds(self._w, np.zeros(len(points)), np.ones(len(points)))
        self._bounds(self._y, self.subproblem.least, self.subproblem.most)
        self._bounds(self._t, np.zeros(1), np.zeros(1))

    def _tangents(
        self, points: FloatArray, room: FloatArray, slope: FloatArray, constant: FloatArray
    ) -> None:
        root = np.sqrt(points)
        slopes = (self._finite + self.subproblem.variance / (2 * root)) * slope
        values = np.concatenate([
            slopes[self._rows, self._cols],
            slope * root / 2 + constant,
            -room,
        ])  # fmt: skip
        changed = np.flatnonzero(values != self._set)
        change = self._highs.changeCoeff
        for row, column, value in zip(
            self._held[changed].tolist(),
            self._holders[changed].tolist(),
            values[changed].tolist(),
            strict=True,
        ):
            change(row, column, value)
        self._set = values

    def _costs(self, costs: dict[int, float]) -> None:
        values = np.zeros(self._ends - self._u)
        values[np.array(list(costs)) - self._u] = list(costs.values())
        columns = np.arange(self._u, self._ends, dtype=np.int32)
        self._highs.changeColsCost(len(columns), columns, values)

    def _shares(self, open_: FloatArray) -> None:
        """Takes the shares of closed pools out: with many pools they slow the simplex down."""
        if len(open_) > SMALL:
            most = np.where(open_ > 0, np.inf, 0.0)[self._cols]
            self._bounds(0, np.zeros_like(most), most)

    def _bounds(self, first: int, least: FloatArray, most: FloatArray) -> None:
        columns = np.arange(first, first + len(least), dtype=np.int32)
        self._highs.changeColsBounds(len(columns), columns, least, most)

    def _run(self, *, relaxed: bool) -> LpSolution | None:
        left_s = max(LEAST_S, self._ends_s - time.perf_counter())
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + left_s)
        if not (relaxed or self._whole):
            kinds = np.full(self._t - self._w, INTEGER, dtype=np.uint8)
            columns = np.arange(self._w, self._t, dtype=np.int32)
            self._highs.changeColsIntegrality(len(columns), columns, kinds)
            self._whole = True
        self._highs.setOptionValue("solve_relaxation", relaxed)
        self._highs.setOptionValue("presolve", "off" if relaxed else "choose")
        self._highs.run()
        info = self._highs.getInfo()
        if info.primal_solution_status != FEASIBLE:
            return None
        n, m = self.subproblem.mean.shape
        solution = self._highs.getSolution()
        weights = np.zeros((n, m))
        weights[self._rows, self._cols] = np.clip(np.array(solution.col_value)[: self._u], 0.0, 1.0)
        prices = np.zeros(m)
        if relaxed:
            prices = np.maximum(0.0, -np.array(solution.row_dual)[n : n + m])
        bound = info.objective_function_value if relaxed else info.mip_dual_bound
        return LpSolution(weights=weights, bound=bound, prices=prices)

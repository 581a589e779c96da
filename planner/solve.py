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
be ready (`Part.margin`). How tangents settle and what is tried beyond the program is in `search`.
The gap is that to the program's bound at its tangent; the fluid bound is that of the whole.

u is 0 unless that is impossible. Then the rate left unserved is made least first, and the cost with
that fixed: no price can make it pay to drop a request. `assign` has y given and minimises the peak
t in `M_p + √V_p ≤ t·y[p]`. Models that no limit couples are programs of their own.

PuLP builds a program once; between rounds only its coefficients change. The status word is not
trusted (it is `Optimal` at a time limit too). Nothing else imports PuLP.
"""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pulp

from planner import search
from planner.errors import InvalidValue
from planner.fleet import Part, parts
from planner.headroom import Loads, loads
from planner.limits import UNLIMITED, Limits, lifted
from planner.model import Demand, Plan, Pool, Relaxation
from planner.outcome import plan
from planner.search import Answer
from planner.sizes import FloatArray

TIGHT = 1e-8  # the solver's own tolerance on rows: well within fleet.EXACT
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
            options.append(_relaxation(name, limits, pools, other))
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
    for part in parts(demand, plain, running, None):
        program = Program(part, ends_s=start_s + time_limit_s, gap=0.0)
        shares.append((part, search.flattest(part, program, counts[part.pools]), 0.0))
    took_s = time.perf_counter() - start_s
    return plan("assign", demand, pools, UNLIMITED, needs, counts, shares, took_s)


def _provision(
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits,
    needs: Loads,
    effort: tuple[float, float, float],
) -> Plan:
    (start_s, time_limit_s, gap), found = effort, []
    for part in parts(demand, pools, needs, limits):
        program = Program(part, ends_s=start_s + time_limit_s, gap=gap)
        found.append((part, search.cheapest(part, program)))
    backends = np.array([float(pool.min_backends) for pool in pools])
    for part, best in found:
        backends[part.pools] = best.backends
    shares = [(part, best.weights, best.gap * best.usd) for part, best in found]
    took_s = time.perf_counter() - start_s
    return plan("provision", demand, pools, limits, needs, backends, shares, took_s)


def _relaxation(name: str, limits: Limits, pools: tuple[Pool, ...], found: Plan) -> Relaxation:
    """What a plan made without one limit takes beyond it."""
    counts = np.array(found.backends, dtype=float)
    more = {limit: use - most for limit, use, most in limits.uses(pools, counts)}
    for pool, count in zip(pools, found.backends, strict=True):
        if pool.max_backends is not None:
            more[f"max_backends of {pool.name}"] = float(count - pool.max_backends)
    return Relaxation(
        limit=name,
        more=max(0.0, more[name]) if name in more else None,
        usd_per_hour=found.usd_per_hour,
        unserved_rate=sum(bucket.rate for bucket in found.unserved),
    )


class Program:
    """One part in HiGHS, in three uses: least cost, least unserved rate, least peak.

    Columns: the shares, then u, w, y and t, then for each pool what of y is paid for, started and
    stopped. t is fixed at 0 except for the peak, and u except where demand cannot be served; the
    bounds of w and y are set with the use.
    """

    def __init__(self, part: Part, *, ends_s: float, gap: float) -> None:
        self.part, self._ends_s = part, ends_s
        n, m = part.mean.shape
        self._pairs = [(int(b), int(p)) for b, p in np.argwhere(np.isfinite(part.mean))]
        self._u = len(self._pairs)
        self._rows, self._cols = np.array(self._pairs).T
        self._w, self._y, self._t = self._u + n, self._u + n + m, self._u + n + 2 * m
        self._paid = {int(p): i for i, p in enumerate(np.flatnonzero(part.reserved), self._t + 1)}
        self._moved = self._t + 1 + len(self._paid)  # m columns up, m down, if a change costs
        self._ends = self._moved + (2 * m if part.start_usd or part.stop_usd else 0)
        self._set: FloatArray | None = None  # coefficients of the rows that hold pools, as they are
        solver = pulp.HiGHS(
            msg=False,
            threads=1,
            gapRel=gap,
            primal_feasibility_tolerance=TIGHT,
            mip_feasibility_tolerance=TIGHT,
            **(SMALL_OPTIONS if m <= SMALL else {}),
        )
        problem = self._build()
        solver.createAndConfigureSolver(problem)
        solver.buildSolverModel(problem)
        self._highs = problem.solverModel

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self._ends_s

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
        n, m = self.part.mean.shape
        of_bucket: list[list[int]] = [[self._u + b] for b in range(n)]
        of_pool: list[list[int]] = [[] for _ in range(m)]
        for column, (b, p) in enumerate(self._pairs):
            of_bucket[b].append(column)
            of_pool[p].append(column)
        for b in range(n):
            yield dict.fromkeys(of_bucket[b], 1.0), pulp.LpConstraintEQ, 1.0
        for p in range(m):
            hold = dict.fromkeys((*of_pool[p], self._w + p, self._t), 1.0)
            yield hold | {self._y + p: -1.0}, pulp.LpConstraintLE, 0.0
        for p in range(m):
            used = dict.fromkeys(of_pool[p], 1.0)
            open_ = {self._w + p: -float(max(1, len(used)))}
            yield used | open_, pulp.LpConstraintLE, 0.0

    def _limit_rows(self) -> Iterator[Row]:
        """What is paid, started and stopped; stocks, the budget, and zones of spot pools."""
        part, m = self.part, len(self.part.usd)
        for p, paid in self._paid.items():
            yield {self._y + p: 1.0, paid: -1.0}, pulp.LpConstraintLE, float(part.reserved[p])
        for p in range(m) if self._ends > self._moved else ():
            y, up, down = self._y + p, self._moved + p, self._moved + m + p
            yield {y: 1.0, up: -1.0, down: 1.0}, pulp.LpConstraintEQ, float(part.running[p])
        for gpus, stock in zip(part.caps, part.stock, strict=True):
            taken = {self._y + int(p): float(gpus[p]) for p in np.flatnonzero(gpus)}
            yield taken, pulp.LpConstraintLE, float(stock)
        if np.isfinite(part.budget):
            yield dict(self._bill()), pulp.LpConstraintLE, float(part.budget)
        for region in part.regions:
            rows, zone = set(region.rows.tolist()), set(region.columns.tolist())
            spot = {
                column: float(part.rate[b])
                for column, (b, p) in enumerate(self._pairs)
                if b in rows and p in zone
            }
            yield spot, pulp.LpConstraintLE, region.most

    def _bill(self) -> Iterator[tuple[int, float]]:
        """The columns that cost money, and the price of each."""
        for p, usd in enumerate(self.part.usd.tolist()):
            yield self._paid.get(p, self._y + p), usd

    def cheapest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares (n, m) of least cost; tangents at (m,) points, spot margins at (m,) ready."""
        part, m = self.part, len(points)
        costs = dict(self._bill())
        if self._ends > self._moved:
            costs |= dict.fromkeys(range(self._moved, self._moved + m), part.start_usd)
            costs |= dict.fromkeys(range(self._moved + m, self._ends), part.stop_usd)
        self._free(points, ready, costs)
        return self._run(relaxed=relaxed)

    def fullest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares that leave the least rate unserved."""
        self.allow(np.ones(len(self.part.rate)))
        self._free(points, ready, dict(enumerate(self.part.rate.tolist(), self._u)))
        return self._run(relaxed=relaxed)

    def flattest(self, points: FloatArray, room: FloatArray) -> Answer | None:
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
        self._tangents(points, np.zeros(len(points)), *self.part.margin(ready))
        self._costs(costs)
        self._shares(np.ones(len(points)))
        self._bounds(self._w, np.zeros(len(points)), np.ones(len(points)))
        self._bounds(self._y, self.part.least, self.part.most)
        self._bounds(self._t, np.zeros(1), np.zeros(1))

    def _tangents(
        self, points: FloatArray, room: FloatArray, slope: FloatArray, constant: FloatArray
    ) -> None:
        part, root, first = self.part, np.sqrt(points), len(self.part.rate)
        finite = np.where(np.isfinite(part.mean), part.mean, 0.0)
        rows, columns, m = self._rows, self._cols, len(root)
        values = np.concatenate([
            (slope * (finite + part.variance / (2 * root)))[rows, columns],
            slope * root / 2 + constant,
            -room,
        ])  # fmt: skip
        changed = np.ones(len(values), bool) if self._set is None else values != self._set
        pools = np.concatenate([columns, np.arange(m), np.arange(m)])
        columns = np.r_[np.arange(self._u), self._w + np.arange(m), np.full(m, self._t)]
        for place in np.flatnonzero(changed).tolist():
            self._highs.changeCoeff(first + pools[place], columns[place], values[place])
        self._set = values

    def _costs(self, costs: dict[int, float]) -> None:
        values = np.zeros(self._ends - self._u)
        for column, cost in costs.items():
            values[column - self._u] = cost
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

    def _run(self, *, relaxed: bool) -> Answer | None:
        left_s = max(LEAST_S, self._ends_s - time.perf_counter())
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + left_s)
        self._highs.setOptionValue("solve_relaxation", relaxed)
        self._highs.run()
        info = self._highs.getInfo()
        if info.primal_solution_status != FEASIBLE:
            return None
        n, m = self.part.mean.shape
        solution = self._highs.getSolution()
        weights = np.zeros((n, m))
        weights[self._rows, self._cols] = np.clip(np.array(solution.col_value)[: self._u], 0.0, 1.0)
        prices = np.zeros(m)
        if relaxed:
            prices = np.maximum(0.0, -np.array(solution.row_dual)[n : n + m])
        bound = info.objective_function_value if relaxed else info.mip_dual_bound
        return Answer(weights=weights, bound=bound, prices=prices)

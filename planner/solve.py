"""The integer program: backends per pool and the share of every bucket that each pool serves.

With shares f[b,p], unserved shares u[b], counts y[p] (integer) and pools in use w[p] (binary):

    min  Σ_p usd[p]·y[p]
    s.t. Σ_p f[b,p] + u[b] = 1              f only where the pool holds the bucket's SLO
         M_p + √V_p ≤ y[p]                  M_p = Σ_b λ_b E[1/X] f,  V_p = Σ_b κ²z λ_b E[1/(X n*)] f
         f[b,p] ≤ w[p]                      min[p] ≤ y[p] ≤ max[p]

`√V` is concave, so its tangent at any V₀ > 0 lies above it and is safe: `√V ≤ √V₀/2 + V/(2√V₀)`,
the constant only for pools in use. The tangent points settle on the relaxation; then the integer
program is solved, and single backends are taken away or swapped for cheaper ones while the shares
can follow. Counts are always the least that meet the exact constraint. The cheapest fleet of one
pool alone needs no solver and is the plan to beat. All this finds a good plan, not provably the
best: the gap is that of the integer program at its tangent, the fluid bound that of the whole.

u is 0 unless that is impossible. Then the rate left unserved is made least first, and the cost with
that fixed: no price can make it pay to drop a request. `assign` has y given and minimises the peak
t in `M_p + √V_p ≤ t·y[p]`. Models share no pool, so each is a program of its own.

PuLP builds a program once; between rounds only its coefficients change. The status word is not
trusted (it is `Optimal` at a time limit too). Nothing else imports PuLP.
"""

import time
from dataclasses import replace

import numpy as np
import pulp

from planner.errors import InvalidValue, SolverFailed
from planner.fleet import DUST, EXACT, LEAST_POINT, Found, Part, alone, exact, moves, parts, plan
from planner.headroom import loads
from planner.model import Demand, Plan, Pool
from planner.sizes import FloatArray

ROUNDS = 6  # tangent rounds on the relaxation, which is cheap
ASSIGN_ROUNDS = 3
SPREAD = 0.4  # of all variance in each pool: where the tangents of a given fleet start
HOPELESS = 1.4  # a peak that a better tangent will not bring down to 1
TRIES = 60  # fleets tried near the integer program's, one small linear program each
ROOM = 0.3  # of a bounded pool that the first tangent may take for the tail
SETTLED = 0.02  # tangent points that move less than this have arrived
TIGHT = 1e-8  # the solver's own tolerance on rows: well within EXACT
FEASIBLE = 2  # HiGHS' kSolutionStatusFeasible
SMALL = 8  # pools: with so few integers the solver's heuristics cost more than the tree itself
SMALL_OPTIONS = {
    "mip_heuristic_effort": 0.0,
    "mip_heuristic_run_rins": False,
    "mip_heuristic_run_rens": False,
    "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
}


def provision(
    demand: Demand, pools: tuple[Pool, ...], *, time_limit_s: float = 5.0, gap: float = 1e-4
) -> Plan:
    """The cheapest fleet found that serves the demand within its SLOs, and who serves what.

    time_limit_s bounds the solver over all models; gap: when a cost is near enough to its bound.
    What cannot be served is named in `Plan.unserved`. Raises SolverFailed if the solver ended
    without any solution.
    """
    start_s = time.perf_counter()
    needs = loads(demand, pools)
    found = []
    for part in parts(demand, pools, needs):
        left_s = max(0.1, time_limit_s - (time.perf_counter() - start_s))
        found.append((part, _cheapest(part, Program(part, time_limit_s=left_s, gap=gap))))
    backends = np.array([float(pool.min_backends) for pool in pools])
    for part, best in found:
        backends[part.pools] = best.backends
    shares = [(part, best.weights, best.gap * best.usd) for part, best in found]
    took_s = time.perf_counter() - start_s
    return plan("provision", demand, pools, needs, backends, shares, took_s)


def assign(
    demand: Demand,
    pools: tuple[Pool, ...],
    backends: tuple[int, ...],
    *,
    time_limit_s: float = 5.0,
) -> Plan:
    """The shares that keep the peak utilisation of the given fleet least; it may exceed 1.

    backends: (P,) counts. Buckets that only pools without a backend could serve are unserved.
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
    shares = []
    for part in parts(demand, pools, running):
        program = Program(part, time_limit_s=time_limit_s, gap=0.0)
        shares.append((part, _flattest(part, program, counts[part.pools]), 0.0))
    took_s = time.perf_counter() - start_s
    return plan("assign", demand, pools, needs, counts, shares, took_s)


class Program:
    """One part in HiGHS, in three uses: least cost, least unserved rate, least peak.

    Columns: the shares, then u, w, y and t; t is fixed at 0 except for the peak, and u except where
    demand cannot be served; the bounds of w and y are set with the use.
    """

    def __init__(self, part: Part, *, time_limit_s: float, gap: float) -> None:
        self.part = part
        n, m = part.mean.shape
        self._pairs = [(int(b), int(p)) for b, p in np.argwhere(np.isfinite(part.mean))]
        self._u = len(self._pairs)
        self._w, self._y, self._t = self._u + n, self._u + n + m, self._u + n + 2 * m
        self._usd = part.usd.tolist()
        solver = pulp.HiGHS(
            msg=False,
            threads=1,
            timeLimit=time_limit_s,
            gapRel=gap,
            primal_feasibility_tolerance=TIGHT,
            mip_feasibility_tolerance=TIGHT,
            **(SMALL_OPTIONS if m <= SMALL else {}),
        )
        problem = self._build()
        solver.createAndConfigureSolver(problem)
        solver.buildSolverModel(problem)
        self._highs = problem.solverModel

    def _build(self) -> pulp.LpProblem:
        """Rows: serve each bucket (n), hold each pool (m, no tangent yet), open each pool (m)."""
        part, (n, m) = self.part, self.part.mean.shape
        problem = pulp.LpProblem("fleet", pulp.LpMinimize)
        columns = self._columns(problem)
        of_bucket: list[list[int]] = [[self._u + b] for b in range(n)]
        of_pool: list[list[int]] = [[] for _ in range(m)]
        for column, (b, p) in enumerate(self._pairs):
            of_bucket[b].append(column)
            of_pool[p].append(column)
        rows: list[tuple[dict[int, float], int, float]] = [
            (dict.fromkeys(of_bucket[b], 1.0), pulp.LpConstraintEQ, 1.0) for b in range(n)
        ]
        for p in range(m):
            hold = dict.fromkeys((*of_pool[p], self._w + p, self._t), 1.0)
            rows.append((hold | {self._y + p: -1.0}, pulp.LpConstraintLE, 0.0))
        for p in range(m):
            used = dict.fromkeys(of_pool[p], 1.0)
            open_ = {self._w + p: -float(max(1, len(used)))}
            rows.append((used | open_, pulp.LpConstraintLE, 0.0))
        for number, (row, sense, right) in enumerate(rows):
            terms = pulp.LpAffineExpression([(columns[i], value) for i, value in row.items()])
            problem.addConstraint(pulp.LpConstraint(terms, sense, f"r{number}", right))
        usd = [(columns[self._y + p], part.usd[p]) for p in range(m)]
        problem.setObjective(pulp.LpAffineExpression(usd))
        return problem

    def _columns(self, problem: pulp.LpProblem) -> list[pulp.LpVariable]:
        """The variables, named so that PuLP, which sorts by name, keeps their order."""
        most = np.full(self._t + 1, np.inf)
        most[self._u : self._w] = most[self._t] = 0.0
        return [
            problem.add_variable(
                f"c{column:06}",
                0.0,
                None if most[column] else 0.0,
                pulp.LpInteger if self._w <= column < self._t else pulp.LpContinuous,
            )
            for column in range(self._t + 1)
        ]

    def cheapest(self, points: FloatArray, *, relaxed: bool) -> tuple[FloatArray, float] | None:
        """Shares (n, m) of least cost, tangents at (m,) points, and the gap; None: infeasible."""
        self._tangents(points, np.zeros(len(points)))
        self._costs(y=self._usd, u=[0.0] * len(self.part.rate), t=0.0)
        for p, (least, most) in enumerate(zip(self.part.least, self.part.most, strict=True)):
            self._highs.changeColBounds(self._w + p, 0.0, 1.0)
            self._highs.changeColBounds(self._y + p, least, most)
        self._highs.changeColBounds(self._t, 0.0, 0.0)
        return self._run(relaxed=relaxed)

    def fullest(self, points: FloatArray) -> tuple[FloatArray, float] | None:
        """Shares that leave the least rate unserved."""
        self.allow(np.ones(len(self.part.rate)))
        self._tangents(points, np.zeros(len(points)))
        self._costs(y=[0.0] * len(points), u=self.part.rate.tolist(), t=0.0)
        return self._run(relaxed=False)

    def flattest(self, points: FloatArray, backends: FloatArray) -> tuple[FloatArray, float] | None:
        """Shares of least peak utilisation of a given fleet."""
        self._tangents(points, backends)
        self._costs(y=[0.0] * len(points), u=[0.0] * len(self.part.rate), t=1.0)
        for p, count in enumerate(backends):
            self._highs.changeColBounds(self._w + p, *([float(count > 0)] * 2))
            self._highs.changeColBounds(self._y + p, 0.0, 0.0)
        self._highs.changeColBounds(self._t, 0.0, np.inf)
        return self._run(relaxed=True)

    def allow(self, unserved: FloatArray) -> None:
        """Lets u go up to (n,) these shares."""
        for b, most in enumerate(unserved.tolist()):
            self._highs.changeColBounds(self._u + b, 0.0, most)

    def _tangents(self, points: FloatArray, backends: FloatArray) -> None:
        part, root, first = self.part, np.sqrt(points), len(self.part.rate)
        slope = np.where(np.isfinite(part.mean), part.mean, 0.0) + part.variance / (2 * root)
        for column, (b, p) in enumerate(self._pairs):
            self._highs.changeCoeff(first + p, column, slope[b, p])
        for p in range(len(root)):
            self._highs.changeCoeff(first + p, self._w + p, root[p] / 2)
            self._highs.changeCoeff(first + p, self._t, -backends[p])

    def _costs(self, *, y: list[float], u: list[float], t: float) -> None:
        for first, costs in ((self._u, u), (self._y, y), (self._t, [t])):
            for place, cost in enumerate(costs):
                self._highs.changeColCost(first + place, cost)

    def _run(self, *, relaxed: bool) -> tuple[FloatArray, float] | None:
        self._highs.setOptionValue("solve_relaxation", relaxed)
        self._highs.run()
        info = self._highs.getInfo()
        if info.primal_solution_status != FEASIBLE:
            return None
        weights = np.zeros(self.part.mean.shape)
        values = np.array(self._highs.getSolution().col_value[: self._u])
        rows, columns = np.array(self._pairs).T
        weights[rows, columns] = np.clip(values, 0.0, 1.0)
        gap = 0.0 if relaxed or info.objective_function_value == 0 else info.mip_gap
        return weights, gap


def _cheapest(part: Part, program: Program) -> Found:
    served = np.zeros(len(part.rate))
    found = [f for f in (_mix(part, program, _start(part), served), alone(part)) if f]
    if found:
        return _trimmed(part, program, min(found, key=lambda f: f.usd), served)
    elastic = _elastic(part, program)
    if elastic is None:
        raise SolverFailed("the solver ended without a solution")
    return elastic


def _mix(part: Part, program: Program, points: FloatArray, unserved: FloatArray) -> Found | None:
    """Settles the tangents on the relaxation, then solves the integer program."""
    for _ in range(ROUNDS):
        answer = program.cheapest(points, relaxed=True)
        if answer is None:
            break
        before, points = points, part.points(answer[0], points)
        if np.all(np.abs(points - before) <= SETTLED * before):
            break
    answer = program.cheapest(points, relaxed=False)
    return exact(part, *answer, unserved) if answer else None


def _trimmed(part: Part, program: Program, best: Found, unserved: FloatArray) -> Found:
    """Tries cheaper fleets nearby until none of them holds."""
    fleets = iter(moves(part, best))
    for _ in range(TRIES):
        backends = next(fleets, None)
        if backends is None:
            break
        found = _holding(part, program, backends, unserved, best.gap)
        if found and found.usd < best.usd - EXACT:
            best, fleets = found, iter(moves(part, found))
    return best


def _holding(
    part: Part, program: Program, backends: FloatArray, unserved: FloatArray, gap: float
) -> Found | None:
    """Shares with which a fleet holds, if a few tangent rounds find some."""
    points = _within(SPREAD * part.variance.sum(axis=0), backends)
    for _ in range(ASSIGN_ROUNDS):
        answer = program.flattest(points, backends)
        if answer is None:
            return None
        found = exact(part, answer[0], gap, unserved)
        if found and np.all(found.backends <= backends):
            return found
        need = part.need(answer[0])[backends > 0] / backends[backends > 0]
        if need.max() > HOPELESS:
            return None
        points = part.points(answer[0], points)
    return None


def _elastic(part: Part, program: Program) -> Found | None:
    """The most demand that the bounds on counts allow, then the cheapest fleet for that."""
    points, weights, least = _start(part), None, np.inf
    for _ in range(ROUNDS):
        answer = program.fullest(points)
        if answer is None:
            break
        lost = float((1 - answer[0].sum(axis=1)) @ part.rate)
        if lost < least:
            weights, least = answer[0], lost
        points = part.points(answer[0], points)
    if weights is None:
        return None
    unserved = np.clip(1 - weights.sum(axis=1), 0.0, 1.0)
    unserved[unserved < DUST] = 0.0
    program.allow(unserved)
    first = exact(part, weights, 0.0, unserved)
    mixed = _mix(part, program, part.points(weights, points), unserved)
    best = min((f for f in (first, mixed) if f), key=lambda f: f.usd, default=None)
    return best and _trimmed(part, program, best, unserved)


def _flattest(part: Part, program: Program, backends: FloatArray) -> FloatArray:
    points = _within(SPREAD * part.variance.sum(axis=0), backends)
    best, peak = None, np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = program.flattest(points, backends)
        if answer is None:
            break
        weights = np.where(answer[0] < DUST, 0.0, answer[0])
        weights /= weights.sum(axis=1, keepdims=True)
        need = part.need(weights)
        height = float(np.max(need[backends > 0] / backends[backends > 0]))
        if height < peak:
            best, peak = weights, height
        points = part.points(weights, points)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def _start(part: Part) -> FloatArray:
    points = np.maximum(part.variance.sum(axis=0) / len(part.usd), 1e-3)
    return _within(points, part.most)


def _within(points: FloatArray, most: FloatArray) -> FloatArray:
    """Tangent points whose constant leaves room in a pool of `most`: else it could never open."""
    return np.asarray(np.clip(points, LEAST_POINT, np.maximum(LEAST_POINT, (ROOM * most) ** 2)))

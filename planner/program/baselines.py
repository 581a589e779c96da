"""What others make of one demand: Mélange's integer program, AIBrix's rounding of it, one type.

Mélange (arXiv 2404.14527): every bucket is cut into equal slices, a slice goes to one GPU type
whole, and its load is `rate / MaxTput` at the bucket's upper corner:

    min  Σ_j usd[j]·B[j]
    s.t. Σ_j A[i,j] = 1                    for every slice i, A binary
         Σ_i A[i,j]·rate[i]/MaxTput[i,j] ≤ B[j]                      B integer

AIBrix solves the same in 1/100 of a GPU, and its autoscaler rounds every type up by itself. Slices
of a bucket are alike, so there one integer, how many of them a type gets, stands for their
binaries: CBC would not finish otherwise. `optimum` is what the same loads cost with continuous
shares: no fleet of whole GPUs costs less. No tails, no TTFT, no routing: these formulations leave
them out. Knows nothing of traces or gateways.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pulp

from planner.engine.profiles import Profile
from planner.errors import InvalidFile, InvalidValue, SolverFailed
from planner.files import decoded
from planner.model.pool import Pool
from planner.program import search
from planner.program.solve import HighsProgram
from planner.program.subproblem import plain
from planner.sizes import FloatArray, Grid
from planner.slo import Slo

SLICES = 8  # per bucket; the paper's slice factor
FRACTION = 100  # parts of a GPU in which AIBrix solves
AIBRIX_LIMIT_S = 10.0
UNBOUND_S = 1e9  # Mélange promises no TTFT
ROUNDING = 1e-9  # of a load at a whole number
GAP = 5e-4  # of the optimum: what its cost is proven to
AIBRIX_GAP = 1e-4
# Mélange's ranges of input and output tokens: (0, 25], (25, 100] and so on.
INPUT_TOPS = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
OUTPUT_TOPS = (25, 100, 250, 500, 1000, 2000)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instance:
    """What Mélange plans from.

    gpus: (P,) names. usd: (P,) per hour. rate: (B,) requests/s. tput: (B, P) requests/s that one
    GPU sustains at the bucket's upper corner; 0 where it cannot serve that size.
    """

    gpus: tuple[str, ...]
    usd: FloatArray
    rate: FloatArray
    tput: FloatArray

    def __post_init__(self) -> None:
        shape = (len(self.rate), len(self.gpus))
        if self.tput.shape != shape or self.usd.shape != shape[1:]:
            raise InvalidValue(f"tput must be {shape}, usd {shape[1:]}: {self.tput.shape}")
        values = np.concatenate([self.usd, self.rate, self.tput.ravel()])
        if not np.all(np.isfinite(values)) or np.any(values < 0):
            raise InvalidValue("prices, rates and throughputs must be finite and not negative")
        stuck = np.flatnonzero((self.rate > 0) & (self.tput == 0).all(axis=1))
        if len(stuck):
            raise InvalidValue(f"no GPU serves the upper corner of buckets {stuck.tolist()}")

    @property
    def load(self) -> FloatArray:
        """(B, P) GPUs that the whole of a bucket takes; infinite where it cannot be served."""
        served = self.tput > 0
        load = np.divide(self.rate[:, None], self.tput, where=served, out=np.zeros(served.shape))
        return np.where(served | (self.rate[:, None] == 0), load, np.inf)

    def at(self, rate: float) -> "Instance":
        """The same mix at another total rate (requests/s)."""
        if not 0 < rate < float("inf") or self.rate.sum() == 0:
            raise InvalidValue(f"no demand to scale, or not to this rate: {rate}")
        scaled = self.rate * (rate / self.rate.sum())
        return Instance(gpus=self.gpus, usd=self.usd, rate=scaled, tput=self.tput)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """GPUs by type, what they cost, and the share (B, P) of each bucket that each type is given.

    Mélange and AIBrix compute the shares and drop them: their routers never see them. Rows without
    demand are 0. gap: relative, proven by the solver; `None` where the solver does not say.
    """

    gpus: tuple[str, ...]
    counts: tuple[int, ...]
    usd_per_hour: float
    shares: FloatArray
    gap: float | None


def melange(
    instance: Instance, *, slices: int = SLICES, time_limit_s: float | None = None
) -> Allocation:
    """Mélange's own formulation, solved as it is: one binary per slice and GPU type, CBC.

    time_limit_s: the original has none. Raises SolverFailed if CBC ended without a solution.
    """
    solver = _cbc(timeLimit=time_limit_s)
    counts, shares = _sliced(instance.load, instance.usd, slices, 1, solver)
    return _allocation(instance, counts, shares, None)


def aibrix(instance: Instance, *, slices: int = SLICES, gap: float = AIBRIX_GAP) -> Allocation:
    """The same program in 1/100 GPU, then every type rounded up to whole GPUs by itself."""
    solver = _cbc(gapRel=gap, timeLimit=AIBRIX_LIMIT_S)
    load, usd = instance.load * FRACTION, instance.usd / FRACTION
    subproblems, shares = _sliced(load, usd, slices, slices, solver)
    return _allocation(instance, np.ceil(subproblems / FRACTION - ROUNDING), shares, None)


def single(instance: Instance, gpu: str) -> Allocation | None:
    """As many of one type as the whole load takes, rounded up; `None`: it cannot serve a bucket."""
    column = instance.gpus.index(gpu)
    total = float(instance.load[:, column].sum())
    if not total < float("inf"):
        return None
    counts, shares = np.zeros(len(instance.gpus)), np.zeros(instance.tput.shape)
    counts[column] = ceil(total - ROUNDING)
    shares[instance.rate > 0, column] = 1.0
    return _allocation(instance, counts, shares, 0.0)


def optimum(instance: Instance, *, gap: float = GAP) -> Allocation:
    """The least cost at the same loads: continuous shares, whole GPUs, proven to `gap`.

    It is Cuvée's own program without a tail. Raises SolverFailed if it ended without a solution.
    """
    rows = np.flatnonzero(instance.rate > 0)
    subproblem = plain(instance.load[rows], instance.rate[rows], instance.usd)
    program = HighsProgram(subproblem, ends_s=inf, gap=gap)
    found = search.min_cost(subproblem, program)
    shares = np.zeros(instance.tput.shape)
    shares[rows] = found.weights
    return _allocation(instance, found.backends, shares, found.gap)


def of_pools(pools: tuple[Pool, ...], slo: Slo, rate: FloatArray) -> Instance:
    """Mélange's view of Cuvée's pools: MaxTput at every upper corner under the SLO's TPOT alone.

    rate: (B,) by the cells of `GRID`. A corner may lie beyond the context that an engine is set to;
    it is taken as if it did not, or the cell's smaller sizes could not be planned for at all.
    """
    inputs, outputs = CORNERS
    columns = [long(p.profile).capacity(inputs, outputs, unhurried(slo)).rate for p in pools]
    return Instance(
        gpus=tuple(pool.name for pool in pools),
        usd=np.array([pool.usd_per_hour for pool in pools]),
        rate=rate,
        tput=np.array(columns).T,
    )


def long(profile: Profile) -> Profile:
    """A profile whose context holds every corner, memory permitting."""
    return replace(profile, max_model_len=INPUT_TOPS[-1] + OUTPUT_TOPS[-1])


def unhurried(slo: Slo) -> Slo:
    """What of an SLO Mélange knows: TPOT."""
    return replace(slo, ttft_s=UNBOUND_S)


class PublishedGpu(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Price and throughput of one GPU type; requests_per_s: input × output."""

    usd_per_hour: float
    requests_per_s: tuple[tuple[float, ...], ...]


class Reported(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What the paper says it found, by rate: cost of the mix, counts of each type alone."""

    rates: tuple[float, ...]
    melange_usd_per_hour: tuple[float, ...]
    single_types: dict[str, tuple[int, ...]]


class Published(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format `cuvee-instance/1`: an instance somebody published, with what they found."""

    format: Literal["cuvee-instance/1"]
    source: str
    input_edges: tuple[int, ...]
    output_edges: tuple[int, ...]
    slice_factor: int
    requests: tuple[tuple[float, ...], ...]
    gpus: dict[str, PublishedGpu]
    reported: Reported

    def instance(self, rate: float) -> Instance:
        """The instance at a total rate (requests/s)."""
        tputs = [np.array(gpu.requests_per_s, dtype=float).ravel() for gpu in self.gpus.values()]
        return Instance(
            gpus=tuple(self.gpus),
            usd=np.array([gpu.usd_per_hour for gpu in self.gpus.values()]),
            rate=np.array(self.requests, dtype=float).ravel(),
            tput=np.array(tputs).T,
        ).at(rate)


def read_published(path: Path) -> Published:
    """Reads a published instance. Raises InvalidFile naming the file and the key."""
    found = decoded(path, Published)
    shape = (len(found.input_edges), len(found.output_edges))
    tables: Mapping[str, Any] = {"requests": found.requests} | {
        f"gpus.{name}.requests_per_s": gpu.requests_per_s for name, gpu in found.gpus.items()
    }
    for key, table in tables.items():
        if len(table) != shape[0] or any(len(row) != shape[1] for row in table):
            raise InvalidFile(f"{path}: {key}: must be {shape[0]} rows of {shape[1]} numbers")
    try:
        found.instance(1.0)
    except InvalidValue as error:
        raise InvalidFile(f"{path}: {error}") from error
    return found


def _grid() -> Grid:
    """The ranges as half-open cells: (25, 100] is [26, 101)."""
    return Grid(
        input_edges=(1, *(top + 1 for top in INPUT_TOPS)),
        output_edges=(1, *(top + 1 for top in OUTPUT_TOPS)),
    )


GRID = _grid()
CORNERS = (  # of the cells in their order
    np.repeat(np.array(INPUT_TOPS, dtype=float), len(OUTPUT_TOPS)),
    np.tile(np.array(OUTPUT_TOPS, dtype=float), len(INPUT_TOPS)),
)


def _cbc(**options: float | None) -> pulp.LpSolver:
    """The CBC that PuLP ships, by its path: the class named after it warns that it will go."""
    solver = pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False, **options)
    if not solver.available():
        raise SolverFailed("CBC, which PuLP ships, cannot be run on this machine")
    return solver


def _sliced(
    load: FloatArray, usd: FloatArray, slices: int, together: int, solver: pulp.LpSolver
) -> tuple[FloatArray, FloatArray]:
    """Counts (P,) and the share (B, P) of its slices that each type is given.

    together: how many slices of a bucket one variable counts; 1 makes it binary.
    """
    owner = np.repeat(np.flatnonzero(load.max(axis=1) > 0), slices // together)
    problem = pulp.LpProblem("slices", pulp.LpMinimize)
    counts = _counts(problem, usd)
    rows, columns = np.nonzero(np.isfinite(load[owner]))
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    taken = [
        problem.add_variable(f"a{n:06}", 0, together, pulp.LpInteger) for n in range(len(pairs))
    ]
    subproblem = (load[owner[rows], columns] / slices).tolist()
    _rows(problem, pairs, taken, subproblem, counts, together)
    problem.solve(solver)
    if any(count.varValue is None for count in counts):
        raise SolverFailed("CBC ended without a solution")
    shares = np.zeros(load.shape)
    given = np.array([round(variable.varValue) for variable in taken]) / slices
    np.add.at(shares, (owner[rows], columns), given)
    if not np.allclose(shares[owner].sum(axis=1), 1.0):
        raise SolverFailed("CBC was stopped before it had a solution: it left a slice unassigned")
    return np.array([float(round(count.varValue)) for count in counts]), shares


def _counts(problem: pulp.LpProblem, usd: FloatArray) -> list[pulp.LpVariable]:
    counts = [problem.add_variable(f"b{p}", 0, cat=pulp.LpInteger) for p in range(len(usd))]
    costs = zip(counts, usd.tolist(), strict=True)
    problem.setObjective(pulp.LpAffineExpression(list(costs)))
    return counts


def _rows(
    problem: pulp.LpProblem,
    pairs: list[tuple[int, int]],
    share: list[pulp.LpVariable],
    load: list[float],
    counts: list[pulp.LpVariable],
    whole: float = 1.0,
) -> None:
    """The shares of every row of pairs sum to `whole`; what a type is given fits its count."""
    served: dict[int, list[tuple[pulp.LpVariable, float]]] = {}
    given: list[list[tuple[pulp.LpVariable, float]]] = [[(count, -1.0)] for count in counts]
    for (row, column), variable, need in zip(pairs, share, load, strict=True):
        served.setdefault(row, []).append((variable, 1.0))
        given[column].append((variable, need))
    for terms in served.values():
        row_sum = pulp.LpAffineExpression(terms)
        problem.addConstraint(pulp.LpConstraint(row_sum, pulp.LpConstraintEQ, rhs=whole))
    for terms in given:
        slack = pulp.LpAffineExpression(terms)
        problem.addConstraint(pulp.LpConstraint(slack, pulp.LpConstraintLE, rhs=0.0))


def _allocation(
    instance: Instance, counts: FloatArray, shares: FloatArray, gap: float | None
) -> Allocation:
    whole = tuple(round(count) for count in counts.tolist())
    usd = float(np.array(whole) @ instance.usd)
    return Allocation(gpus=instance.gpus, counts=whole, usd_per_hour=usd, shares=shares, gap=gap)

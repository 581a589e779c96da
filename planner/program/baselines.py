"""The formulations that plans are compared with: Mélange, AIBrix, one GPU type, and the optimum.

Mélange (arXiv 2404.14527): every bucket is cut into equal slices, a slice goes to one GPU type
whole, and its load is `rate / MaxTput` at the bucket's upper corner (`slices`). AIBrix solves the
same in 1/100 of a GPU, and its autoscaler then rounds every type up by itself. `optimum` is what
the same loads cost with continuous shares: no fleet of whole GPUs costs less. There are no tails,
no TTFT and no routing here, because these formulations leave them out.

Must not know traces, gateways, or how a fleet that is planned like this is played.
"""

from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.model.pool import Pool
from planner.program import search
from planner.program.highs import HighsProgram
from planner.program.slices import assign_slices
from planner.program.subproblem import plain_subproblem
from planner.sizes import FloatArray, Grid
from planner.slo import Slo

SLICES = 8  # per bucket: the paper's slice factor
FRACTION = 100  # parts of a GPU in which AIBrix solves: its `gpu_fraction`
# AIBrix' program is stopped here. Many mixes cost nearly the same before they are rounded up, so
# CBC may not finish, and its cost depends on which of these mixes it returns.
AIBRIX_LIMIT_S = 10.0
AIBRIX_GAP = 1e-4
UNBOUND_S = 1e9  # Mélange promises no TTFT
ROUNDING = 1e-9  # of a load that is a whole number but for its last bits
GAP = 5e-4  # of the optimum: what its cost is proven to
# Mélange's ranges of input and output tokens: (0, 25], (25, 100] and so on.
INPUT_TOPS = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
OUTPUT_TOPS = (25, 100, 250, 500, 1000, 2000)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instance:
    """What Mélange plans from.

    gpus: (P,) names. usd: (P,) per hour. rate: (B,) requests/s. tput: (B, P) requests/s that one
    GPU sustains at the bucket's upper corner; 0 where it cannot serve that size.
    Raises InvalidValue for arrays that do not fit, and for a bucket that no GPU can serve.
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
        """(B, P) GPUs that the whole of a bucket takes; infinite where it cannot be served.

        The released code of Mélange divides by the throughput and fails where it is 0.
        """
        served = self.tput > 0
        load = np.divide(self.rate[:, None], self.tput, where=served, out=np.zeros(served.shape))
        return np.where(served | (self.rate[:, None] == 0), load, np.inf)

    def at(self, rate: float) -> "Instance":
        """The same mix at another total rate (requests/s)."""
        if not 0 < rate < float("inf") or self.rate.sum() == 0:
            raise InvalidValue(f"no demand to scale, or not to this rate: {rate}")
        scaled = self.rate * (rate / self.rate.sum())
        return replace(self, rate=scaled)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """GPUs by type, their cost, and the share (B, P) of each bucket that each type is given.

    Mélange and AIBrix compute the shares and drop them: their routers never see them. Rows without
    demand are 0. gap: relative, proven by the solver; `None` where the solver does not tell.
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
    counts, shares = assign_slices(instance.load, instance.usd, slices, time_limit_s=time_limit_s)
    return _allocation(instance, counts, shares, None)


def aibrix(instance: Instance, *, slices: int = SLICES, gap: float = AIBRIX_GAP) -> Allocation:
    """The same program in 1/100 of a GPU, then every type rounded up to whole GPUs by itself.

    One integer counts a bucket's slices on a type: with binaries CBC does not finish. Raises
    SolverFailed if CBC ended without a solution.
    """
    hundredths, shares = assign_slices(
        instance.load * FRACTION,
        instance.usd / FRACTION,
        slices,
        per_variable=slices,
        gap=gap,
        time_limit_s=AIBRIX_LIMIT_S,
    )
    return _allocation(instance, np.ceil(hundredths / FRACTION - ROUNDING), shares, None)


def single_type(instance: Instance, gpu: str) -> Allocation | None:
    """As many of one type as the whole load takes; `None` if it cannot serve some bucket."""
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
    subproblem = plain_subproblem(instance.load[rows], instance.rate[rows], instance.usd)
    program = HighsProgram(subproblem, ends_s=inf, gap=gap)
    best = search.min_cost(subproblem, program)
    shares = np.zeros(instance.tput.shape)
    shares[rows] = best.weights
    return _allocation(instance, best.backends, shares, best.gap)


def instance_of_pools(pools: tuple[Pool, ...], slo: Slo, rate: FloatArray) -> Instance:
    """Cuvée's pools as Mélange sees them: MaxTput at every upper corner, under TPOT alone.

    rate: (B,) by the cells of `GRID`. A corner may lie beyond the context that an engine is set to.
    It is taken as if it did not: otherwise the smaller sizes of the cell had no capacity either.
    """
    inputs, outputs = CORNERS
    tput = [
        with_corner_context(pool.profile).capacity(inputs, outputs, without_ttft(slo)).rate
        for pool in pools
    ]
    return Instance(
        gpus=tuple(pool.name for pool in pools),
        usd=np.array([pool.usd_per_hour for pool in pools]),
        rate=rate,
        tput=np.array(tput).T,
    )


def with_corner_context(profile: Profile) -> Profile:
    """A profile whose context holds every corner, memory permitting."""
    return replace(profile, max_model_len=INPUT_TOPS[-1] + OUTPUT_TOPS[-1])


def without_ttft(slo: Slo) -> Slo:
    """The part of an SLO that Mélange knows: TPOT."""
    return replace(slo, ttft_s=UNBOUND_S)


def _grid() -> Grid:
    """Mélange's ranges as half-open cells: (25, 100] is [26, 101)."""
    return Grid(
        input_edges=(1, *(top + 1 for top in INPUT_TOPS)),
        output_edges=(1, *(top + 1 for top in OUTPUT_TOPS)),
    )


GRID = _grid()
CORNERS = (  # (B,) input and output tokens, in the order of the cells
    np.repeat(np.array(INPUT_TOPS, dtype=float), len(OUTPUT_TOPS)),
    np.tile(np.array(OUTPUT_TOPS, dtype=float), len(INPUT_TOPS)),
)


def _allocation(
    instance: Instance, counts: FloatArray, shares: FloatArray, gap: float | None
) -> Allocation:
    whole = tuple(round(count) for count in counts.tolist())
    usd = float(np.array(whole) @ instance.usd)
    return Allocation(gpus=instance.gpus, counts=whole, usd_per_hour=usd, shares=shares, gap=gap)

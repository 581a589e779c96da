"""What a search asks of a solver: three linear programs over the shares of one subproblem.

Must not know how the programs are solved, nor which fleets are searched.
"""

from dataclasses import dataclass
from typing import Protocol, Self

from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LpSolution:
    """The answer of one solve.

    weights: (n, m) shares. bound: the solver's lower bound on the objective. prices: (m,) the dual
    price of a backend of each pool, ≥ 0; 0 where integers were required.
    """

    weights: FloatArray
    bound: float
    prices: FloatArray


class Program(Protocol):
    """The program of one subproblem, with a time limit for all its solves together.

    points: (m,) where the tangents of the tail touch. ready: (m,) ready backends at which the line
    from ready to running spot backends is exact. relaxed: counts may be fractions. Every solve
    returns `None` if it is infeasible or the time is up.

    gap: relative; a cost that is so near to its bound is near enough.
    """

    gap: float

    @property
    def spent(self) -> bool:
        """Whether the time is up."""

    def min_cost(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares and counts of least cost."""

    def min_unserved(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares that leave the least requests/s unserved; only of a loosened program."""

    def min_peak(self, points: FloatArray, room: FloatArray) -> LpSolution | None:
        """Shares of least peak `(M + √V)/room` for a given fleet; room: (m,) what each pool holds.

        The bound is that peak: at most 1 means that the fleet holds at these tangents.
        """

    def loosened(self) -> Self:
        """The same program in which demand may be unserved, within a part of the time left."""

    def allow(self, unserved: FloatArray) -> None:
        """Let (n,) these shares be unserved at most; only of a loosened program."""

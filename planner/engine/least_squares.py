"""Linear least squares whose solution stays within bounds. Knows nothing of what is fitted."""

import numpy as np
from numpy.typing import NDArray

from planner.sizes import FloatArray

STEPS = 100  # of the active set: a bound that is taken up or given up
TINY = 1e-12  # a pull that is none


def bounded(
    matrix: FloatArray,
    low: FloatArray,
    high: FloatArray,
    *,
    target: FloatArray | float = 1.0,
    ridge: float = 0.0,
) -> FloatArray:
    """argmin `|M·x − target|² + ridge·|x − 1|²` with low ≤ x ≤ high, by an active set.

    matrix: (N, K); low, high: (K,), low finite; target: (N,) or one value for all. An unknown whose
    bound holds it back is set free, then all free ones are solved for, and those that leave their
    bounds are held there again, until no bound holds any back (Stark and Parker, Bounded-Variable
    Least-Squares, 1995). Columns are scaled to length one first.
    """
    length = np.sqrt((matrix**2).sum(axis=0) + ridge)
    length[length == 0] = 1.0
    gram = (matrix.T @ matrix + ridge * np.eye(len(low))) / np.outer(length, length)
    goal = ((matrix.T * target).sum(axis=1) + ridge) / length
    lower, upper = low * length, high * length
    x, free = lower.copy(), np.zeros(len(low), dtype=bool)
    for _ in range(STEPS):
        pull = goal - gram @ x
        inward = np.where(free, 0.0, np.where(x >= upper, -pull, pull))
        if inward.max() <= TINY:
            break
        free[int(inward.argmax())] = True
        while free.any() and _leaves(gram, goal, lower, upper, x, free):
            pass
    return np.asarray(x / length)


def _leaves(
    gram: FloatArray,
    goal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    x: FloatArray,
    free: NDArray[np.bool_],
) -> bool:
    """Solve for the free unknowns in place; if some leave their bounds, go only as far as to the
    first bound, hold that one there, and return True."""
    rest = goal[free] - gram[np.ix_(free, ~free)] @ x[~free]
    best = np.linalg.lstsq(gram[np.ix_(free, free)], rest, rcond=None)[0]
    now, bottom, top = x[free], lower[free], upper[free]
    beyond = (best < bottom) | (best > top)
    if not beyond.any():
        x[free] = best
        return False
    bound = np.where(best < bottom, bottom, top)
    shares = np.full(len(now), np.inf)
    shares[beyond] = (bound - now)[beyond] / (best - now)[beyond]
    hit = int(shares.argmin())
    x[free] = now + shares[hit] * (best - now)
    held = np.flatnonzero(free)[hit]
    x[held] = bound[hit]
    free[held] = False
    return True

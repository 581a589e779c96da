"""The tangents of the tail: where they touch `√V`, and what they cost.

The root of a linear form is concave, so `M_p + √V_p ≤ y[p]` is no row of a linear program. But its
tangent at any point V₀ > 0 lies above the root,

    √V ≤ √V₀/2 + V/(2√V₀) ,   equal at V = V₀ ,

so a program with tangents is on the safe side: shares that it accepts hold. A point far from the V
of the answer makes the program too cautious and the fleet too dear, so points are moved to the V of
each answer until they settle. Must not know which solver does it.
"""

import numpy as np

from planner.program.subproblem import Subproblem
from planner.sizes import FloatArray

# The slope 1/(2√V₀) grows without bound at 0; at 1e-4 it is 50. A pool with so little variance has
# a tail of a hundredth of a backend.
LEAST_POINT = 1e-4
LEAST_START = 1e-3  # of a first point where there is a tail at all
# The root √V₀ of a first point is at most this part of the pool's backends, and the tangent's
# constant half of that. A pool with a constant above its backends could never open, and its point
# would never move.
ROOM = 0.3
# The part of all variance that is assumed in each pool when the fleet is given. Over 48 made-up
# problems 0.1 to 1 gave plans of the same cost; with 0.02 seven were dearer, by up to 23 %.
SPREAD = 0.4
SETTLED = 0.02  # tangent points that move by a smaller part of themselves have arrived


def first_points(subproblem: Subproblem) -> FloatArray:
    """(m,) points for free counts: all variance, divided evenly among the pools."""
    variance = subproblem.variance.sum(axis=0)
    points = np.maximum(variance / len(variance), np.where(variance > 0, LEAST_START, 0.0))
    return _that_open(points, subproblem.bounds.most)


def fleet_points(subproblem: Subproblem, room: FloatArray) -> FloatArray:
    """(m,) points for a given fleet, whose pools hold (m,) room."""
    return _that_open(SPREAD * subproblem.variance.sum(axis=0), room)


def next_points(subproblem: Subproblem, weights: FloatArray, before: FloatArray) -> FloatArray:
    """(m,) the V of every pool that (n, m) shares use; the point before for the others."""
    used = weights.sum(axis=0) > 0
    variance = (weights * subproblem.variance).sum(axis=0)
    return np.where(used, np.maximum(variance, LEAST_POINT), before)


def settled(points: FloatArray, before: FloatArray) -> bool:
    """Whether one more round would change next to nothing."""
    return bool(np.all(np.abs(points - before) <= SETTLED * before))


def overstated_usd(subproblem: Subproblem, weights: FloatArray, points: FloatArray) -> float:
    """$/h by which the tangents at (m,) points exceed the tails of (n, m) shares."""
    root, variance = np.sqrt(points), (weights * subproblem.variance).sum(axis=0)
    over = root / 2 + variance / (2 * root) - np.sqrt(variance)
    return float(np.where(variance > 0, over, 0.0) @ subproblem.costs.usd)


def _that_open(points: FloatArray, most: FloatArray) -> FloatArray:
    """Points whose constant leaves room in pools of (m,) most backends."""
    return np.asarray(np.clip(points, LEAST_POINT, np.maximum(LEAST_POINT, (ROOM * most) ** 2)))

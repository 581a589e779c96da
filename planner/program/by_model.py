"""Models that share a limit: many small programs instead of one large one.

Alone, each model is a small program. If what all of them want is within the shared limits, that is
the answer. If not, each model makes several offers, fleets of its own (`negotiation`). The best
offers that fit together are where the search over all models begins, in the time that is left.
Must not know the solver (`lp.Program` stands for it), time, or plans.
"""

import numpy as np

from planner.program import search
from planner.program.lp import Program
from planner.program.negotiation import Negotiation, Programs
from planner.program.parts import model_parts
from planner.program.subproblem import Incumbent, Subproblem

# Of the best offers, by every model. Over "two sold out" of `cuvee bench-solve` a third gave none.
IMPROVEMENTS = 2
# Shares of a program up to which it is solved whole where demand is unserved. A program of 1,850
# shares found in 3 s less than the offers, which take 1 s.
LARGE = 1000


def min_cost(whole: Subproblem, programs: Programs) -> Incumbent:
    """The cheapest fleet found that serves all it can. Raises SolverFailed without an answer.

    programs: makes the program of a subproblem; all of them end at the same time.
    """
    if len(model_parts(whole)) == 1:
        return search.min_cost(whole, programs(whole))
    talks = Negotiation(whole, programs)
    talks.ask()
    if talks.fits:
        return talks.best()
    program = programs(whole)
    best = _negotiated(whole, talks, program)
    enough = talks.settled if talks.serves_all else _shares(whole) > LARGE
    if program.spent or enough:
        return best
    found = search.min_cost(whole, program, best if talks.serves_all else None)
    return talks.better(found, best)


def _negotiated(whole: Subproblem, talks: Negotiation, program: Program) -> Incumbent:
    """The best offers that fit together when all models cannot have what they want."""
    if not talks.short:
        talks.take_turns()
    if not talks.serves_all:
        shares = search.least_unserved(whole, program)
        if shares is not None:
            talks.divide(shares)
        talks.take_turns()
    _improve(talks)
    if not (talks.short or talks.spent or talks.settled):
        relaxed = search.relaxation(whole, program)
        talks.haggle(None if relaxed is None else relaxed.prices)
        _improve(talks)
    return talks.best()


def _improve(talks: Negotiation) -> None:
    for _ in range(IMPROVEMENTS):
        if talks.spent or not talks.improve():
            break


def _shares(whole: Subproblem) -> int:
    return int(np.isfinite(whole.mean).sum())

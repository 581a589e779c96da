"""What can go wrong in the planner, and the only exceptions that it raises on purpose.

PlannerError
├── InvalidValue      a value that cannot be what it claims to be (a negative price, falling edges)
├── InvalidFile       a file that cannot be read as what it should be; names file and line or key
├── PlayTooLarge      a fleet cannot be played: its traffic does not fit into memory
└── SolverFailed      the solver returned no usable answer at all (not: an infeasible demand)
"""


class PlannerError(Exception):
    """Anything that the planner refuses, in one line that a user can act on."""


class InvalidValue(PlannerError, ValueError):
    """A value outside its domain; the message names the field."""


class InvalidFile(PlannerError):
    """A file that is not what it should be; the message begins with `path:line:` or `path:`."""


class PlayTooLarge(PlannerError):
    """A play that would need more requests than fit into memory; the message says how many."""


class SolverFailed(PlannerError):
    """The solver stopped without a solution. For an infeasible demand a plan is made instead."""

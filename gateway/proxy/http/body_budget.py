"""The budget for bodies in memory: those of requests, of replies that are collected, and of answers
that clients do not read. One for each listener and its backends. No I/O.

A limit for each body bounds one client; this bounds all of them together.
"""

from collections.abc import Callable
from typing import Final

UNLIMITED: Final = 1 << 62
# What passes even beyond the limit, because large bodies must not keep small ones out: a request,
# or a reply, that holds no more than this.
SMALL: Final = 16384


class BodyBudget:
    """Counts the bytes of bodies that are in memory.

    used, limit: in bytes. `used` may pass the limit by what one read brings. relieve: called when
    the limit is passed; gives back what it can.
    """

    __slots__ = ("limit", "relieve", "used")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = limit
        self.used = 0
        self.relieve: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<BodyBudget {self.used} of {self.limit} bytes>"

    @property
    def exceeded(self) -> bool:
        """Whether too much is in memory, after an attempt to give some back."""
        if self.used > self.limit and self.relieve is not None:
            self.relieve()
        return self.used > self.limit

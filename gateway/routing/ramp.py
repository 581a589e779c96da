"""How fast the room of a pool is given out, so that it also comes back evenly. Pure.

More work than capacity fills an idle fleet in a moment, and then no backend has room until the
first of those requests end: for seconds not even a request that should go before all of them finds
a place. So requests that others go before (laxer classes, callers that have had more than their
part) may raise the load of a pool no faster than it would fill at its own rate, but for a burst.
"""

from typing import Final

BURST: Final = 0.1  # load


class Ramp:
    """The load up to which such requests may fill one pool; it rises with time."""

    __slots__ = ("_at_s", "_fill_s", "_most")

    def __init__(self, fill_s: float) -> None:
        """fill_s: how long a request stays on a full backend, which is how long the pool takes to
        fill at the rate at which it serves."""
        self._fill_s = fill_s
        self._most = self._at_s = 0.0

    def __repr__(self) -> str:
        return f"<Ramp up to {self._most:.2f}>"

    def allows(self, load: float, more: float, now_s: float) -> bool:
        """Whether a request may be placed now. load: mean load of the pool's backends. more: what
        the request adds to it."""
        gone_s, self._at_s = now_s - self._at_s, now_s
        risen = self._most + gone_s / self._fill_s
        # A request larger than the burst is waited for, too.
        self._most = max(load, min(risen, load + max(BURST, more)))
        return load == 0.0 or load + more <= self._most

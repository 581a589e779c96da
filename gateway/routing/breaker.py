"""The circuit breaker of one backend: judges it by what became of its requests.

Closed: requests go to the backend. Open: after failures in a row no request goes there for a pause.
Half-open: the pause is over, and one trial request decides. Pure: time is an argument. Knows no
HTTP and no other backend.
"""

from typing import Final

COOLDOWN_S: Final = 1.0  # first pause; it doubles up to the longest
LONGEST_COOLDOWN_S: Final = 30.0
# Failures in a row before a pause. A backend to which no connection can be made pauses at once.
TOLERATED: Final = 3
# Failures further apart are not in a row: three bad requests of one client in a minute, with nobody
# else's in between, say nothing about a backend.
FORGET_S: Final = 10.0
# Added to the pressure by which backends are compared, for every failure in a row. A backend that
# fails fast is idle, and would otherwise always be the least pressed one.
PENALTY: Final = 0.25


class Breaker:
    """What is known of a backend from its requests.

    failures: in a row.
    """

    __slots__ = ("_failed_at_s", "_open_until_s", "_trial", "_unreachable", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self._failed_at_s = 0.0
        self._open_until_s = 0.0
        self._unreachable = False  # whether the last failure was that nobody answered at all
        self._trial: object | None = None  # the lease of the trial request

    def __repr__(self) -> str:
        state = "closed" if not self.tripped else "open" if self._trial is None else "half-open"
        return f"<Breaker {state}, {self.failures} failures>"

    @property
    def tripped(self) -> bool:
        """Whether the breaker is open or half-open."""
        return self.failures >= TOLERATED

    @property
    def penalty(self) -> float:
        """What to add to the backend's pressure where backends are compared."""
        return PENALTY * min(self.failures, TOLERATED)

    def allows(self, now_s: float) -> bool:
        """Whether a request may go to the backend now."""
        return now_s >= self._open_until_s and self._trial is None

    def begin(self, lease: object) -> None:
        """Note that a request was placed; in a half-open breaker it is the trial."""
        if self.tripped:
            self._trial = lease

    def end(self, lease: object) -> None:
        """Note that a request has ended. A trial that ended without a verdict, because its client
        left, makes room for another trial."""
        if self._trial is lease:
            self._trial = None

    def failed(self, now_s: float, *, unreachable: bool, may_open: bool) -> float | None:
        """Count a failed request; return the seconds of the pause if one begins.

        unreachable: whether no connection could be made, so that the request cannot be the cause.
        may_open: whether enough other backends are left. A request that fails during a pause was
        sent before the pause and does not lengthen it.
        """
        if now_s < self._open_until_s:
            return None
        if not self.tripped and now_s - self._failed_at_s > FORGET_S:
            self.failures = 0
        self._failed_at_s = now_s
        self._unreachable = unreachable
        failures = max(self.failures + 1, TOLERATED if unreachable else 0)
        self.failures = failures if may_open else min(failures, TOLERATED - 1)
        if not self.tripped:
            return None
        pause_s: float = min(
            COOLDOWN_S * 2.0 ** min(self.failures - TOLERATED, 10), LONGEST_COOLDOWN_S
        )
        self._open_until_s = now_s + pause_s
        return pause_s

    def answered(self) -> None:
        """Note that an answer has begun. This closes the breaker of a backend that could not be
        reached; a backend that breaks its answers off must complete one (`succeeded`)."""
        if self._unreachable:
            self.succeeded()

    def succeeded(self) -> None:
        """Close the breaker: an answer was complete, or a probe found the backend up again."""
        self.failures = 0
        self._open_until_s = 0.0
        self._unreachable = False
        self._trial = None

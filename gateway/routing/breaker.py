"""The circuit breaker of one backend: judges it by what became of its requests.

Closed: requests go to the backend. Open: after failures in a row, or many more than its peers have,
no request goes there for a pause. Half-open: the pause is over, and one trial request decides.
Pure: time is an argument. Knows no HTTP and no other backend.
"""

from typing import Final

from gateway.routing.failure_rate import FailureRate, stands_out

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
ANYONE: Final = ""  # in place of a caller: several, or one that is not known


class Breaker:
    """What is known of a backend from its requests.

    failures: in a row. unreachable: whether the last one was that nobody answered at all. rate: of
    the failures of the last seconds.
    """

    __slots__ = (
        "_caller", "_failed_at_s", "_open_until_s", "_pauses", "_standing_out", "_trial",
        "failures", "rate", "unreachable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.failures = 0
        self.rate = FailureRate()
        self._caller = ANYONE  # whose requests the failures in a row were
        self._failed_at_s = 0.0
        self._open_until_s = 0.0
        self._pauses = 0  # without an answer in between
        self._standing_out = False  # whether the last pause began because of the rate
        self.unreachable = False
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

    def failed(
        self,
        now_s: float,
        *,
        unreachable: bool,
        may_open: bool,
        caller: str = ANYONE,
        peers: tuple[float, float] = (0.0, 0.0),
    ) -> float | None:
        """Count a failed request; return the seconds of the pause if one begins.

        unreachable: whether no connection could be made, so that the request cannot be the cause.
        may_open: whether enough other backends are left. caller: whose request it was; in a row,
        those of one caller alone begin no pause. peers: failed and all answers of the pool's other
        backends lately. A request that fails during a pause was sent before the pause and does not
        lengthen it.
        """
        self.rate.add(1, now_s)
        if now_s < self._open_until_s:
            return None
        if not self.tripped and now_s - self._failed_at_s > FORGET_S:
            self.failures = 0
        if now_s - self._failed_at_s > 2.0 * LONGEST_COOLDOWN_S:
            self._pauses = 0
        self._caller = caller if self.failures == 0 or caller == self._caller else ANYONE
        self._failed_at_s = now_s
        self.unreachable = unreachable
        failed, answers = self.rate.counts(now_s)
        self._standing_out = not self.tripped and stands_out(failed, answers, peers)
        at_once = unreachable or self._standing_out
        failures = max(self.failures + 1, TOLERATED if at_once else 0)
        alone = self._caller != ANYONE and not at_once and not self.tripped
        self.failures = failures if may_open and not alone else min(failures, TOLERATED - 1)
        return self._pause(now_s) if self.tripped else None

    def _pause(self, now_s: float) -> float:
        pause_s: float = min(COOLDOWN_S * 2.0 ** min(self._pauses, 10), LONGEST_COOLDOWN_S)
        self._pauses += 1
        self._open_until_s = now_s + pause_s
        return pause_s

    def proved(self) -> None:
        """Note that a request that failed here was served by another backend: it was not the
        request's fault, whoever sent it."""
        self._caller = ANYONE

    def answered(self) -> None:
        """Note that an answer has begun. This closes the breaker of a backend that could not be
        reached; a backend that breaks its answers off must complete one (`succeeded`)."""
        if self.unreachable:
            self._close()

    def succeeded(self, now_s: float) -> None:
        """Close the breaker: an answer was complete. One that rests because it fails now and then
        must show it after the pause, and its next pause is longer all the same."""
        self.rate.add(0, now_s)
        if self._standing_out and now_s < self._open_until_s:
            return
        if self.failures or self._pauses:
            self._close()

    def up_again(self) -> None:
        """Note that a probe found the backend up after it was down. This closes the breaker of one
        that could not be reached; where answers failed, the next request is the trial."""
        if self.unreachable:
            self._close()
        self._open_until_s = 0.0

    def recall(self) -> None:
        """Let requests go to the backend: too few others are left."""
        self.failures = min(self.failures, TOLERATED - 1)
        self._open_until_s = 0.0
        self._trial = None

    def _close(self) -> None:
        if not self._standing_out:
            self._pauses = 0
        self.failures = 0
        self._open_until_s = 0.0
        self.unreachable = False
        self._trial = None

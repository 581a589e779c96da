"""What became of the attempts of one request, and whether another one may follow. No I/O."""

from typing import Final

from gateway.errors import (
    ConnectFailed,
    ConnectionLost,
    GatewayError,
    UpstreamError,
    Vacated,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.engines import EngineRefusal
from gateway.routing.admission import Admission
from gateway.routing.backend import Backend, Lease
from gateway.routing.observation import NO_BUCKET

# Refusals for lack of room that are tried again; the next one is the client's answer. One refusal
# means that a backend is fuller than the router knew; nine in a row mean that all are.
ADMISSIONS: Final = 8
# Attempts that may break a backend, or be cut off by one. The request itself may be the cause, so
# it must not be taken through the whole fleet.
BROKEN: Final = 2


class Attempts:
    """The failed attempts of one request; made when the first one fails.

    tried: names of backends that are not asked again. broken: attempts that may have broken their
    backend. failure: the last failure, `None` if there were only refusals for lack of room.
    refusal: the last of those. blamed: backends where it failed. suspects: those that refused what
    another one may serve. doubted: attempts that cost a doubt. outgrown: whether a pool refused it
    for its length, so that it is for larger ones.
    """

    __slots__ = (
        "_refused", "blamed", "broken", "doubted", "failure", "outgrown", "refusal", "suspects",
        "tried",
    )  # fmt: skip

    def __init__(self) -> None:
        self.tried: list[str] = []
        self.broken = self._refused = self.doubted = 0
        self.outgrown = False
        self.failure: UpstreamError | None = None
        self.refusal: EngineRefusal | None = None
        self.blamed: list[Backend] = []
        self.suspects: list[tuple[Lease, EngineRefusal]] = []

    def __repr__(self) -> str:
        return f"<Attempts, tried {self.tried}, {self._refused} times without room>"

    def outgrow(
        self, error: UpstreamError, lease: Lease, active: ActiveRequest, admission: Admission
    ) -> bool:
        """Whether an engine refused the request for its length and other pools hold more. From then
        on the request is for those: each pool is asked once at most, it costs no retry, and it is
        no failure of the backend."""
        if not isinstance(error, EngineRefusal) or error.context is None:
            return False
        if active.bucket == NO_BUCKET:
            return False
        larger = admission.larger(
            active.estimate,
            bucket=active.bucket,
            pool=lease.backend.pool,
            limit=error.context.limit,
        )
        if larger:
            active.estimate.only = larger
            self.failure, self.outgrown = error, True
        return bool(larger)

    def note(self, lease: Lease, error: UpstreamError, *, goes_on: bool = False) -> None:
        """Note a failed attempt. goes_on: whether the request goes on from an earlier answer, which
        a backend need not have."""
        if isinstance(error, EngineRefusal) and error.admission:
            self._refused += 1
            self.refusal = error
            return
        if isinstance(error, Vacated):  # it is still served, even if that is too late now
            self.failure = self.failure or error
            return
        self.failure = error
        if isinstance(error, EngineRefusal) and error.doubtful:
            self.doubted += 1
            if not (goes_on and error.status == 404):
                self.suspects.append((lease, error))
        elif not isinstance(error, ConnectFailed):
            self.broken += 1
            self.blamed.append(lease.backend)
        if not isinstance(error, ConnectionLost):
            self.tried.append(lease.backend.name)

    def last(self, error: UpstreamError, retries: int) -> bool:
        """Whether no attempt may follow this one. retries: backends that may be asked beside the
        first."""
        if isinstance(error, EngineRefusal):
            if error.admission:
                return self._refused > ADMISSIONS
            if not error.retriable:
                return True
        return self.broken >= BROKEN or len(self.tried) > retries

    def verdict(self, error: GatewayError) -> GatewayError:
        """What the client is told when no backend is left to ask or none has room: what a backend
        said, if one said anything.

        error: why no attempt follows. A backend that has no room may say itself when to come again.
        """
        if self.failure is not None and not isinstance(self.failure, Vacated):
            return self.failure
        if self.refusal is None:
            return error
        if not self.refusal.pause_s:
            self.refusal.retry_after_s = error.retry_after_s
        return self.refusal

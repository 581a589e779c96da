"""A request that waits for its turn. Mutable while it waits; knows no queue and no backend."""

from collections.abc import Callable, Collection
from math import inf

from gateway.errors import GatewayError
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate


class Ticket:
    """One request in the queue, until it has a lease or an error.

    caller: id of the caller. tokens: estimated, input and output. due_s: when its first token is
    due, infinite without a promise. until_s: how long it may wait. exclude: names of backends where
    it failed. rank: under which it waits: whether a promise holds may change meanwhile. lease,
    error: what became of it.
    """

    __slots__ = (
        "bucket", "caller", "due_s", "error", "estimate", "exclude", "lease", "rank", "ready",
        "tokens", "until_s",
    )  # fmt: skip

    def __init__(
        self,
        *,
        estimate: Estimate,
        bucket: int,
        caller: str,
        ready: Callable[[], None],
        due_s: float = inf,
        until_s: float = inf,
        exclude: Collection[str] = (),
    ) -> None:
        """ready: called once, when there is a lease or an error."""
        self.estimate = estimate
        self.bucket = bucket
        self.caller = caller
        self.ready = ready
        self.tokens = estimate.tokens
        self.due_s = due_s
        self.until_s = until_s
        self.exclude = exclude
        self.rank = 0
        self.lease: Lease | None = None
        self.error: GatewayError | None = None

    def __repr__(self) -> str:
        state = self.lease or self.error or "waits"
        return f"<Ticket {self.estimate!r} of {self.caller or 'nobody'}: {state}>"

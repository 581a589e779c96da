"""The lease by which one of several gateways plans, as its holder counts it. Pure.

The store ends a lease by its own clock, some time after this gateway asked for it. This gateway
ends it by its own clock, counted from the moment at which it asked, and earlier: so it stops before
another one may begin, unless clocks run at very different speeds. What it publishes has its token
all the same, and the store refuses a token that is older than the newest.
"""

KEPT = 0.8  # of the lease, that its holder counts on
RENEWALS = 3  # in the time of one lease


class Leadership:
    """Whether this gateway plans.

    token: of the lease, a number that only grows from holder to holder; 0: it never had one.
    """

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self.token = 0
        self._until_s = 0.0

    def __repr__(self) -> str:
        return f"<Leadership by token {self.token} until {self._until_s:.1f}>"

    @property
    def renewal_s(self) -> float:
        """Seconds between two requests for the lease."""
        return self.lease_s / RENEWALS

    def granted(self, token: int, asked_s: float) -> None:
        """The store gave or renewed the lease. asked_s: when it was asked, by this gateway's
        clock."""
        self.token = token
        self._until_s = asked_s + KEPT * self.lease_s

    def lost(self) -> None:
        """Another gateway has the lease."""
        self._until_s = 0.0

    def leads(self, now_s: float) -> bool:
        """Whether this gateway plans at this moment."""
        return now_s < self._until_s

    def left_s(self, now_s: float) -> float:
        """Seconds until the lease ends if it is not renewed; at least 0."""
        return max(0.0, self._until_s - now_s)

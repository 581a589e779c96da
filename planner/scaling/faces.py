"""What the loop that scales asks of a forecast and of a policy. Times are seconds since 1970."""

from collections.abc import Sequence
from typing import Protocol

from planner.sizes import FloatArray


class Forecast(Protocol):
    """What is learned of demand, and what demand may become."""

    def observe(self, now_s: float, rate: FloatArray) -> None:
        """rate: (B,) requests/s by bucket, of about the last minute. Called every interval."""

    def peak(self, now_s: float, horizon_s: float, quantile: float) -> FloatArray:
        """(B,) requests/s that the demand stays below, from now until now + horizon, with this
        probability; never below what is observed now."""


class CountPolicy(Protocol):
    """Turns what is needed at each look into what to have."""

    def decide(
        self,
        now_s: float,
        needed: Sequence[int],
        ready: Sequence[int],
        pending: Sequence[int],
        *,
        holds: bool | Sequence[bool] = False,
        more: Sequence[int] | None = None,
    ) -> tuple[int, ...]:
        """(P,) backends to have. needed: (P,) of the cheapest fleet for the forecast. ready: that
        serve. pending: that are ordered and have not come; they count once.

        holds: whether ready and pending backends together would do for a lower quantile of the
        forecast; by pool, or for all. Where they hold, nothing is ordered for what is needed: so
        noise between the two quantiles changes nothing.

        more: (P,) of the cheapest fleet for the forecast that keeps all backends that are ready or
        pending; what it has beyond them is ordered where they do not hold, so that no second pool
        is scaled for load that another one has already. Without it `needed` is ordered.

        Scales up at once otherwise; down only what was not needed for a while, and never while what
        replaces it is not ready.
        """

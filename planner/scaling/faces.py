"""What the loop that scales asks of a forecast and of a policy. Times are seconds since 1970."""

from collections.abc import Sequence
from typing import Protocol

from planner.sizes import FloatArray


class Forecast(Protocol):
    def observe(self, now_s: float, rate: FloatArray) -> None:
        """rate: (B,) requests/s by bucket, of about the last minute. Called every interval."""

    def peak(self, now_s: float, horizon_s: float, quantile: float) -> FloatArray:
        """(B,) requests/s that the demand stays below, from now until now + horizon, with this
        probability; never below what is observed now."""


class CountPolicy(Protocol):
    def decide(
        self, now_s: float, needed: Sequence[int], ready: Sequence[int], pending: Sequence[int]
    ) -> tuple[int, ...]:
        """(P,) backends to have. needed: (P,) of the cheapest fleet for the forecast. ready: that
        serve. pending: that are ordered and have not come; they count once. Scales up at once; down
        only what was not needed for a while, and never while what replaces it is not ready."""

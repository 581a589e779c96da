"""A latency promise. Must not know models, buckets or how the promise is kept."""

from dataclasses import dataclass

from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """TTFT and TPOT targets in seconds, both to be met by the share `attainment` of requests.

    A request with fewer than two output tokens has no TPOT and meets that target. Raises
    InvalidValue for a target or a share outside its domain.
    """

    ttft_s: float
    tpot_s: float
    attainment: float = 0.99

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidValue(f"{name} must be positive and finite: {getattr(self, name)}")
        # Below one half κ = Φ⁻¹(attainment) is negative, and the planner uses its square.
        if not 0.5 <= self.attainment < 1:
            raise InvalidValue(f"attainment must be in [0.5, 1): {self.attainment}")

    def met_by(self, ttft_s: float | None, tpot_s: float | None) -> bool:
        """Whether one request met the promise; a request without a first token did not."""
        return ttft_s is not None and ttft_s <= self.ttft_s and (tpot_s or 0.0) <= self.tpot_s

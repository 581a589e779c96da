"""What actuators tell others of a pool. Knows no plan and no backend."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledPool:
    """One pool whose number of backends is ordered. model: as clients name it. gpu: type, and gpus:
    how many of them one backend has. zone: `None` if it has none."""

    name: str
    model: str
    gpu: str
    gpus: int
    zone: str | None

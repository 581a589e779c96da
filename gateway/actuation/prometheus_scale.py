"""Leaves wishes to whoever reads the metrics: an HPA, or KEDA. Sends nothing."""

from gateway.actuation.actuator import ScaleOrder
from gateway.actuation.scaled_pool import ScaledPool
from gateway.telemetry.control_definitions import DESIRED_BACKENDS


class PrometheusScale:
    """The `Actuator` of one pool whose wishes are its sample of `cuvee_desired_backends`. Each
    wish is in that metric, whatever the pool's actuator is: here that is all."""

    def __init__(self, pool: ScaledPool) -> None:
        self._pool = pool

    def __repr__(self) -> str:
        return f"<PrometheusScale {self.name}>"

    @property
    def name(self) -> str:
        """See `Actuator`."""
        return f'prometheus {DESIRED_BACKENDS.name}{{pool="{self._pool.name}"}}'

    async def apply(self, order: ScaleOrder) -> None:
        """See `Actuator`: whether somebody follows the metric cannot be known here."""

    async def aclose(self) -> None:
        """See `Actuator`."""

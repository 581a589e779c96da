"""Which data plane serves: a worker in this process, or a supervisor of several."""

from gateway.config.serving import ServingConfig
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.table import RoutingTable
from gateway.workers.plane import DataPlane
from gateway.workers.port import DataPort
from gateway.workers.supervisor import Supervisor
from gateway.workers.worker import Worker


def data_plane(
    config: ServingConfig,
    table: RoutingTable,
    *,
    fleet: Fleet,
    estimator: Estimator,
    port: DataPort,
    admin: str,
) -> DataPlane:
    """The data plane that `gateway.workers` asks for, not yet started. admin: see `Worker`."""
    if config.gateway.workers > 1:
        return Supervisor(config, table, fleet=fleet, estimator=estimator, port=port, admin=admin)
    sockets = [held.dup() for held in port.share(0)]
    return Worker(config, table, fleet=fleet, estimator=estimator, sockets=sockets, admin=admin)

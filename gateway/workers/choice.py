"""Which data plane serves: a worker in this process, or a supervisor of several; and where other
gateways' load comes in."""

from collections.abc import Mapping

from gateway.config.serving import ServingConfig
from gateway.routing.affinity import SPARE_ROWS, Affinity
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import GatewayLoad, SoleView
from gateway.routing.prefix_index import PrefixIndex
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
) -> tuple[DataPlane, GatewayLoad | None]:
    """The data plane that `gateway.workers` asks for, not yet started; and what it holds beside
    other gateways, `None` where `gateway.cluster` names none. admin: see `Worker`."""
    if config.gateway.workers > 1:
        supervisor = Supervisor(
            config, table, fleet=fleet, estimator=estimator, port=port, admin=admin
        )
        return supervisor, supervisor.load
    peers = None if config.gateway.cluster is None else SoleView(fleet)
    worker = Worker(
        config,
        table,
        fleet=fleet,
        estimator=estimator,
        sockets=[held.dup() for held in port.share(0)],
        admin=admin,
        peers=peers,
    )
    return worker, peers


def affinity_of(plane: DataPlane, fleet: Fleet, switches: Mapping[str, str]) -> Affinity | None:
    """Where prompts have been, to be read and not to be written; `None` of another data plane.
    switches: by pool, as in the configuration."""
    if isinstance(plane, Supervisor):
        made = Affinity()
        made.configure(switches)
        made.use(plane.table)
        made.share(plane.prefixes)
        made.track(fleet)
        return made
    return plane.router.affinity if isinstance(plane, Worker) else None


def prefix_index(plane: DataPlane, fleet: Fleet) -> PrefixIndex:
    """Where prompts have been, as all workers of a data plane know it. A worker in this process
    begins with another one, in place of that which it would make of its own."""
    if isinstance(plane, Supervisor):
        return plane.prefixes
    assert isinstance(plane, Worker)
    affinity, rows = plane.router.affinity, fleet.membership.rows + SPARE_ROWS
    index = PrefixIndex(bytearray(8 * PrefixIndex.words(rows=rows)), rows=rows)
    index.salt = affinity.salt
    affinity.share(index)
    return index

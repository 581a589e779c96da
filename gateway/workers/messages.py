"""What the supervisor and a worker say to each other. Values; the codec makes bytes of them."""

from typing import Union

import msgspec

from gateway.config.serving import ServingConfig
from gateway.routing.estimator_schema import EstimatorState, Lesson
from gateway.routing.membership import Membership
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges


class WorkerMessage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One message; its class's name tells it from the others."""


class StartUp(WorkerMessage, frozen=True, kw_only=True):
    """Down, first: all that a worker begins with.

    learned: what the supervisor's estimator knows. admin: base URL of the supervisor. level: of the
    log.
    """

    config: ServingConfig
    table: RoutingTable
    membership: Membership
    learned: EstimatorState
    host: str
    port: int
    admin: str
    level: int


class NewTable(WorkerMessage, frozen=True, kw_only=True):
    """Down: a plan is in force."""

    table: RoutingTable


class NewMembership(WorkerMessage, frozen=True, kw_only=True):
    """Down: backends came or went."""

    membership: Membership


class BackendLost(WorkerMessage, frozen=True, kw_only=True):
    """Down: a backend has not answered probes for a while."""

    backend: str


class Leave(WorkerMessage, frozen=True, kw_only=True):
    """Down: answer as not ready from now on, but serve."""


class Stop(WorkerMessage, frozen=True, kw_only=True):
    """Down: take no new requests, let running ones finish, and end."""


class WorkerReport(WorkerMessage, frozen=True, kw_only=True):
    """Up: what happened since the last report. The first one says that the worker listens; then one
    comes twice a second and is the heartbeat too.

    lessons: a sample of what requests taught. membership: version of what it serves with.
    """

    delta: StatsDelta
    lessons: tuple[Lesson, ...]
    gauges: WorkerGauges
    membership: int


# msgspec wants a type here, and `|` makes a value.
Down = Union[StartUp, NewTable, NewMembership, BackendLost, Leave, Stop]  # noqa: UP007
Up = WorkerReport

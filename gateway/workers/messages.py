"""The messages between the supervisor and a worker, as values."""

from typing import Union

import msgspec

from gateway.config.serving import ServingConfig
from gateway.routing.estimator_schema import EstimatorState, Lesson
from gateway.routing.membership import Membership
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats_schema import StatsDelta, WorkerGauges


class WorkerMessage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One message. On the wire the name of its class tells which one it is."""


class StartUp(WorkerMessage, frozen=True, kw_only=True):
    """Down, first: everything that a worker starts with.

    numbering: see `NewConfiguration`. learned: state of the supervisor's estimator. admin: base URL
    of the supervisor. level: log level as a number.
    """

    config: ServingConfig
    table: RoutingTable
    numbering: int
    membership: Membership
    learned: EstimatorState
    host: str
    port: int
    admin: str
    level: int


class NewConfiguration(WorkerMessage, frozen=True, kw_only=True):
    """Down: another configuration is in force, with its table.

    numbering: how often the numbers of buckets have changed until then.
    """

    config: ServingConfig
    table: RoutingTable
    numbering: int


class NewTable(WorkerMessage, frozen=True, kw_only=True):
    """Down: a new table is in force."""

    table: RoutingTable


class NewMembership(WorkerMessage, frozen=True, kw_only=True):
    """Down: backends were added or removed."""

    membership: Membership


class BackendLost(WorkerMessage, frozen=True, kw_only=True):
    """Down: several probes of a backend failed in a row. backend: its name."""

    backend: str


class Leave(WorkerMessage, frozen=True, kw_only=True):
    """Down: report not ready from now on, but go on serving."""


class Stop(WorkerMessage, frozen=True, kw_only=True):
    """Down: take no new requests, let running ones finish, then exit."""


class WorkerReport(WorkerMessage, frozen=True, kw_only=True):
    """Up: the statistics since the last report. The first report means that the worker listens;
    then one comes twice a second, which also shows that the worker lives.

    lessons: of a sample of the requests. membership: version of the membership that it serves with.
    numbering: under which the statistics by bucket were counted. leaving: whether it accepts no
    more, now or soon.
    """

    delta: StatsDelta
    lessons: tuple[Lesson, ...]
    gauges: WorkerGauges
    membership: int
    numbering: int
    leaving: bool


# msgspec wants a type here, and `|` makes a value.
Down = Union[  # noqa: UP007
    StartUp, NewConfiguration, NewTable, NewMembership, BackendLost, Leave, Stop
]
Up = WorkerReport

"""The metrics of a cluster of gateways, as one of them sees it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gateway.telemetry import control_definitions as metric
from gateway.telemetry.exposition import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFigures:
    """gateway: id of this one. up: whether Redis answers; error: why not. failures: in all. leads:
    whether this gateway plans; leader: which one does, as far as is known. token: of its last
    lease. gateways: seconds since each of the others was heard, by id. plan: in force here;
    plan_from: the gateway that made it. problem: why the plan of the others is not followed."""

    gateway: str
    zone: str | None
    up: bool
    error: str
    failures: int
    leads: bool
    leader: str
    token: int
    gateways: Mapping[str, float]
    plan: str
    plan_from: str
    problem: str


def cluster_families(figures: ClusterFigures | None) -> Iterator[Family]:
    """None, where there is no cluster."""
    if figures is None:
        return
    for definition, value in (
        (metric.CLUSTER_UP, int(figures.up)),
        (metric.CLUSTER_FAILURES, figures.failures),
        (metric.CLUSTER_LEADS, int(figures.leads)),
        (metric.CLUSTER_GATEWAYS, 1 + len(figures.gateways)),
        (metric.CLUSTER_VIEW_AGE, max(figures.gateways.values(), default=0.0)),
        (metric.CLUSTER_FOLLOWS, int(not figures.problem)),
    ):
        family = Family(definition)
        family.add("", value)
        yield family

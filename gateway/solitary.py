"""A gateway without others, which is one that `gateway.cluster` is not set for: it plans itself."""

from collections.abc import Callable

from gateway.alliance import Alliance
from gateway.cluster.caller_tokens import CallerTokens, tokens_of
from gateway.cluster.drain_board import DrainBoard
from gateway.config.load import Loaded
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import GatewayLoad
from gateway.telemetry.cluster_metrics import ClusterFigures
from gateway.telemetry.loops import Loops
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.plane import DataPlane
from planner.model.plan import Plan


class Solitary:
    """The face of `Alliance`, where there is no other gateway. tokens: of callers. drains: of
    backends."""

    def __init__(self, planning: Planning) -> None:
        self._planning = planning
        self.tokens, self.drains = CallerTokens(), DrainBoard()

    def __repr__(self) -> str:
        return "<Solitary>"

    async def __aenter__(self) -> "Solitary":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    def begin(self, plane: DataPlane, load: GatewayLoad | None) -> None:
        """There is nobody to speak with."""

    def leads(self) -> bool:
        """Always."""
        return True

    def leave(self) -> None:
        """Nobody takes over."""

    def configure(self, loaded: Loaded) -> None:
        """Nobody else is to have the same configuration."""

    def planned(self, reason: str) -> None:
        """Nobody is to be told."""

    def sealed(self) -> None:
        """Nobody is to be told."""

    def add(self, delta: StatsDelta, seen: float) -> None:
        """Take what happened here, for the plan. seen: the share of the workers that report."""
        self.tokens.add(tokens_of(delta.uses))
        self._planning.add(delta, seen=seen)

    def figures(self) -> ClusterFigures | None:
        """There is no cluster."""
        return None


def alliance_of(
    loaded: Loaded,
    *,
    fleet: Fleet,
    estimator: Estimator,
    planning: Planning,
    loops: Loops,
    put: Callable[[Plan, str], None],
    certified: Callable[[Plan], None],
) -> Alliance | Solitary:
    """What the configuration asks for. put, certified: see `Alliance`."""
    section = loaded.config.gateway.cluster
    if section is None:
        return Solitary(planning)
    return Alliance(
        section,
        loaded,
        fleet=fleet,
        estimator=estimator,
        planning=planning,
        loops=loops,
        put=put,
        certified=certified,
    )

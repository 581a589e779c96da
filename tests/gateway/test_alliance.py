"""What one gateway makes of what it can, and cannot, hear of the others."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec

from gateway.alliance import Alliance
from gateway.cluster.codec import encode
from gateway.cluster.messages import PlanNews
from gateway.cluster.origin import made_from
from gateway.cluster.store import Store
from gateway.config.cluster_schema import ClusterSection
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.table import RoutingTable, compile_table
from gateway.solitary import Solitary
from gateway.telemetry.loops import Loops
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.plane import DataPlane
from planner.model.plan import Plan
from planner.model.pool import Pool

DELTA = StatsDelta(
    arrivals={0: 5},
    sizes={(0, 1): (1.0, 2.0, 3.0, 0.0)},
    stays=[("p", "p-0", 1.0, 1.0, 10, 0, 5)],
    uses={("k", "m", "p"): (1, 4, 3, 0.5)},
)


class PlanningNotes:
    """A planning that notes what it is told."""

    def __init__(self) -> None:
        self.added: list[tuple[StatsDelta, float]] = []
        self.leads: list[bool] = []
        self.followed: list[str] = []
        self.plan: Plan
        self.pools: tuple[Pool, ...] = ()

    def add(self, delta: StatsDelta, *, seen: float) -> None:
        self.added.append((delta, seen))

    def lead(self, leads: bool) -> None:
        self.leads.append(leads)

    def follow(self, plan: Plan) -> None:
        self.plan = plan
        self.followed.append(plan.plan_id)


def alliance(
    loaded: Any,
    planning: Any,
    put: Callable[[Plan, str], None] = lambda *_: None,
    zone: str | None = None,
) -> Alliance:
    return Alliance(
        ClusterSection(redis="redis://127.0.0.1:1/0", timeout_s=0.1, zone=zone),
        loaded,
        fleet=Fleet.of({}),
        estimator=Estimator({}),
        planning=planning,
        loops=Loops(),
        put=put,
        certified=lambda _: None,
    )


async def test_what_cannot_be_seen_of_the_others_leaves_the_demand_as_it_is(shared):
    """Where Redis is gone, this gateway's requests are some of all: no rate is made of them, and no
    plan; sizes and times are true all the same."""
    planning = PlanningNotes()
    async with alliance(shared, planning) as one:
        one.add(DELTA, 1.0)
        ((delta, seen),) = planning.added

        assert (delta.arrivals, seen) == ({}, 0.0)
        assert (delta.sizes, delta.stays) == (DELTA.sizes, DELTA.stays)
        assert one.tokens.of("k") == 7
        assert not one.leads()
        assert planning.leads == [False]
        assert one._link.error


async def test_without_a_cluster_a_gateway_plans_for_itself():
    """All that it sees is all there is."""
    planning = PlanningNotes()
    one = Solitary(planning)  # type: ignore[arg-type]
    one.add(DELTA, 0.5)

    assert one.leads()
    assert one.tokens.of("k") == 7
    assert planning.added == [(DELTA, 0.5)]
    assert one.figures() is None


def test_the_print_is_of_what_plans_depend_on(shared, tmp_path: Path):
    """Another price is another configuration to plan for; another port is not."""
    gateway = msgspec.structs.replace(shared.config.gateway, port=1)
    same = msgspec.structs.replace(
        shared, config=msgspec.structs.replace(shared.config, gateway=gateway)
    )
    other = msgspec.structs.replace(shared, pools=shared.pools[1:])

    assert made_from(same) == made_from(shared)
    assert made_from(other) != made_from(shared)


class Answers:
    """A store that has one plan, and a planning that is to have it."""

    def __init__(self, news: PlanNews) -> None:
        self.news = news

    async def said(self, field: str) -> bytes | None:
        return encode(self.news)


async def test_a_plan_that_cannot_be_used_is_tried_once(shared, plan):
    """Of a gateway that is broken: the last plan stays, and the log is not flooded."""
    tries = []

    def put(plan: Plan, _: str) -> None:
        tries.append(plan.plan_id)
        if plan.plan_id == "bad":
            raise ValueError("no table can be made of it")

    planning = PlanningNotes()
    planning.plan = plan
    one = alliance(shared, planning, put=put)
    for number, plan_id in enumerate(("bad", "bad", "good")):
        news = PlanNews(
            token=1, number=number // 2, print=made_from(shared), reason="r", gateway="g",
            plan=replace(plan, plan_id=plan_id),
        )  # fmt: skip
        one._store = cast(Store, Answers(news))
        with suppress(ValueError):
            await one._follow(b"1.%d" % (number // 2))

    assert tries == ["bad", "good"]
    assert planning.followed == ["good"]


class PlaneNotes:
    """A data plane that has a table."""

    def __init__(self, table: RoutingTable) -> None:
        self.table = table


async def test_a_gateway_in_a_zone_has_a_table_of_its_own(shared, plan, pools):
    """Its zone's pool takes what its share of the traffic is; put in force once."""
    east = (replace(pools[0], zone="east"), *pools[1:])
    planning = PlanningNotes()
    planning.plan, planning.pools = plan, east
    plane = PlaneNotes(compile_table(plan, east))
    before = plane.table
    one = alliance(shared, planning, zone="east")
    one._plane = cast(DataPlane, plane)
    one._prefer_own_zone()
    assert plane.table is before  # of no traffic there is no share
    one._views.rate = 5.0
    one._prefer_own_zone()
    own = plane.table
    one._prefer_own_zone()

    assert own is plane.table is not before
    assert own.plan_id == before.plan_id

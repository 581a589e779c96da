"""What the planner may count with."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from gateway.plannable import usable
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.telemetry.stats_schema import StatsDelta
from loadtest.torture.control import SynchronousSolver


@pytest.mark.parametrize(
    ("ready", "counted"),
    [
        ((2, 1, 3), (2, 1, 3)),
        ((0, 1, 3), (0, 1, 3)),
        ((0, 0, 3), (4, 4, 3)),
        ((1, 0, 0), (1, 0, 4)),
    ],
)
def test_a_model_that_has_nothing_ready_keeps_its_fleet(pools, ready, counted):
    """All of its backends are down or cold: its plan stays as it was, for when they come back."""
    of_two_models = (*pools[:2], replace(pools[2], model="another"))

    assert usable(of_two_models, ready, (4, 4, 4)) == counted


@pytest.mark.parametrize("correction", [True, False])
async def test_plans_count_with_the_pace_unless_they_are_told_not_to(shared, correction):
    """Requests stay 1.5 times as long in one pool: its profile is that much slower, others stay."""
    section = msgspec.structs.replace(shared.config.planner, correction=correction)
    config = msgspec.structs.replace(shared.config, planner=section)
    loaded = msgspec.structs.replace(shared, config=config)
    planning = Planning(
        loaded,
        fleet=Fleet.of({name: pool.backends for name, pool in config.pools.items()}),
        estimator=Estimator({}),
        publish=lambda *_: None,
        on_look=lambda _result, _why: None,
        solver=SynchronousSolver(),
    )
    first, *others = loaded.pools
    times = first.profile.times
    stay_s = 1.5 * (times.prefill_s(500.0) + 100 * times.decode_s(1.0, 550.0))
    for second in range(100):
        stay = (first.name, f"{first.name}-0", stay_s, 1.0, 500, 0, 100)
        planning.paces.add([stay], float(second))
    planning.paces.review(100.0)
    slower, *same = planning.paced(loaded, planning.running)
    ratio = slower.profile.times.decode_s(4.0, 500.0) / times.decode_s(4.0, 500.0)

    assert ratio == pytest.approx(1.5 if correction else 1.0, rel=0.02)
    assert [pool.profile for pool in same] == [pool.profile for pool in others]
    assert planning.paces.found[0].pace == pytest.approx(1.5, rel=0.02)


class Looking(SynchronousSolver):
    """Counts the plans that it is asked for."""

    asked = 0

    async def plan(self, request):
        self.asked += 1
        return await super().plan(request)


async def test_only_one_that_leads_looks_at_the_demand(shared):
    """Not while it is paused, nor while another gateway plans; a loop at most runs."""
    section = msgspec.structs.replace(shared.config.planner, interval_s=0.01, min_requests=1)
    config = msgspec.structs.replace(shared.config, planner=section)
    results = []
    planning = Planning(
        msgspec.structs.replace(shared, config=config),
        fleet=Fleet.of({name: pool.backends for name, pool in config.pools.items()}),
        estimator=Estimator({}),
        publish=lambda *_: None,
        on_look=lambda result, _why: results.append(result),
        solver=Looking(),
    )
    planning.lead(False)
    async with planning:
        planning.resume()
        assert planning._looking is None
        planning.lead(True)
        looking = planning._looking
        planning.resume()
        assert planning._looking is looking is not None
        planning.pause()
        planning.lead(False)
        planning.lead(True)
        assert planning._looking is None
        planning.resume()
        async with asyncio.timeout(10):
            while len(results) < 3:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.01)
        planning.lead(False)
        assert planning._looking is None


async def test_another_gateways_plan_and_sizes_are_taken_over(shared):
    """Sizes only where nothing else is known."""
    planning = Planning(
        shared,
        fleet=Fleet.of({name: pool.backends for name, pool in shared.config.pools.items()}),
        estimator=Estimator({}),
        publish=lambda *_: None,
        on_look=lambda _result, _why: None,
        solver=SynchronousSolver(),
    )
    async with planning:
        plan = replace(planning.plan, plan_id="another")
        planning.follow(plan)
        planning.recall({(0, 1): (1.0, 2.0, 3.0, 0.0)})
        planning.recall({(0, 2): (1.0, 2.0, 3.0, 0.0)})

        assert planning.plan is plan
        assert planning.sizes == {(0, 1): (1.0, 2.0, 3.0, 0.0)}


@pytest.mark.parametrize(("window_s", "reaches_back"), [(0.01, True), (1e6, False)])
async def test_what_is_recent_is_no_older_than_the_window(shared, window_s, reaches_back):
    """Nor than what was observed."""
    section = msgspec.structs.replace(shared.config.planner, window_s=window_s)
    config = msgspec.structs.replace(shared.config, planner=section)
    planning = Planning(
        msgspec.structs.replace(shared, config=config),
        fleet=Fleet.of({name: pool.backends for name, pool in config.pools.items()}),
        estimator=Estimator({}),
        publish=lambda *_: None,
        on_look=lambda _result, _why: None,
        solver=SynchronousSolver(),
    )
    async with planning:
        async with asyncio.timeout(10):
            while planning.watched_s() < 0.02:
                planning.add(StatsDelta())
                await asyncio.sleep(0.005)
        assert (planning.window_s == window_s) is reaches_back
        assert planning.window_s <= planning.watched_s()

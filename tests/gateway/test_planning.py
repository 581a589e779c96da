"""What the planner may count with."""

from dataclasses import replace

import msgspec
import pytest

from gateway.planning import Planning, usable
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
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

"""What runs costs its price, what sleeps the price of sleep, and what is reserved nothing."""

from dataclasses import replace

import msgspec
import pytest

from gateway.bill import running_bill
from gateway.config.scale_schema import ScaleSection
from gateway.routing.fleet import Fleet
from planner.model.pool import SharedGpus


@pytest.mark.parametrize(("asleep_usd", "saved"), [(0.0, 1.0), (None, 0.0), (1e6, 0.0)])
def test_a_sleeper_costs_the_price_of_sleep_and_is_told_apart(shared, asleep_usd, saved):
    """Without one of its own, or at a higher one, the pool's. Plans do not have it."""
    pool = shared.pools[0]
    scale = ScaleSection(prometheus=True, most=4, asleep=1, asleep_usd_per_hour=asleep_usd)
    section = msgspec.structs.replace(shared.config.pools[pool.name], scale=scale)
    config = msgspec.structs.replace(
        shared.config, pools=shared.config.pools | {pool.name: section}
    )
    loaded = msgspec.structs.replace(shared, config=config)
    fleet = Fleet.of(
        dict.fromkeys(config.pools, ()) | {pool.name: ("http://x:1", "http://x:2", "http://x:3")}
    )
    fleet.backends[0].asleep = True

    usd, asleep = running_bill(loaded, fleet)

    assert usd[pool.name] == pytest.approx((3 - saved) * pool.usd_per_hour)
    assert asleep == pytest.approx((1 - saved) * pool.usd_per_hour)
    assert sum(usd.values()) == usd[pool.name]


@pytest.mark.parametrize(
    ("asleep", "shares"), [((0,), (0.0, 1.0)), ((), (0.5, 0.5)), ((0, 1), (0.5, 0.5))]
)
def test_shared_gpus_are_paid_for_by_who_is_awake(shared, asleep, shares):
    """Once, and by all of them if nobody is."""
    rack = SharedGpus(name="rack", gpus=1, usd_per_hour=8.0)
    pools = tuple(
        replace(pool, shared=rack, reserved=0) if place < 2 else pool
        for place, pool in enumerate(shared.pools)
    )
    loaded = msgspec.structs.replace(shared, pools=pools)
    urls = {pool.name: (f"http://x:{place}",) for place, pool in enumerate(pools[:2])}
    fleet = Fleet.of({pool.name: urls.get(pool.name, ()) for pool in pools})
    for place in asleep:
        fleet.backends[place].asleep = True

    usd, more = running_bill(loaded, fleet)

    assert tuple(usd[pool.name] / 8.0 for pool in pools[:2]) == shares
    assert more == 0.0

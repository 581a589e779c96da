"""What runs costs its price, what sleeps the price of sleep, and what is reserved nothing."""

import msgspec
import pytest

from gateway.bill import running_bill
from gateway.config.scale_schema import ScaleSection
from gateway.routing.fleet import Fleet


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

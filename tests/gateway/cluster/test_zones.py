"""Gateways prefer their own zone, and all together keep to the plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.load_frame import NOWHERE, LoadFrame, backend_keys, packed, zone_key
from gateway.cluster.views import Views
from gateway.cluster.zones import ZonePreference, zoned
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import Holding
from gateway.routing.table import compile_table

EAST, WEST = zone_key("east"), zone_key("west")
ZONES = st.sampled_from([EAST, WEST, zone_key("north"), NOWHERE])
PARTS = st.floats(0.01, 1.0)


@given(st.lists(st.tuples(PARTS, ZONES), min_size=1, max_size=6), st.lists(PARTS, min_size=3))
def test_all_together_send_each_pool_what_the_plan_says(pools, parts):
    """Whatever zones pools and traffic are in; each gateway sends all of its requests."""
    whole = sum(weight for weight, _ in pools)
    weights, zones = [weight / whole for weight, _ in pools], [zone for _, zone in pools]
    names = (EAST, WEST, zone_key("north"))
    total = sum(parts[:3])
    traffic = {zone: part / total for zone, part in zip(names, parts, strict=False)}
    sent = {zone: zoned(weights, zones, zone, traffic) for zone in names}

    for zone in names:
        assert sum(sent[zone]) == pytest.approx(1.0)
    for p, weight in enumerate(weights):
        got = sum(traffic[zone] * sent[zone][p] for zone in names)
        assert got == pytest.approx(weight)


def test_a_zone_keeps_what_its_pools_may_have():
    """Half of the traffic, of which its own pools may take three fifths of all: all of it; the
    other zone sends the rest there."""
    traffic = {EAST: 0.5, WEST: 0.5}

    assert zoned((0.6, 0.4), (EAST, WEST), EAST, traffic) == (1.0, 0.0)
    assert zoned((0.6, 0.4), (EAST, WEST), WEST, traffic) == pytest.approx((0.2, 0.8))
    assert zoned((0.6, 0.4), (EAST, WEST), NOWHERE, traffic) == (0.6, 0.4)
    assert zoned((0.0, 0.0), (EAST, WEST), EAST, traffic) == (0.0, 0.0)


def views_of(rates):
    """What a gateway of the east hears from others, by name: zone and rate."""
    views = Views(Fleet.of({}), zone=EAST, view_s=0.1)
    views.rate = 10.0
    nothing = Holding.nothing(0)
    told = {
        name: packed(
            LoadFrame(
                number=1, print=bytes(8), keys=backend_keys(()), sums=nothing.sums,
                tokens=nothing.tokens, claims=nothing.claims, rate=rate, zone=zone,
            )
        )
        for name, (zone, rate) in rates.items()
    }  # fmt: skip
    views.hear(told, bytes(8), 0.0)
    return views


def test_the_table_follows_the_plan_and_the_traffic(plan, pools):
    """A new one for another plan's table, or where the traffic has moved; else that in force."""
    from_plan = compile_table(plan, pools)
    views = views_of({"g-2": (WEST, 10.0)})
    preference = ZonePreference("east", views)
    table = preference.table(plan, lambda: pools, from_plan, 0.0)
    assert table is not None
    assert table.plan_id == plan.plan_id
    assert preference.table(plan, lambda: pools, table, 0.0) is None
    assert preference.table(plan, lambda: pools, from_plan, 0.0) is not None
    views.rate = 20.0
    assert preference.table(plan, lambda: pools, table, 0.0) is not None


def test_without_a_zone_or_traffic_the_plan_stays_as_it_is(plan, pools):
    """Nothing is preferred by chance."""
    table = compile_table(plan, pools)
    quiet = views_of({})
    quiet.rate = 0.0

    assert ZonePreference(None, views_of({})).table(plan, lambda: pools, table, 0.0) is None
    assert ZonePreference("east", quiet).table(plan, lambda: pools, table, 0.0) is None

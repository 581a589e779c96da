"""A plan compiled: same shares, an order to spill in, and slots that are always finite."""

from dataclasses import replace
from math import inf, isfinite

import pytest

from gateway.routing.table import compile_table


def test_slices_are_the_weights(plan, table):
    """Every share of the plan is in the table, and nothing else."""
    rows = [[dict(slices).get(p, 0.0) for p in range(3)] for slices in table.slices]

    assert rows == [list(row) for row in plan.weights]
    assert (table.plan_id, table.backends, table.pools) == (
        plan.plan_id, plan.backends, plan.pools
    )  # fmt: skip


def test_spilling_goes_to_the_cheapest_feasible_pool_first(plan, pools, table):
    """By dollars per request where the SLO holds; where it cannot hold, last."""
    for bucket, order in enumerate(table.order):
        feasible = [p for p in order if table.feasible[bucket][p]]
        usd = [pools[p].usd_per_hour * plan.seconds[bucket][p] for p in feasible]
        assert sorted(order) == [0, 1, 2]
        assert usd == sorted(usd)
        assert list(order[: len(feasible)]) == feasible


def test_infeasible_pools_are_last_by_prefill_speed(plan, pools):
    """Where no pool holds the SLO the fastest prefill comes first; its load is by TPOT."""
    hopeless = replace(
        plan, seconds=((inf,) * 3,) * plan.buckets.count, slots=((inf,) * 3,) * plan.buckets.count
    )
    table = compile_table(hopeless, pools)
    speed = [pools[p].profile.prefill_s_per_token for p in table.order[0]]

    assert speed == sorted(speed)
    assert not any(map(any, table.feasible))
    assert all(0 < slot < 1 for slots in table.slots[0] for slot in slots)


def test_a_pool_of_another_model_is_never_in_the_order(plan, pools):
    """No bucket may fall over to a model that its client did not ask for."""
    other = (*pools[:2], replace(pools[2], model="other"))

    assert all(2 not in order for order in compile_table(plan, other).order)


def test_slots_are_finite(table):
    """Load can always be added up."""
    slots = [slot for row in table.slots for slots in row for slot in slots]
    assert slots
    assert all(isfinite(slot) and slot > 0 for slot in slots)


def test_prefill_fills_a_backend_before_it_breaks_a_promise(plan, pools):
    """A backlog never exceeds the TTFT target, nor eight tokens' worth of the TPOT target."""
    kind = plan.buckets.classes[0]
    backlogs = []
    for slo in (replace(kind.slo, ttft_s=0.5, tpot_s=0.1), replace(kind.slo, ttft_s=2, tpot_s=0.1)):
        buckets = replace(plan.buckets, classes=(replace(kind, slo=slo),))
        backlogs.append(set(compile_table(replace(plan, buckets=buckets), pools).backlog_s))

    assert [len(of_all_buckets) for of_all_buckets in backlogs] == [1, 1]
    assert [min(of_all_buckets) for of_all_buckets in backlogs] == pytest.approx([0.5, 0.8])


def test_prefill_is_less_where_the_plan_expects_hits(plan, pools):
    """By as much of the prompts as are not computed; without hits it is the profile's."""
    whole = [pool.profile.prefill_s_per_token for pool in pools]
    hits = compile_table(replace(plan, cached_share=(0.0, 0.6, 1.0)), pools).prefill_s

    assert compile_table(plan, pools).prefill_s == pytest.approx(whole)
    assert compile_table(replace(plan, cached_share=()), pools).prefill_s == pytest.approx(whole)
    assert hits == pytest.approx([whole[0], 0.4 * whole[1], 0.0])


def test_pools_must_be_the_plans(plan, pools):
    """A table of another fleet's pools would send requests anywhere."""
    with pytest.raises(AssertionError):
        compile_table(plan, pools[::-1])

"""Which pools can serve a request at all, and what the router does with that."""

from dataclasses import replace

import pytest

from gateway.routing.eligibility import Eligibility
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.rotation import OWED, Rotation
from gateway.routing.router import PLANNED, SPILL, Router
from planner.model.buckets import BEST_EFFORT

CONTEXTS = {"a10g": 2048, "a100-80g": 8192, "h100": 16384}


@pytest.fixture
def bounded(table):
    """The table with pools of different contexts; the plan sends everything to the smallest."""
    small = table.pools.index("a10g")
    return replace(
        table,
        context=tuple(CONTEXTS[pool] for pool in table.pools),
        slices=tuple(((small, 1.0),) for _ in table.slices),
        backends=(3,) * len(table.pools),
    )


def ask(inputs=100, max_tokens=None, only=None, **fields):
    one = Estimate(
        model="llama-3-8b", input_tokens=inputs, output_tokens=50, output_p90=60,
        max_tokens=max_tokens, **fields,
    )  # fmt: skip
    one.only = only
    return one


def names(table, estimate, bucket=0):
    return {table.pools[p] for p in Eligibility(table).order(bucket, estimate)}


@pytest.mark.parametrize(
    ("inputs", "max_tokens", "able"),
    [
        (100, None, {"a10g", "a100-80g", "h100"}),
        (100, 1948, {"a10g", "a100-80g", "h100"}),
        (100, 1949, {"a100-80g", "h100"}),
        (2048, None, {"a100-80g", "h100"}),
        (100, 9000, {"h100"}),
        (100, 1_000_000, {"h100"}),
        (20_000, None, {"h100"}),
    ],
)
def test_prompt_and_cap_must_fit(bounded, inputs, max_tokens, able):
    """Where they fit nowhere, the largest may say so."""
    assert names(bounded, ask(inputs, max_tokens)) == able


def test_a_request_that_fits_everywhere_costs_nothing(bounded):
    """It gets the table's own tuple."""
    assert Eligibility(bounded).order(3, ask()) is bounded.order[3]


def test_only_pools_that_can(bounded):
    """Of those that have its adapter, the ones that hold it."""
    some = frozenset({"a10g", "a100-80g"})

    assert names(bounded, ask(only=some)) == some
    assert names(bounded, ask(max_tokens=4000, only=some)) == {"a100-80g"}
    assert names(bounded, ask(max_tokens=9000, only=some)) == {"a100-80g"}


@pytest.mark.parametrize(
    ("pool", "limit", "only", "larger"),
    [
        ("a10g", None, None, {"a100-80g", "h100"}),
        ("a10g", 1024, None, {"a100-80g", "h100"}),
        ("h100", None, None, set()),
        ("h100", 4096, None, {"a100-80g"}),  # its profile says more than its engine
        ("a10g", None, frozenset({"a10g", "h100"}), {"h100"}),
    ],
)
def test_what_one_refuses_is_for_larger_ones(bounded, pool, limit, only, larger):
    """By the profiles, and by what the refusing engine says."""
    assert Eligibility(bounded).larger(0, ask(only=only), pool, limit) == larger


@pytest.mark.parametrize("slo_class", ["default", BEST_EFFORT])
def test_a_request_is_routed_where_it_fits(bounded, slo_class):
    """Though the plan's share goes to the smallest; with and without a promise."""
    router = Router(bounded, Fleet.of({p: [f"http://{p}:1"] for p in bounded.pools}))

    lease = router.route(ask(max_tokens=9000, slo_class=slo_class), now_s=0.0)

    assert lease is not None
    assert lease.backend.pool == "h100"
    assert lease.decision == (BEST_EFFORT if slo_class == BEST_EFFORT else SPILL)
    short = router.route(ask(), now_s=0.0)
    assert short is not None
    assert short.decision == PLANNED


def test_one_that_only_slow_pools_hold_is_served_without_a_promise(bounded):
    """Else it would wait for room that no pool can give, and be refused."""
    large = bounded.pools.index("h100")
    slow = replace(
        bounded,
        feasible=tuple(tuple(f and p != large for p, f in enumerate(r)) for r in bounded.feasible),
    )
    router = Router(slow, Fleet.of({p: [f"http://{p}:1"] for p in slow.pools}))
    long = ask(max_tokens=9000)

    assert not router.promised(long, router.bucket(long))
    lease = router.route(long, now_s=0.0)
    assert lease is not None
    assert lease.backend.pool == "h100"


def test_shares_are_kept_as_far_as_requests_allow():
    """Every second request fits only into pool 1: pool 0 gets its half of the whole, all the
    others."""
    rotation = Rotation([((0, 0.5), (1, 0.5))], 2)
    served = [0, 0]
    for number in range(200):
        taken = rotation.take(0)
        assert taken is not None
        if number % 2 and taken == 0:
            rotation.pass_on(0, 0, 1)
            taken = 1
        served[taken] += 1

    assert served == [100, 100]


def test_turns_that_nobody_can_take_are_forgotten():
    """A mix that changes finds the shares again after a few requests."""
    rotation = Rotation([((0, 0.5), (1, 0.5))], 2)
    for _ in range(1000):
        if rotation.take(0) == 0:
            rotation.pass_on(0, 0, 1)
    later = [rotation.take(0) for _ in range(100)]

    assert later.count(0) <= 50 + 2 * OWED

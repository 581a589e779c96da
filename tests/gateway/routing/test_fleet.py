"""A fleet follows its membership, and forgets nothing of what stays."""

import pytest

from gateway.routing.backend import Lease
from gateway.routing.fleet import Fleet
from gateway.routing.membership import FINISHING, LEAVING, changed, draining, first


def test_a_fleet_names_its_backends():
    """By pool and position, in the order of the configuration."""
    fleet = Fleet.of({"a": ("http://x/", "http://y"), "b": ()})

    assert [(b.name, b.url) for b in fleet.pool("a")] == [
        ("a-0", "http://x"), ("a-1", "http://y")
    ]  # fmt: skip
    assert fleet.pool("b") == ()
    assert [b.name for b in fleet.backends] == ["a-0", "a-1"]
    assert fleet.running(("b", "a")) == (0, 2)


def test_what_stays_keeps_all_that_is_known_of_it():
    """Leases, breakers and probes outlive a change; so does the order of the pool."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    stays = fleet.pool("a")[1]
    lease = Lease(
        stays, own=0, slots=(0.5,), prefill_s=0.0, bucket=0, plan_id="p", decision="planned"
    )
    stays.breaker.failed(0.0, unreachable=True, may_open=True)
    new, gone = fleet.apply(changed(fleet.membership, {"a": ("http://y", "http://z")}))

    assert fleet.pool("a")[0] is stays
    assert (stays.in_flight, stays.live(0.5)) == (1, False)
    assert [b.url for b in new] == ["http://z"]
    assert [b.name for b in gone] == ["a-0"]
    lease.release()
    assert stays.in_flight == 0


def test_a_new_backend_is_down_until_it_was_probed():
    """It gets no request before it has said that it can serve; the first ones are probed before the
    gateway listens."""
    fleet = Fleet.of({"a": ("http://x",)})
    assert fleet.pool("a")[0].live(0.0)

    (new,), _ = fleet.apply(changed(fleet.membership, {"a": ("http://x", "http://y")}))

    assert not new.live(0.0)
    new.probed(True)
    assert new.live(0.0)


def test_two_fleets_with_one_membership_are_alike():
    """Names and rows are the membership's, so that processes understand each other."""
    membership = changed(first({"a": ("http://x",)}), {"a": ("http://y", "http://z")})
    one, other = Fleet(membership), Fleet(membership)

    assert [b.name for b in one.backends] == [b.name for b in other.backends] == ["a-1", "a-2"]
    assert [one.row(b) for b in one.backends] == [other.row(b) for b in other.backends]


def up(fleet, count, now_s=0.0):
    """The first `count` backends of the pool come up, one after the other."""
    for backend in fleet.pool("a")[:count]:
        fleet.probed(backend, True, now_s)


@pytest.mark.parametrize(
    ("warm", "cold"), [(0, [0, 0, 0, 1, 1, 1]), (3, [1, 1, 1]), (2, [0, 1, 1, 1]), (5, [1])]
)
def test_a_backend_that_comes_up_warms_up_beside_others(warm, cold):
    """At least half of a pool serves at once what it can: if all were gone, the first ones take it
    as it comes."""
    fleet = Fleet.of({"a": tuple(f"http://a{n}" for n in range(6))})
    fleet.warmup_s = 10.0
    backends = fleet.pool("a")
    for backend in backends[warm:]:
        fleet.probed(backend, False, 0.0)
    up(fleet, 6, now_s=5.0)

    assert [backend.cold(5.0) > 0 for backend in backends[warm:]] == [bool(c) for c in cold]
    assert [backend.cold(15.0) for backend in backends] == [0.0] * 6


def test_what_is_down_or_cold_is_not_ready():
    """The plan counts with what serves now; one that rests for failed requests is back in
    seconds."""
    fleet = Fleet.of({"a": [f"http://{n}" for n in range(4)], "b": ["http://b"]})
    fleet.warmup_s = 10.0
    down, cold, rests, _ = fleet.pool("a")
    down.probed(False)
    cold.probed(False)
    fleet.probed(cold, True, 100.0)
    rests.breaker.failed(100.0, unreachable=False, may_open=True)

    assert fleet.ready(["b", "a"], 105.0) == (1, 2)
    assert fleet.ready(["b", "a"], 110.0) == (1, 3)
    assert fleet.running(["b", "a"]) == (1, 4)


def test_what_sleeps_is_not_ready():
    """Nor does it count where it is asked how many may rest."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    sleeper, other = fleet.pool("a")
    sleeper.asleep = True

    assert fleet.ready(["a"], 0.0) == (1,)
    assert not fleet.may_rest(other)


def test_what_wakes_warms_up_beside_others():
    """Its caches are empty; where no other could carry the load, it serves at once."""
    fleet = Fleet.of({"a": ("http://x", "http://y"), "b": ("http://z",)})
    fleet.warmup_s = 10.0
    up(fleet, 2)
    for backend in (fleet.pool("a")[0], fleet.pool("b")[0]):
        fleet.sleeps(backend, True, 1.0)
        fleet.sleeps(backend, False, 5.0)
        fleet.sleeps(backend, False, 9.0)

    assert [backend.cold(9.0) > 0 for backend in fleet.backends] == [True, False, False]
    assert [backend.cold(15.0) for backend in fleet.backends] == [0.0] * 3


def test_without_a_warm_up_all_comes_at_once():
    """As when the gateway starts."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    fleet.probed(fleet.pool("a")[0], False, 0.0)
    up(fleet, 1, now_s=5.0)
    started = Fleet.of({"a": ("http://x", "http://y")})
    started.warmup_s = 10.0
    up(started, 2)

    assert [b.cold(5.0) for b in (*fleet.pool("a"), *started.pool("a"))] == [0.0] * 4


def test_a_fleet_that_is_replaced_is_not_cold():
    """The new backends come up beside the old ones, which then leave."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    fleet.warmup_s = 10.0
    both = changed(fleet.membership, {"a": ("http://x", "http://y", "http://v", "http://w")})
    new, _ = fleet.apply(both)
    for backend in new:
        fleet.probed(backend, True, 1.0)
    before = [backend.cold(1.0) > 0 for backend in new]
    fleet.apply(changed(both, {"a": ("http://v", "http://w")}))
    fleet.recall(1.0)

    assert before == [True, True]
    assert [backend.cold(1.0) > 0 for backend in new] == [False, True]


def test_pools_that_have_one_url_have_one_load():
    """From when the second one comes until it leaves; a lease that ends later, at a backend that
    left, is still told. Other URLs stay as they are."""

    def hold(backend):
        return Lease(
            backend, own=0, slots=(0.5,), prefill_s=0.1, bucket=0, plan_id="p", decision="planned"
        )

    fleet = Fleet.of({"a": ("http://x", "http://y"), "b": ()})
    early = hold(fleet.pool("a")[0])
    fleet.apply(changed(fleet.membership, {"b": ("http://x",)}))
    (twin,) = fleet.pool("b")
    assert (twin.in_flight, twin.loads[0], fleet.pool("a")[1].in_flight) == (1, 0.5, 0)
    late = hold(twin)
    assert fleet.pool("a")[0].in_flight == 2

    fleet.apply(changed(fleet.membership, {"a": ("http://y",)}))
    fleet.apply(changed(fleet.membership, {"a": ("http://y", "http://x")}))
    back = fleet.pool("a")[1]
    assert back.in_flight == 2
    early.release()
    assert (twin.in_flight, back.in_flight) == (1, 1)
    late.release()
    assert [(b.in_flight, b.load, b.pending_s) for b in fleet.backends] == [(0, 0.0, 0.0)] * 3


def test_a_drained_backend_is_kept_and_gets_nothing():
    """It is in no pool and no count, but still one of the fleet, with its leases."""
    fleet = Fleet.of({"a": ("http://x", "http://y", "http://z")})
    first_one, second, _ = fleet.pool("a")
    held = Lease(
        first_one, own=0, slots=(0.5,), prefill_s=0.0, bucket=0, plan_id="p", decision="planned"
    )
    new, gone = fleet.apply(draining(fleet.membership, {"a-0": LEAVING, "a-1": FINISHING}))

    assert (new, gone) == ((), ())
    assert [b.name for b in fleet.pool("a")] == ["a-2"]
    assert (fleet.running(("a",)), fleet.ready(("a",), 0.0)) == ((1,), (1,))
    assert [b.name for b in fleet.backends] == ["a-0", "a-1", "a-2"]
    assert (first_one.leaving, second.leaving) == (True, False)
    assert first_one.in_flight == 1
    held.release()
    fleet.apply(draining(fleet.membership, {}))
    assert fleet.pool("a")[0] is first_one
    assert not first_one.leaving


def test_what_has_not_begun_goes_elsewhere_only_where_somebody_can_serve_it():
    """Another backend of the pool that is up and does not rest."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    leaving, other = fleet.pool("a")
    fleet.apply(draining(fleet.membership, {"a-0": LEAVING}))
    able = fleet.elsewhere(leaving)
    other.probed(False)

    assert able
    assert not fleet.elsewhere(leaving)

"""Workers see what the others hold, and nobody writes another's row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.shared_load import STALE_S, LoadView, SharedLoad

WORKERS, BACKENDS = 3, 2
LATER_S = 2 * STALE_S


def make_fleet():
    return Fleet.of({"a": tuple(f"http://a:{n}" for n in range(BACKENDS))})


def make_shared_load():
    size = {"workers": WORKERS, "rows": BACKENDS}
    return SharedLoad(bytearray(8 * SharedLoad.doubles(**size)), **size)


def viewed(shared_load):
    """A fleet and a view for each worker."""
    fleets = [make_fleet() for _ in range(WORKERS)]
    return fleets, [LoadView(shared_load, fleet, number) for number, fleet in enumerate(fleets)]


def hold(fleet, backend=0, slot=0.25, prefill_s=0.5):
    return Lease(
        fleet.backends[backend],
        own=0,
        slots=(slot,),
        prefill_s=prefill_s,
        bucket=0,
        plan_id="p",
        decision="d",
    )


def state(fleet, backend=0):
    b = fleet.backends[backend]
    return b.in_flight, b.load, b.pending_s


def test_a_worker_sees_what_another_holds():
    """A lease of one is in the others' numbers at their next look, and gone after its release."""
    fleets, views = viewed(make_shared_load())
    lease = hold(fleets[0])
    views[1].refresh(0.0)
    held = state(fleets[1])
    lease.prefilled()
    views[1].refresh(LATER_S)
    prefilled = state(fleets[1])
    lease.release()
    views[1].refresh(2 * LATER_S)

    assert held == (1, 0.25, 0.5)
    assert prefilled == (1, 0.25, 0.0)
    assert state(fleets[1]) == (0, 0.0, 0.0)
    assert state(fleets[1], 1) == (0, 0.0, 0.0)


def test_a_look_is_not_repeated_at_once():
    """Within the time that numbers are believed nothing is read again."""
    fleets, views = viewed(make_shared_load())
    views[1].refresh(0.0)
    hold(fleets[0])
    views[1].refresh(STALE_S / 2)
    early = state(fleets[1])
    views[1].refresh(STALE_S)

    assert early == (0, 0.0, 0.0)
    assert state(fleets[1]) == (1, 0.25, 0.5)


def test_the_leases_of_a_dead_worker_vanish():
    """Its row is cleared; what the others hold stays."""
    shared_load = make_shared_load()
    fleets, views = viewed(shared_load)
    hold(fleets[0])
    hold(fleets[1])
    shared_load.clear(0)
    views[1].refresh(0.0)
    views[2].refresh(0.0)

    assert state(fleets[1]) == state(fleets[2]) == (1, 0.25, 0.5)


def test_the_supervisor_sees_all_and_holds_nothing():
    """Its fleet shows the sums over all workers."""
    shared_load = make_shared_load()
    fleets, _ = viewed(shared_load)
    own = make_fleet()
    load_view = LoadView(shared_load, own, None)
    for fleet in fleets:
        hold(fleet)
    load_view.refresh(0.0)

    assert state(own) == (3, 0.75, 1.5)


def test_workers_learn_which_backends_are_down():
    """What the supervisor marks is what they see; a backend that is up again has its breaker
    closed."""
    shared_load = make_shared_load()
    fleets, views = viewed(shared_load)
    own = make_fleet()
    own.backends[1].probed(False)
    shared_load.mark(own)
    views[0].refresh(0.0)
    down = [backend.healthy for backend in fleets[0].backends]
    fleets[0].backends[1].breaker.failed(0.0, unreachable=True, may_open=True)
    own.backends[1].probed(True)
    shared_load.mark(own)
    views[0].refresh(LATER_S)

    assert down == [True, False]
    assert fleets[0].backends[1].live(LATER_S)


def test_without_a_supervisor_all_backends_count_as_up():
    """Marks that nobody renews are not believed; breakers still work."""
    shared_load = make_shared_load()
    fleets, views = viewed(shared_load)
    own = make_fleet()
    own.backends[1].probed(False)
    shared_load.mark(own)
    views[0].refresh(0.0)
    views[0].lose_supervisor()
    views[0].refresh(LATER_S)
    fleets[0].backends[0].breaker.failed(LATER_S, unreachable=True, may_open=True)

    assert [backend.live(LATER_S) for backend in fleets[0].backends] == [False, True]


STEPS = st.lists(
    st.tuples(
        st.integers(0, WORKERS - 1),
        st.integers(0, BACKENDS - 1),
        st.sampled_from(("hold", "prefilled", "release")),
        st.floats(0.01, 3.0),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_view_is_the_sum_of_all_leases(steps):
    """Whatever is held, prefilled and released in any order: all workers see the same, and it is
    exactly nothing when nothing is held."""
    fleets, views = viewed(make_shared_load())
    held: list[tuple[int, int, Lease, float]] = []
    for worker, backend, verb, slot in steps:
        mine = [entry for entry in held if entry[:2] == (worker, backend)]
        if verb == "hold":
            held.append((worker, backend, hold(fleets[worker], backend, slot), slot))
        elif mine and verb == "prefilled":
            mine[0][2].prefilled()
        elif mine:
            mine[0][2].release()
            held.remove(mine[0])
    for load_view in views:
        load_view.refresh(0.0)
    for backend in range(BACKENDS):
        here = [entry for entry in held if entry[1] == backend]
        for fleet in fleets:
            count, load, pending_s = state(fleet, backend)
            assert count == len(here)
            assert load == pytest.approx(sum(entry[3] for entry in here))
            assert pending_s == pytest.approx(sum(entry[2]._prefill_s for entry in here))
            if not here:
                assert (load, pending_s) == (0.0, 0.0)


def test_others_load_counts_against_the_limit(plan, pools, table):
    """What one worker may not take for lack of room, another may not either."""
    urls = {pool.name: (f"http://{pool.name}",) for pool in pools}
    size = {"workers": 2, "rows": len(pools)}
    shared_load = SharedLoad(bytearray(8 * SharedLoad.doubles(**size)), **size)
    fleets = [Fleet.of(urls), Fleet.of(urls)]
    first, second = (
        Router(table, fleet, peers=LoadView(shared_load, fleet, number))
        for number, fleet in enumerate(fleets)
    )
    model = plan.buckets.classes[0].model
    estimate = Estimate(model=model, input_tokens=300, output_tokens=100, output_p90=100)
    leases: list[Lease] = []
    while (lease := first.route(estimate, now_s=0.0)) is not None:
        leases.append(lease)
    assert second.route(estimate, now_s=0.0) is None
    leases.pop().release()
    last = second.route(estimate, now_s=LATER_S)
    assert last is not None

    assert sum(backend.in_flight for backend in fleets[1].backends) == len(leases) + 1
    assert last.backend.load <= 1.0


def test_workers_see_one_load_of_a_url_that_two_pools_have():
    """Their own leases and those of other workers, for either model, at each look again."""
    shared_load = make_shared_load()
    fleets = [Fleet.of({"a": ("http://x",), "b": ("http://x",)}) for _ in range(WORKERS)]
    views = [LoadView(shared_load, fleet, number) for number, fleet in enumerate(fleets)]
    held = [hold(fleets[0], 0), hold(fleets[1], 1), hold(fleets[1], 1)]
    for look in range(3):
        for view in views:
            view.refresh(look * LATER_S)
        for fleet in fleets:
            assert [state(fleet, n)[0] for n in (0, 1)] == [3, 3]
            assert [state(fleet, n)[2] for n in (0, 1)] == [1.5, 1.5]
            assert fleet.backends[0].loads[0] == fleet.backends[1].loads[0] == 0.75
    for lease in held:
        lease.release()
    for view in views:
        view.refresh(9 * LATER_S)

    assert {state(fleet, n) for fleet in fleets for n in (0, 1)} == {(0, 0.0, 0.0)}


def test_workers_learn_what_the_supervisor_found_out():
    """The load of other clients and which engine sleeps, until it says otherwise; when it is gone,
    nobody knows."""
    shared_load = make_shared_load()
    fleets, views = viewed(shared_load)
    own = make_fleet()
    busy, sleeper = own.backends
    busy.foreign, sleeper.asleep = 0.4, True
    shared_load.mark(own)
    views[1].refresh(0.0)
    first = [(b.foreign, b.asleep) for b in fleets[1].backends]
    busy.foreign, sleeper.asleep = 0.1, False
    shared_load.mark(own)
    views[1].refresh(LATER_S)
    second = [(b.foreign, b.asleep) for b in fleets[1].backends]
    busy.asleep = True
    shared_load.mark(own)
    views[1].refresh(2 * LATER_S)
    asleep = fleets[1].backends[0].live(0.0)
    views[1].lose_supervisor()

    assert first == [(0.4, False), (0.0, True)]
    assert second == [(0.1, False), (0.0, False)]
    assert not asleep
    assert all(b.live(0.0) and b.foreign == 0.0 for b in fleets[1].backends)

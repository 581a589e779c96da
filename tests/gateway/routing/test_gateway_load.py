"""Routers of several gateways see what the others hold, with one process or many."""

import numpy as np
import pytest

from gateway.routing.backend import Lease
from gateway.routing.fleet import Fleet
from gateway.routing.gateway_load import Holding, SharedView, SoleView
from gateway.routing.membership import changed
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.shared_queue import CALLERS, POOLS

LATER_S = 1.0
URLS = {"a": ("http://a:0", "http://a:1"), "b": ("http://a:0",)}


def hold(fleet, backend=0, slot=0.25):
    return Lease(
        fleet.backends[backend], own=0, slots=(slot,), prefill_s=0.5, bucket=0, plan_id="p",
        decision="d",
    )  # fmt: skip


class Process:
    """A gateway that serves by itself: what it tells, and the queue of its router."""

    def __init__(self):
        self.control = self.fleet = Fleet.of(URLS)
        self.load = SoleView(self.fleet)
        self.queue = self.load.queue

    def refresh(self, now_s):
        self.load.refresh(now_s)


class Workers:
    """A supervisor, and the second of its two workers."""

    def __init__(self):
        self.control, self.fleet = Fleet.of(URLS), Fleet.of(URLS)
        size = {"workers": 2, "rows": 8, "gateways": 1}
        self.shared = SharedLoad(bytearray(8 * SharedLoad.doubles(**size)), **size)
        self.view = LoadView(self.shared, self.fleet, 1)
        self.load = SharedView(self.shared, self.control)
        self.queue = self.view.queue

    def refresh(self, now_s):
        self.view.refresh(now_s)


@pytest.fixture(params=[Process, Workers])
def gateway(request):
    return request.param()


def others(gateway, in_flight=3.0, load=0.5, backend=0):
    held = Holding.nothing(len(gateway.control.backends))
    held.sums[backend, 0], held.sums[backend, 3] = in_flight, load
    return held


def test_what_others_hold_is_added_to_ones_own(gateway):
    """And is gone when they hold nothing more."""
    lease = hold(gateway.fleet)
    gateway.load.lend(others(gateway), 0.0, 0.1)
    gateway.refresh(LATER_S)
    (first, *_) = gateway.fleet.backends
    both = first.in_flight, first.loads[0]
    lease.release()
    gateway.load.lend(others(gateway, 0.0, 0.0), 0.0, 0.1)
    gateway.refresh(2 * LATER_S)

    assert both == (4, 0.75)
    assert (first.in_flight, first.loads[0]) == (0, 0.0)


def test_only_ones_own_is_told_to_the_others(gateway):
    """What others hold does not come back to them."""
    lease = hold(gateway.fleet, backend=1)
    gateway.load.lend(others(gateway), 0.0, 0.1)
    held = gateway.load.held(0.0)
    lease.release()

    assert held.sums[:, 0].tolist() == [0, 1, 0]
    assert not gateway.load.held(0.0).sums.any()


def test_pools_of_one_url_have_the_load_of_both(gateway):
    """What another gateway holds at one of them is at the other one too."""
    gateway.load.lend(others(gateway), 0.0, 0.1)
    gateway.refresh(LATER_S)

    assert [backend.in_flight for backend in gateway.fleet.backends] == [3, 0, 3]


def test_callers_pay_for_what_other_gateways_gave_them(gateway):
    """The level of a caller is over all gateways; only what was given here is told."""
    served = gateway.queue.served({})
    caller = "00000005" + "0" * 8
    served.add(caller, 100, 0.0)
    held = others(gateway)
    held.tokens[5] = 900.0
    gateway.load.lend(held, 0.0, 0.1)

    assert served.tokens(caller, LATER_S) == 1000.0
    assert gateway.load.held(LATER_S).tokens[5] == 100.0
    assert len(gateway.load.held(0.0).tokens) == CALLERS


def test_who_waits_at_another_gateway_goes_first_until_it_is_told_again(gateway):
    """With times that are counted from the moment at which it is told."""
    held = others(gateway)
    held.claims[1] = 1, 4.0, 0.5
    gateway.load.lend(held, 10.0, 10.1)

    assert gateway.queue.others(10.0) == {1: (0, 4.0, 10.5)}
    assert gateway.queue.others(10.2) == {}


def test_who_waits_here_is_told(gateway):
    """Not who waits elsewhere."""
    gateway.queue.publish({2: (1, 3.0, 10.5)}, 10.0)
    held = others(gateway)
    held.claims[1] = 1, 4.0, 0.5
    gateway.load.lend(held, 10.0, 10.1)
    told = gateway.load.held(10.0).claims

    assert np.flatnonzero(told[:, 0]).tolist() == [2]
    assert told[2].tolist() == [2, 3.0, 0.5]
    assert told.shape == (POOLS, 3)


def test_a_backend_that_comes_and_one_that_goes_keep_the_others_right():
    """Each has a cell of its own, which no other one gets while leases still write to it."""
    gateway = Process()
    lease = hold(gateway.fleet)
    before = gateway.fleet.membership
    gateway.fleet.apply(changed(before, {"a": ("http://a:2", "http://a:1")}))
    gateway.load.track()
    lease.release()

    assert {backend.in_flight for backend in gateway.fleet.backends} == {0}
    assert not gateway.load.held(0.0).sums.any()


def test_without_a_supervisor_nothing_is_counted_for_other_gateways():
    """Nobody hears of them any more."""
    workers = Workers()
    workers.load.lend(others(workers), 0.0, 0.1)
    workers.view.refresh(LATER_S)
    assert workers.fleet.backends[0].in_flight == 3
    workers.view.lose_supervisor()
    workers.view.refresh(2 * LATER_S)

    assert workers.fleet.backends[0].in_flight == 0
    assert workers.shared.in_use() == set()

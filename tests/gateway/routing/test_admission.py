"""When a request is served: at once, at its turn, or not at all."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Saturated, Unavailable
from gateway.routing.admission import Admission, QueueLimits
from gateway.routing.estimate import Estimate
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from gateway.routing.ticket import Ticket
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

TTFT_S = 2.0
STRICT = SloClass(model="m", slo=Slo(ttft_s=TTFT_S, tpot_s=0.1))
LAX = SloClass(model="m", slo=Slo(ttft_s=30.0, tpot_s=1.0), name="batch")
# The fourth part of a backend for a request of the strict class, the eighth for one of the lax one;
# a lax request takes a fourth as well where the strict promise is kept.
SLOTS = ((0.25, 0.125),)


def table(**changes):
    """Two classes of one bucket each, one pool."""
    plain = RoutingTable(
        plan_id="p",
        buckets=Buckets(
            classes=(STRICT, LAX), grid=Grid(input_edges=(1, 1000), output_edges=(1, 1000))
        ),
        pools=("a",),
        backends=(8,),
        slices=(((0, 1.0),),) * 2,
        order=((0,),) * 2,
        feasible=((True,),) * 2,
        slots=(SLOTS,) * 2,
        own=(0, 1),
        siblings=((0, 1),) * 2,
        guards=((True, True),),
        prefill_s=(0.0,),
        context=(4096,),
        kv_tokens=(10**9,),
        backlog_s=(0.8, 8.0),
        allowed_s=(1.8, 28.0),
        entry_s=(0.2, 2.0),
        fill_s=(1e-9,),
        strictest=(0,),
        ranks=(0, 1),
    )
    return replace(plain, **changes)


class Desk:
    """An admission, and what became of the requests that came to it."""

    def __init__(self, backends=1, requests=100, tokens=10**9, timeout_s=30.0, **changes):
        self.fleet = Fleet.of({"a": [f"http://a{n}" for n in range(backends)]})
        self.router = Router(table(**changes), self.fleet)
        limits = QueueLimits(requests=requests, tokens=tokens, timeout_s=timeout_s)
        self.admission = Admission(self.router, limits)
        self.served, self.refused, self.leases = [], {}, {}

    def come(self, name, now_s=0.0, *, slo_class="default", caller="", tokens=100, again=False):
        """A request comes: it is served, waits, or is refused."""
        size = Estimate(model="m", input_tokens=1, output_tokens=tokens - 1, output_p90=tokens,
                        slo_class=slo_class)  # fmt: skip
        bucket = self.router.bucket(size)
        if not again:
            lease = self.admission.enter(size, bucket=bucket, caller=caller, now_s=now_s)
            if lease is not None:
                self.take(name, lease)
                return
        due_s, until_s = self.admission.due(size, bucket=bucket, arrival_s=now_s, again=again)
        waits = Ticket(estimate=size, bucket=bucket, caller=caller, due_s=due_s, until_s=until_s,
                       ready=lambda: self.settle(name, waits))  # fmt: skip
        try:
            self.admission.wait(waits, now_s, again=again)
        except Saturated as error:
            self.refused[name] = error

    def settle(self, name, waits):
        if waits.lease is not None:
            self.take(name, waits.lease)
        else:
            self.refused[name] = waits.error

    def take(self, name, lease):
        self.served.append(name)
        self.leases[name] = lease

    def end(self, name, now_s):
        """A request ends, and makes room."""
        self.leases.pop(name).release()
        self.admission.turn(now_s)

    def fill(self, count=4):
        for n in range(count):
            self.come(f"first {n}")
        assert len(self.served) == count
        self.served.clear()


def test_with_room_it_is_served_at_once():
    """Nobody waits while backends keep their promises."""
    desk = Desk()

    desk.fill(4)
    desk.come("late")

    assert desk.served == []
    assert (desk.admission.waiting, desk.admission.tokens) == (1, 100)


def test_room_goes_to_who_waits():
    """Each end lets one in, in order of arrival; who comes meanwhile stands behind."""
    desk = Desk()
    desk.fill(4)
    for name in "xyz":
        desk.come(name, 0.1)
    desk.end("first 0", 0.2)
    desk.leases["first 1"].release()
    desk.come("late", 0.3)
    desk.admission.turn(0.3)

    assert desk.served == ["x", "y"]
    assert desk.admission.waiting == 2


def test_the_strict_class_goes_before_the_lax_one_and_both_before_the_rest():
    """Of three that wait, the one with the shortest TTFT promise, then the other, then the one
    without a promise."""
    desk = Desk()
    desk.fill(4)
    desk.come("any", slo_class="best-effort")
    desk.come("lax", slo_class="batch")
    desk.come("strict")
    for n in range(4):
        desk.end(f"first {n}", 0.5 + n / 10)

    assert desk.served == ["strict", "lax", "any"]


def test_a_lax_class_does_not_fill_what_a_strict_one_needs():
    """A lax request is placed only where the strict class that uses the pool keeps its promise."""
    desk = Desk()
    desk.come("strict")
    for n in range(8):
        desk.come(f"lax {n}", 0.1 + n / 10, slo_class="batch")

    assert [name for name in desk.served if name.startswith("lax")] == ["lax 0", "lax 1", "lax 2"]


def test_alone_a_lax_class_is_measured_by_its_own_promise():
    """Where no strict request came for a minute, twice as many lax ones fit."""
    desk = Desk()
    for n in range(9):
        desk.come(f"lax {n}", 1000.0 + n, slo_class="batch")

    assert len(desk.served) == 8


def test_the_promise_limits_the_wait():
    """A request is refused when its TTFT can no longer be kept, not at the queue's own limit."""
    desk = Desk()
    desk.fill(4)
    desk.come("strict", 0.0)
    desk.come("lax", 0.0, slo_class="batch")
    desk.admission.turn(1.7)
    still = dict(desk.refused)
    desk.admission.turn(TTFT_S)

    assert still == {}
    assert list(desk.refused) == ["strict"]
    assert desk.refused["strict"].retry_after_s >= 1
    assert desk.admission.waiting == 1


def test_waiting_in_vain_is_refused_at_once():
    """Once it is known how slowly the queue drains, who would come too late does not enter."""
    desk = Desk()
    desk.fill(4)
    desk.come("x", 0.0)
    desk.come("y", 0.0)
    desk.end("first 0", 1.0)
    for n in range(6):
        desk.come(f"late {n}", 1.1)

    assert desk.served == ["x"]
    assert {"late 2", "late 5"} <= set(desk.refused)
    assert desk.refused["late 5"].retry_after_s >= 2


def test_the_head_of_an_empty_queue_always_waits():
    """However slow the queue was, the first one in it may wait: else no recovery would be seen."""
    desk = Desk()
    desk.fill(4)
    desk.come("x", 0.0)
    desk.admission.turn(TTFT_S)
    desk.come("y", TTFT_S + 0.1)

    assert list(desk.refused) == ["x"]
    assert desk.admission.waiting == 1


def test_a_full_queue_refuses_the_greedy():
    """With the queue full by requests or by tokens, a caller that asked for little takes the place
    of the last request of the one that asked for most."""
    for bound in ({"requests": 3}, {"tokens": 300}):
        desk = Desk(**bound)
        desk.fill(4)
        for name in "xyz":
            desk.come(name, caller="greedy")
        desk.come("more", caller="greedy")
        desk.come("little", caller="polite")

        assert list(desk.refused) == ["more", "z"]
        assert desk.admission.waiting == 3


def test_a_full_queue_makes_room_for_a_stricter_class():
    """A request of the strict class takes the place of a lax one, never the other way round."""
    desk = Desk(requests=1)
    desk.fill(4)
    desk.come("lax", slo_class="batch")
    desk.come("strict")
    desk.come("lax 2", slo_class="batch")

    assert list(desk.refused) == ["lax", "lax 2"]


def test_no_queue_means_no_wait():
    """Without places or without time everybody who finds no room is refused at once."""
    for bound in ({"requests": 0}, {"timeout_s": 0.0}):
        desk = Desk(**bound)
        desk.fill(4)
        desk.come("x")

        assert list(desk.refused) == ["x"]


def test_a_failed_request_has_time_of_its_own():
    """Who had its turn at a backend that failed is next, even past its promise."""
    desk = Desk()
    desk.fill(4)
    desk.come("x", 0.0, caller="c")
    desk.come("again", 0.0, caller="c", again=True)
    desk.end("first 0", 0.1)
    desk.admission.turn(5.0)

    assert desk.served == ["again"]
    assert list(desk.refused) == ["x"]


def test_who_leaves_is_found_where_it_waits():
    """Though since then another plan promises it nothing."""
    desk = Desk()
    desk.fill(4)
    size = Estimate(model="m", input_tokens=1, output_tokens=99, output_p90=100)
    waits = Ticket(estimate=size, bucket=0, caller="", ready=lambda: None, until_s=30.0)
    desk.admission.wait(waits, 0.0)
    desk.router.table = table(feasible=((False,),) * 2)
    desk.admission.leave(waits, 0.1)

    assert (desk.admission.waiting, desk.admission.tokens) == (0, 0)


def test_who_leaves_makes_no_trouble():
    """A client that goes while it waits leaves nothing behind."""
    desk = Desk()
    desk.fill(4)
    size = Estimate(model="m", input_tokens=1, output_tokens=99, output_p90=99)
    gone = Ticket(estimate=size, bucket=0, caller="", ready=lambda: None, until_s=9.0)
    desk.admission.wait(gone, 0.0)
    desk.come("stays", 0.0)
    desk.admission.leave(gone, 0.1)
    desk.end("first 0", 0.2)

    assert desk.served == ["stays"]
    assert (desk.admission.waiting, desk.admission.tokens) == (0, 0)


def test_a_dead_fleet_is_told_to_those_who_wait():
    """No live backend is another error than no room."""
    desk = Desk()
    desk.fill(4)
    desk.come("x")
    desk.fleet.backends[0].healthy = False
    desk.admission.turn(0.1)

    assert isinstance(desk.refused["x"], Unavailable)
    with pytest.raises(Unavailable):
        desk.come("y", 0.2)


def test_a_request_that_ends_at_its_turn_lets_the_next_one_in():
    """A turn that begins inside another one is not lost."""
    desk = Desk()
    desk.fill(4)
    desk.come("y", 0.0)
    size = Estimate(model="m", input_tokens=1, output_tokens=99, output_p90=99)

    def at_once():
        assert short.lease is not None
        short.lease.release()
        desk.admission.turn(0.1)

    short = Ticket(estimate=size, bucket=0, caller="", ready=at_once, until_s=9.0)
    desk.admission.wait(short, 0.0, again=True)
    desk.end("first 0", 0.1)

    assert desk.served == ["y"]


def test_a_long_prompt_waits_for_a_calm_backend_and_others_go_on():
    """What no backend can serve in time goes to one that is set aside for it, while promised
    requests use the others; it never takes the last one."""
    long = {"prefill_s": (0.01,), "feasible": ((True,), (False,))}
    desk = Desk(backends=2, **long)
    for n in range(4):
        desk.come(f"first {n}")
    lone = Desk(backends=1, **long)
    lone.come("first")
    for each in (desk, lone):
        each.served.clear()
        each.come("long", slo_class="batch", tokens=1000)

    assert desk.admission.waiting == lone.admission.waiting == 1


STEP = st.tuples(
    st.sampled_from(["come", "end", "turn"]),
    st.sampled_from(["default", "batch", "best-effort"]),
    st.sampled_from("abc"),
    st.integers(2, 900),
    st.floats(0.0, 3.0),
)


@given(st.lists(STEP, max_size=60))
def test_every_request_ends_once_and_the_promise_of_the_fleet_is_kept(steps):
    """Whatever happens, each is served, refused or waits; loads by every class present stay within
    1; and nothing is left at the end."""
    desk, now_s, come = Desk(backends=2, requests=9), 0.0, 0
    for step, slo_class, caller, tokens, gone_s in steps:
        now_s += gone_s
        if step == "come":
            with suppress(Unavailable):
                desk.come(come, now_s, slo_class=slo_class, caller=caller, tokens=tokens)
            come += 1
        elif step == "end" and desk.leases:
            desk.end(next(iter(desk.leases)), now_s)
        else:
            desk.admission.turn(now_s)
        for backend in desk.fleet.backends:
            assert backend.load <= 1.0 + 1e-9
        assert len(desk.served) + len(desk.refused) + desk.admission.waiting == come
        assert len(set(desk.served) | set(desk.refused)) == len(desk.served) + len(desk.refused)
        assert desk.admission.waiting <= 9
    for name in tuple(desk.leases):
        desk.end(name, now_s)
    desk.admission.turn(now_s + 100.0)
    for name in tuple(desk.leases):
        desk.end(name, now_s + 100.0)

    assert (desk.admission.waiting, desk.admission.tokens) == (0, 0)
    assert all((b.in_flight, b.load, b.pending_s) == (0, 0.0, 0.0) for b in desk.fleet.backends)

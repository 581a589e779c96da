"""What a backend carries."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.backend import WIDTH, Backend, Lease


def backend():
    return Backend(name="a-0", pool="a", url="http://a")


def lease(on, *, slot=0.25, prefill_s=0.5, width=1):
    return Lease(
        on, own=0, slots=(slot,), prefill_s=prefill_s, bucket=0, plan_id="p", decision="planned",
        width=width,
    )  # fmt: skip


def test_a_lease_reserves_and_gives_back():
    """A hold counts while it is held and not a moment longer, however often it is released."""
    b = backend()
    with lease(b) as first:
        assert (b.in_flight, b.load, b.pending_s) == (1, 0.25, 0.5)
        second = lease(b)
        first.release()
        first.release()
        assert (b.in_flight, b.load, b.pending_s) == (1, 0.25, 0.5)
        second.release()

    assert (b.in_flight, b.load, b.pending_s) == (0, 0.0, 0.0)


def test_a_lease_knows_how_many_were_there_meanwhile():
    """Itself included: the mean of its start and its end."""
    b = backend()
    first = lease(b)
    others = [lease(b) for _ in range(4)]
    first.release()
    for other in others:
        other.release()

    assert first.in_flight == (1 + 5) / 2
    assert [other.in_flight for other in others] == [3.0, 3.0, 3.0, 3.0]


def test_a_request_of_several_sequences_is_so_many_in_flight():
    """Here and in what other workers see; an engine that refused it is full with so many less."""
    b, cell = backend(), memoryview(bytearray(8 * WIDTH)).cast("d")
    b.publish_to(cell)
    wide = lease(b, width=128)
    one = lease(b)

    assert (b.in_flight, cell[0], b.present[0], wide.width) == (129, 129.0, 2, 128)
    b.refused(5.0, width=128)
    wide.release()
    assert (b.in_flight, cell[0]) == (1, 1.0)
    assert b.full(5.1)
    one.release()
    assert (b.in_flight, cell[0], b.load) == (0, 0.0, 0.0)


def test_a_first_token_proves_earlier_prefills():
    """Engines prefill in order: the second's first token says that the first's prompt is done."""
    b = backend()
    leases = [lease(b, prefill_s=s) for s in (1.0, 2.0, 4.0)]

    leases[1].prefilled()
    leases[1].prefilled()

    assert b.pending_s == 4.0
    leases[0].prefilled()
    assert b.pending_s == 4.0
    assert b.in_flight == 3


@given(st.lists(st.tuples(st.sampled_from("rp"), st.integers(0, 9)), max_size=40))
def test_pending_is_what_no_token_has_proved(steps):
    """Pending prefill is the sum over held leases behind the last one that showed a token."""
    b = backend()
    leases = [lease(b, prefill_s=2.0**n) for n in range(10)]
    pending = dict(enumerate(2.0**n for n in range(10)))
    held = set(range(10))
    for step, n in steps:
        if step == "r":
            leases[n].release()
            held.discard(n)
            pending.pop(n, None)
        else:
            leases[n].prefilled()
            if n in pending:
                pending = {k: v for k, v in pending.items() if k > n}
        assert b.pending_s == sum(pending.values())
        assert b.in_flight == len(held)


def test_an_unhealthy_backend_is_not_live():
    """Probe and breaker must both be good."""
    b = backend()
    b.healthy = False

    assert not b.live(1e9)


def test_a_first_token_that_does_not_come_shows_that_the_engine_is_behind():
    """Until it comes; and what comes after it is not late yet."""
    on = backend()
    late = Lease(on, own=0, slots=(0.1,), prefill_s=0.5, bucket=0, plan_id="p", decision="planned",
                 due_s=2.0)  # fmt: skip
    Lease(on, own=0, slots=(0.1,), prefill_s=0.5, bucket=0, plan_id="p", decision="planned",
          due_s=3.0)  # fmt: skip

    assert [on.behind(1.9), on.behind(2.1)] == [False, True]
    late.prefilled()
    assert [on.behind(2.1), on.behind(3.1)] == [False, True]


def test_the_prefill_of_an_answer_that_does_not_stream_is_done_when_it_is_due():
    """Its first token cannot be seen: it neither keeps others out for its whole time, nor counts as
    late."""
    on = backend()
    lease = Lease(on, own=0, slots=(0.1,), prefill_s=0.5, bucket=0, plan_id="p", decision="planned",
                  due_s=2.0, streams=False)  # fmt: skip

    assert (on.behind(1.9), on.pending_s) == (False, 0.5)
    assert (on.behind(2.1), on.pending_s) == (False, 0.0)
    lease.release()
    assert (on.in_flight, on.load, on.pending_s) == (0, 0.0, 0.0)

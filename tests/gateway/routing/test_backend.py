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


def twins():
    """Two backends of one URL, for two models."""
    kin: list[Backend] = []
    both = backend(), Backend(name="b-0", pool="b", url="http://a")
    for one in both:
        one.join(kin)
    return both


def test_backends_of_one_url_have_one_load():
    """What is held for one model stands in the way of the other: sequences, load by the strictest
    promise, pending prefill, memory; and an engine that is full is full for both."""
    one, other = twins()
    held = Lease(
        one, own=1, slots=(0.25, 0.5), prefill_s=0.5, memory=0.1, bucket=0, plan_id="p",
        decision="planned",
    )  # fmt: skip

    assert (other.in_flight, other.loads[0], other.pending_s, other.memory) == (1, 0.5, 0.5, 0.1)
    assert (one.loads[:2], sum(one.present), sum(other.present)) == ([0.25, 0.5], 1, 0)
    other.refused(5.0, pause_s=2.0)
    assert one.full(6.5)
    assert other.full(6.5)
    held.prefilled()
    assert other.pending_s == 0.0
    held.release()
    assert (other.in_flight, other.loads[0], other.pending_s, other.memory) == (0, 0.0, 0.0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=30), st.data())
def test_whatever_comes_and_goes_the_count_is_that_of_both(steps, data):
    """In any order, and nothing is left at the end."""
    both = twins()
    held: list[Lease] = []
    for first, width in steps:
        if held and data.draw(st.booleans()):
            held.pop(data.draw(st.integers(0, len(held) - 1))).release()
        held.append(lease(both[first], width=width))
        assert {one.in_flight for one in both} == {sum(one.width for one in held)}
    for one in held:
        one.release()

    assert [(b.in_flight, b.load, b.pending_s, b.memory) for b in both] == [(0, 0.0, 0.0, 0.0)] * 2


def test_one_that_sleeps_gets_nothing_and_is_not_to_blame():
    """Its health is good, and its requests did not fail."""
    b = backend()
    b.asleep = True

    assert (b.live(0.0), b.doubted(0.0), b.resting) == (False, False, False)
    b.asleep = False
    b.silent = True
    assert (b.live(0.0), b.doubted(0.0)) == (False, True)


def test_one_that_others_use_is_not_idle():
    """Without a request of ours it may still have no room."""
    b = backend()
    idle = b.idle
    b.foreign = 0.5
    with_others, load = b.idle, b.load
    b.foreign = 0.0
    with lease(b):
        with_ours = b.idle

    assert (idle, with_others, with_ours) == (True, False, False)
    assert load == 0.0

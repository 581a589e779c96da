"""What a backend carries, and when it is paused."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.backend import COOLDOWN_S, LONGEST_COOLDOWN_S, Backend, Lease


def backend():
    return Backend(name="a-0", pool="a", url="http://a")


def lease(on, *, slot=0.25, prefill_s=0.5):
    return Lease(on, slot=slot, prefill_s=prefill_s, bucket=0, plan_id="p", decision="planned")


def pause_s(on, now_s):
    """How long it stays paused after `now_s`, to an eighth of a second."""
    return next(t / 8 for t in range(10_000) if on.live(now_s + t / 8))


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


def test_a_refused_connection_pauses_at_once():
    """Nobody listens there: no second request is spent on finding out."""
    b = backend()
    b.failed(5.0, unreachable=True)

    assert not b.live(5.0)
    assert pause_s(b, 5.0) == COOLDOWN_S


def test_three_failed_answers_pause():
    """One or two 5xx may be the requests' fault."""
    b = backend()
    b.failed(0.0)
    b.failed(0.0)
    assert b.live(0.0)
    b.failed(0.0)

    assert not b.live(0.0)


def test_a_success_forgives():
    """Failures count only in a row, and a success ends the pause."""
    b = backend()
    for _ in range(5):
        b.failed(0.0)
        b.failed(0.0)
        b.succeeded()
    assert b.live(0.0)
    b.failed(0.0, unreachable=True)
    b.succeeded()

    assert b.live(0.0)
    b.failed(0.0, unreachable=True)
    assert pause_s(b, 0.0) == COOLDOWN_S


def test_pauses_double_up_to_the_longest():
    """A backend that fails whenever it is tried is tried ever more rarely, but never given up."""
    b, now_s, pauses = backend(), 0.0, []
    for _ in range(12):
        b.failed(now_s, unreachable=True)
        pauses.append(pause_s(b, now_s))
        now_s += pauses[-1]

    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert set(pauses[5:]) == {LONGEST_COOLDOWN_S}


def test_a_crash_under_many_requests_is_one_failure():
    """What was in flight when it died fails together and does not lengthen the first pause."""
    b = backend()
    for _ in range(50):
        b.failed(1.0)

    assert pause_s(b, 1.0) == COOLDOWN_S


def test_an_unhealthy_backend_is_not_live():
    """Probe and breaker must both be good."""
    b = backend()
    b.healthy = False

    assert not b.live(1e9)

"""When a backend gets no requests because of what became of its requests."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.backend import Backend, Lease
from gateway.routing.breaker import (
    COOLDOWN_S,
    FORGET_S,
    LONGEST_COOLDOWN_S,
    PENALTY,
    TOLERATED,
    Breaker,
)
from gateway.routing.fleet import Fleet


def fail(breaker, now_s=0.0, *, unreachable=False, may_open=True):
    return breaker.failed(now_s, unreachable=unreachable, may_open=may_open)


def lease(on):
    return Lease(on, own=0, slots=(0.25,), prefill_s=0.5, bucket=0, plan_id="p", decision="planned")


def pause_s(breaker, now_s):
    """How long it allows nothing after `now_s`, to an eighth of a second."""
    return next(t / 8 for t in range(10_000) if breaker.allows(now_s + t / 8))


def test_a_refused_connection_pauses_at_once():
    """Nobody listens there: no second request is spent on finding out."""
    breaker = Breaker()

    assert fail(breaker, 5.0, unreachable=True) == COOLDOWN_S
    assert not breaker.allows(5.0)
    assert pause_s(breaker, 5.0) == COOLDOWN_S


def test_three_failed_answers_pause():
    """One or two 5xx may be the requests' fault."""
    breaker = Breaker()
    assert [fail(breaker), fail(breaker)] == [None, None]
    assert breaker.allows(0.0)

    assert fail(breaker) == COOLDOWN_S
    assert not breaker.allows(0.0)


def test_a_success_forgives():
    """Failures count only in a row, and a success ends the pause."""
    breaker = Breaker()
    for _ in range(5):
        fail(breaker)
        fail(breaker)
        breaker.succeeded()
    assert breaker.allows(0.0)
    fail(breaker, unreachable=True)
    breaker.succeeded()

    assert breaker.allows(0.0)
    assert fail(breaker, unreachable=True) == COOLDOWN_S


def test_old_failures_are_not_in_a_row():
    """A bad request every twelve seconds, and nothing else, is not what a broken backend shows."""
    breaker = Breaker()
    assert [fail(breaker, n * (FORGET_S + 2)) for n in range(50)] == [None] * 50


def test_pauses_double_up_to_the_longest():
    """A backend that fails whenever it is tried is tried ever more rarely, but never given up."""
    breaker, now_s, pauses = Breaker(), 0.0, []
    for _ in range(12):
        fail(breaker, now_s, unreachable=True)
        pauses.append(pause_s(breaker, now_s))
        now_s += pauses[-1]

    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert set(pauses[5:]) == {LONGEST_COOLDOWN_S}


def test_a_crash_under_many_requests_is_one_failure():
    """What was in flight when it died fails together and does not lengthen the first pause."""
    breaker = Breaker()
    for _ in range(50):
        fail(breaker, 1.0)

    assert pause_s(breaker, 1.0) == COOLDOWN_S


def test_after_a_pause_one_request_decides():
    """The others go elsewhere until it has ended; without a verdict, the next one is the trial."""
    backend = Backend(name="a-0", pool="a", url="http://a")
    fail(backend.breaker, 0.0)
    fail(backend.breaker, 0.0)
    fail(backend.breaker, 0.0)
    trial = lease(backend)
    under_way = backend.live(COOLDOWN_S)
    trial.release()  # its client left
    again = backend.live(COOLDOWN_S)
    trial = lease(backend)
    backend.breaker.succeeded()
    trial.release()

    assert (under_way, again) == (False, True)
    assert backend.live(COOLDOWN_S)
    assert not backend.breaker.tripped


def test_a_backend_that_could_not_be_reached_must_only_answer():
    """One that breaks its answers off must finish one: its first event says nothing."""
    gone, breaks_off = Breaker(), Breaker()
    fail(gone, unreachable=True)
    for _ in range(TOLERATED):
        fail(breaks_off)
    gone.answered()
    breaks_off.answered()

    assert (gone.tripped, breaks_off.tripped) == (False, True)
    breaks_off.succeeded()
    assert not breaks_off.tripped


def test_a_backend_that_fails_fast_is_not_preferred():
    """It is idle, and still is no better choice than one with some load."""
    breaker = Breaker()
    fail(breaker)
    one = breaker.penalty
    fail(breaker)

    assert (one, breaker.penalty) == (PENALTY, 2 * PENALTY)
    breaker.succeeded()
    assert breaker.penalty == 0.0


@given(st.integers(1, 12), st.lists(st.integers(0, 11), max_size=80))
def test_failed_requests_never_take_more_than_a_third_of_a_pool(count, victims):
    """Bad requests make every backend fail that gets them. One of two, and never the only one."""
    fleet = Fleet.of({"a": tuple(f"http://a{n}" for n in range(count))})
    for victim in victims:
        backend = fleet.pool("a")[victim % count]
        fail(backend.breaker, may_open=fleet.may_rest(backend))

    resting = sum(not backend.live(0.0) for backend in fleet.pool("a"))
    assert resting <= (max(1, count // 3) if count > 1 else 0)


def test_a_breaker_shows_its_state():
    """For logs."""
    breaker = Breaker()
    closed = repr(breaker)
    for _ in range(TOLERATED):
        fail(breaker)
    opened = repr(breaker)
    breaker.begin(object())

    assert [closed, opened, repr(breaker)] == [
        "<Breaker closed, 0 failures>", "<Breaker open, 3 failures>",
        "<Breaker half-open, 3 failures>",
    ]  # fmt: skip

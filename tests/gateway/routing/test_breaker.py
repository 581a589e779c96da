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


def fail(breaker, now_s=0.0, *, unreachable=False, may_open=True, **more):
    return breaker.failed(now_s, unreachable=unreachable, may_open=may_open, **more)


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
        breaker.succeeded(0.0)
    assert breaker.allows(0.0)
    fail(breaker, unreachable=True)
    breaker.succeeded(0.0)

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
    backend.breaker.succeeded(0.0)
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
    breaks_off.succeeded(0.0)
    assert not breaks_off.tripped


def test_a_backend_that_fails_fast_is_not_preferred():
    """It is idle, and still is no better choice than one with some load."""
    breaker = Breaker()
    fail(breaker)
    one = breaker.penalty
    fail(breaker)

    assert (one, breaker.penalty) == (PENALTY, 2 * PENALTY)
    breaker.succeeded(0.0)
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


@given(st.integers(1, 40), st.floats(0.0, 1.0))
def test_the_share_that_may_rest_is_configured(count, share):
    """None for 0, else at least one of two or more."""
    fleet = Fleet.of({"a": tuple(f"http://a{n}" for n in range(count))})
    fleet.max_ejection_share = share
    for backend in fleet.pool("a") * TOLERATED:
        fail(backend.breaker, may_open=fleet.may_rest(backend))

    resting = sum(backend.resting for backend in fleet.pool("a"))
    assert resting == (max(1, int(share * count)) if count > 1 and share else 0)


def test_backends_that_rest_are_called_back_when_others_go_down():
    """Requests alone leave no pool without a backend, in whatever order things happen."""
    fleet = Fleet.of({"a": ("http://a0", "http://a1", "http://a2")})
    first, second, third = fleet.pool("a")
    for _ in range(TOLERATED):
        fail(first.breaker, may_open=fleet.may_rest(first))
    fleet.recall(0.0)
    rests = first.resting
    second.probed(False)
    fail(third.breaker, unreachable=True)
    fleet.recall(0.0)

    assert (rests, first.resting) == (True, False)
    assert first.live(0.0)
    assert first.breaker.penalty > 0


def test_one_callers_failures_alone_are_no_verdict():
    """Its requests may be what breaks the backend; another caller's failure, or the answer of
    another backend to the same request, says that they are not."""
    alone, two, proved = Breaker(), Breaker(), Breaker()
    for _ in range(9):
        fail(alone, caller="x")
    for caller in "xxy":
        fail(two, caller=caller)
    for _ in range(TOLERATED):
        fail(proved, caller="x")
        proved.proved()

    assert (alone.tripped, two.tripped, proved.tripped) == (False, True, True)


def test_a_backend_that_fails_much_more_than_its_peers_rests():
    """Also if successes are in between, and whoever is asking; one whose peers fail as often does
    not, for then it is the requests."""
    outlier, alike, unknown = Breaker(), Breaker(), Breaker()
    for now_s in range(5):
        for breaker, peers in ((outlier, (1, 40)), (alike, (20, 40)), (unknown, (0, 0))):
            fail(breaker, float(now_s), caller="x", peers=peers)
            breaker.succeeded(now_s + 0.5)
    found = outlier.allows(4.6), alike.tripped, unknown.tripped
    assert found == (False, False, False)


def test_a_backend_that_fails_now_and_then_rests_ever_longer():
    """A good trial lets it come back, and its next pause is longer."""
    breaker, now_s, pauses = Breaker(), 0.0, []
    for _ in range(20):
        pause = fail(breaker, now_s, peers=(0, 100))
        if pause:
            pauses.append(pause)
            now_s += pause
        breaker.succeeded(now_s)

    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]


def test_a_good_probe_does_not_hide_bad_answers():
    """It closes the breaker of a backend that could not be reached. Where answers failed it ends
    the pause, and a request is the trial."""
    gone, bad = (Backend(name=f"a-{n}", pool="a", url="http://a") for n in range(2))
    fail(gone.breaker, unreachable=True)
    for _ in range(TOLERATED):
        fail(bad.breaker)
    for backend in (gone, bad):
        backend.probed(False)
        backend.probed(True)

    assert (gone.resting, bad.resting) == (False, True)
    lease(bad)
    assert not bad.live(0.0)


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

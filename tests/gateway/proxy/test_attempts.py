"""How often a request is tried, and what its client is told in the end."""

import pytest

from gateway.errors import (
    ConnectFailed,
    ConnectionLost,
    InvalidAnswer,
    Saturated,
    UpstreamError,
    UpstreamTimeout,
    Vacated,
)
from gateway.proxy.attempts import ADMISSIONS, Attempts
from gateway.proxy.engines import refusal
from gateway.routing.backend import Backend, Lease


def lease(number):
    backend = Backend(name=f"a-{number}", pool="a", url="http://a")
    return Lease(
        backend, own=0, slots=(0.1,), prefill_s=0.0, bucket=0, plan_id=None, decision="planned"
    )


def made(error, retries=2):
    """After how many attempts with the same end no other follows."""
    attempts = Attempts()
    for number in range(100):
        attempts.note(lease(number), error)
        if attempts.last(error, retries):
            return number + 1
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (UpstreamError("cut"), 2),
        (ConnectionLost("cut"), 2),
        (UpstreamTimeout("late"), 2),
        (InvalidAnswer("html"), 2),
        (refusal(500, b""), 2),
        (refusal(400, b""), 1),
        (refusal(413, b""), 1),
        (refusal(401, b""), 3),
        (ConnectFailed("refused"), 3),
        (refusal(503, b""), ADMISSIONS + 1),
    ],
    ids=repr,
)
def test_a_request_is_tried_so_often(error, most):
    """One that may be what breaks its backends twice in all; one that no backend has worked for up
    to `retries` more; a mistake in the body never again."""
    assert made(error) == most


def test_a_poisonous_request_is_sent_twice_whatever_else_fails():
    """Connections that could not be made and rooms that were full were no sends."""
    attempts, sent = Attempts(), 0
    for error in (ConnectFailed("x"), refusal(503, b""), ConnectionLost("x"), refusal(500, b"")):
        attempts.note(lease(0), error)
        sent += not isinstance(error, ConnectFailed) and error.kind != "full"
    assert (sent, attempts.last(refusal(500, b""), retries=9)) == (2, True)


def test_who_lacks_an_earlier_answer_is_not_suspected():
    """A backend need not have what another one answered; any other 404 is doubted."""
    attempts = Attempts()
    attempts.note(lease(0), refusal(404, b""), goes_on=True)
    attempts.note(lease(1), refusal(401, b""), goes_on=True)
    attempts.note(lease(2), refusal(404, b""))

    assert [suspect.backend.name for suspect, _ in attempts.suspects] == ["a-1", "a-2"]
    assert (attempts.doubted, attempts.tried) == (3, ["a-0", "a-1", "a-2"])


def test_a_lost_connection_does_not_exclude_its_backend():
    """It may have been idle for too long."""
    attempts = Attempts()
    attempts.note(lease(0), ConnectionLost("x"))
    attempts.note(lease(1), refusal(503, b""))
    attempts.note(lease(2), refusal(404, b""))

    assert attempts.tried == ["a-2"]


def test_the_client_hears_the_engine():
    """Its failure before its refusals, its refusal before our own, its time before our own."""
    ours = Saturated("full", retry_after_s=9.0)
    attempts = Attempts()
    assert attempts.verdict(ours) is ours
    for error, seconds in ((refusal(503, b""), 9.0), (refusal(429, b"", pause_s=4.0), 4.0)):
        attempts.note(lease(0), error)
        told = attempts.verdict(ours)
        assert (told, told.retry_after_s) == (error, seconds)
    failure = refusal(500, b"")
    attempts.note(lease(0), failure)

    assert attempts.verdict(ours) is failure


def test_a_backend_that_ends_soon_costs_no_attempt_and_is_no_answer():
    """As often as it happens; the client hears of it only what a request without room hears."""
    attempts, full = Attempts(), Saturated("full", retry_after_s=1.0)
    for number in range(5):
        attempts.note(lease(number), Vacated("ends"))

    assert not attempts.last(Vacated("ends"), 0)
    assert (attempts.tried, attempts.broken, attempts.blamed) == ([], 0, [])
    assert attempts.verdict(full) is full
    attempts.note(lease(9), UpstreamError("cut"))
    assert str(attempts.verdict(full)) == "cut"

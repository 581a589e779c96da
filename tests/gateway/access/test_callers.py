"""Callers are told apart without their secrets."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.callers import ANONYMOUS, KNOWN, Callers, caller_id

HEADERS = st.binary(min_size=1, max_size=40)


@given(HEADERS, HEADERS)
def test_an_id_is_of_its_header_alone(one, other):
    """The same header has the same id in every process, another one another id."""
    assert caller_id(one) == Callers().identify(one).id
    assert (caller_id(one) == caller_id(other)) is (one == other)


@given(st.text(min_size=8, max_size=40))
def test_the_secret_is_not_in_the_id(secret):
    """Sixteen hexadecimal digits, in which no part of the header stands."""
    secret = f"sk-{secret}"  # or it may be a word that stands there anyway
    caller = Callers().identify(f"Bearer {secret}".encode())

    assert len(caller.id) == 16
    assert int(caller.id, 16) >= 0
    assert secret not in repr(caller)


def test_requests_without_credentials_are_one_caller():
    """No header and an empty one are the same: nobody in particular."""
    assert Callers().identify(b"") is ANONYMOUS
    assert caller_id(b"") == ""


def test_endless_callers_do_not_fill_the_memory():
    """Those that come again are the same as before, however many came between."""
    callers = Callers()
    first = callers.identify(b"Bearer 1")
    for n in range(2 * KNOWN):
        callers.identify(b"Bearer x%d" % n)

    assert callers.identify(b"Bearer 1").id == first.id
    assert callers.identify(b"") is ANONYMOUS
    assert len(callers._known) <= KNOWN + 1

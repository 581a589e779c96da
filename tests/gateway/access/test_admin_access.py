"""Whoever may read the admin port may not write, unless a key says so."""

from base64 import b64encode
from hashlib import sha256

import pytest

from gateway.access.admin_access import AdminAccess, AdminOpener
from gateway.errors import KeyForbids, KeyRefused

READ, WRITE = b"read-token-0123456789", b"write-token-0123456789"


def opener(token: bytes, *names: str) -> AdminOpener:
    return AdminOpener(sha256(token).digest(), names)


BOTH = AdminAccess(opener(READ, "reader"), opener(WRITE, "writer"))


def bearer(token: bytes) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + token}


def basic(token: bytes) -> dict[bytes, bytes]:
    return {b"authorization": b"Basic " + b64encode(b"anybody:" + token)}


@pytest.mark.parametrize("sent", [bearer, basic])
def test_each_token_opens_its_part(sent):
    """Whoever may write may read; by Bearer, or as a browser sends a password."""
    BOTH.require(b"GET", "/metrics", sent(READ), ())
    BOTH.require(b"GET", "/metrics", sent(WRITE), ())
    BOTH.require(b"POST", "/cuvee/drain", sent(WRITE), ())
    BOTH.require(b"DELETE", "/cuvee/drain", sent(WRITE), ())
    with pytest.raises(KeyForbids):
        BOTH.require(b"POST", "/cuvee/drain", sent(READ), ())


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer x", READ, b"Basic", b"Basic !", b"Basic " + b64encode(READ)],
)
def test_anything_else_opens_nothing(value):
    """And a browser is told to ask for a password."""
    for method in (b"GET", b"HEAD", b"POST", b"DELETE"):
        with pytest.raises(KeyRefused) as refused:
            BOTH.require(method, "/metrics", {b"authorization": value}, ())
        assert refused.value.scheme.startswith("Basic realm=")
        assert refused.value.status == 401


def test_probes_need_no_key():
    """A kubelet has none; what is no GET is no probe."""
    for path in ("/livez", "/readyz"):
        BOTH.require(b"GET", path, {}, ())
        with pytest.raises(KeyRefused):
            BOTH.require(b"POST", path, {}, ())


def test_certificates_open_by_their_names():
    """A star stands for all that were signed; without a certificate there is no name."""
    BOTH.require(b"GET", "/metrics", {}, ("reader", "other"))
    BOTH.require(b"POST", "/cuvee/drain", {}, ("writer",))
    with pytest.raises(KeyForbids):
        BOTH.require(b"POST", "/cuvee/drain", {}, ("reader",))
    star = AdminAccess(AdminOpener(None, ("*",)), AdminOpener(None, ("*",)))
    star.require(b"POST", "/cuvee/drain", {}, ("anybody",))
    with pytest.raises(KeyRefused):
        star.require(b"GET", "/metrics", {}, ())


def test_without_keys_everybody_may_do_all():
    """And with one for writing only, read."""
    AdminAccess(None, None).require(b"POST", "/cuvee/drain", {}, ())
    AdminAccess(None, opener(WRITE)).require(b"GET", "/metrics", {}, ())
    with pytest.raises(KeyRefused):
        AdminAccess(None, opener(WRITE)).require(b"POST", "/cuvee/drain", {}, ())


@pytest.mark.parametrize(
    "fields",
    [{b"sec-fetch-site": b"cross-site"}, {b"sec-fetch-site": b"same-site"},
     {b"origin": b"https://evil.example", b"host": b"127.0.0.1:8790"}, {b"origin": b"null"}],
)  # fmt: skip
def test_pages_of_other_sites_cannot_write(fields):
    """A browser would send the password for them; also where there is none."""
    for access in (BOTH, AdminAccess(None, None)):
        with pytest.raises(KeyForbids):
            access.require(b"POST", "/cuvee/reload", basic(WRITE) | fields, ())


def test_the_gateways_own_page_can():
    """Of the same origin, by HTTP or HTTPS."""
    own = {b"origin": b"https://h:8790", b"host": b"h:8790", b"sec-fetch-site": b"same-origin"}
    BOTH.require(b"POST", "/cuvee/reload", basic(WRITE) | own, ())


def test_a_question_is_no_change():
    """What explains and compares needs the right to read only; what puts a plan in force, more."""
    for path in ("/cuvee/explain", "/cuvee/plan/diff"):
        BOTH.require(b"POST", path, bearer(READ), ())
        with pytest.raises(KeyRefused):
            BOTH.require(b"POST", path, {}, ())
    with pytest.raises(KeyForbids):
        BOTH.require(b"POST", "/cuvee/plan", bearer(READ), ())

"""A request has a key, or it is refused in OpenAI's words."""

from hashlib import sha256

import pytest

from gateway.access.callers import KNOWN, Callers
from gateway.access.key import AccessKey
from gateway.access.key_ring import KeyRing
from gateway.errors import KeyForbids, KeyRefused

SECRET = b"sk-cuvee-0123456789abcdef"


class Clock:
    """Unix time that stands still until it is set."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def callers(clock: Clock | None = None, **fields) -> Callers:
    """Who has one key, `team`."""
    key = AccessKey(name="team", digest=sha256(SECRET).digest(), **fields)
    made = Callers()
    made.configure(KeyRing([key], clock or Clock()))
    return made


@pytest.mark.parametrize("shown", [b"Bearer %b", b"bearer %b", b"BEARER   %b ", b"%b"])
def test_a_key_is_found_however_it_is_sent(shown):
    """In `Authorization` with its scheme, or bare, as in `x-api-key`; the caller is its name."""
    caller = callers().identify(shown % SECRET)

    assert caller.id == "team"
    assert caller.key is not None


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (b"", None),
        (b"Bearer ", None),
        (b"Bearer sk-wrong", "invalid_api_key"),
        (b"Bearer " + SECRET[:-1], "invalid_api_key"),
        (b"Basic " + SECRET, "invalid_api_key"),
    ],
)
def test_any_other_is_refused_and_not_repeated(credential, code):
    """Without a key OpenAI's error has no code; with a wrong one the key is not in the message."""
    with pytest.raises(KeyRefused) as refused:
        callers().identify(credential)

    assert (refused.value.status, refused.value.code) == (401, code)
    assert b"sk-" not in refused.value.body()


def test_a_key_is_refused_from_the_moment_it_expires():
    """Also one that was let in a moment before."""
    clock = Clock()
    known = callers(clock, expires_s=2000.0)
    known.identify(SECRET)
    clock.now_s = 2000.0

    with pytest.raises(KeyRefused, match="expired"):
        known.identify(SECRET)


def test_a_key_that_is_revoked_is_forgotten():
    """What was remembered of the last keys does not outlive them."""
    known = callers()
    known.identify(SECRET)
    known.configure(KeyRing([], Clock()))

    with pytest.raises(KeyRefused):
        known.identify(SECRET)


def test_wrong_keys_do_not_push_out_the_right_ones():
    """Nothing is remembered of them, however many there are."""
    known = callers()
    caller = known.identify(SECRET)
    for number in range(KNOWN + 1):
        with pytest.raises(KeyRefused):
            known.identify(b"wrong-%d" % number)

    assert known.identify(SECRET) is caller


def test_a_key_opens_its_models_and_classes_only():
    """A model by the name that was asked for, or by its own."""
    key = AccessKey(name="team", models=frozenset({"m"}), slo_classes=frozenset({"batch"}))

    key.require("m", "alias", "batch")
    with pytest.raises(KeyForbids, match="does not have access to model `other`"):
        key.require("other", "other", "batch")
    with pytest.raises(KeyForbids, match="SLO class `default`"):
        key.require("m", None, "default")
    AccessKey(name="all").require("any", None, "any")


def test_no_text_of_a_key_shows_its_digest():
    """Logs may have any object in them."""
    known = callers()
    caller = known.identify(SECRET)

    for text in (repr(known), repr(caller), repr(caller.key)):
        assert sha256(SECRET).hexdigest() not in text
        assert SECRET.decode() not in text

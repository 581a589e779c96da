"""Finds the key that a request shows, by a digest of it.

A key has 256 random bits, so nobody can guess it, and a plain SHA-256 hides it as well as a slow
hash would; slow hashes are for passwords, which people choose. Two keys with digests that begin
alike cannot be made, so the time that a lookup takes tells nothing of a key; the digest that is
found is compared in constant time all the same.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from gateway.access.key import AccessKey
from gateway.errors import KeyRefused

BEARER: Final = b"bearer "
MISSING: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
)
WRONG: Final = "Incorrect API key provided."
EXPIRED: Final = "The API key has expired."
CODE: Final = "invalid_api_key"


class KeyRing:
    """All keys of a gateway; never changed."""

    def __init__(self, keys: Iterable[AccessKey], wall_clock: Callable[[], float]) -> None:
        """wall_clock: Unix time, for keys that expire."""
        self._keys = {key.digest: key for key in keys}
        self._wall_clock = wall_clock

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)} keys>"

    def find(self, credential: bytes) -> AccessKey:
        """The key in a value of `Authorization` or `x-api-key`. Raises KeyRefused."""
        secret = shown_key(credential)
        if not secret:
            raise KeyRefused(MISSING, code=None)
        digest = sha256(secret).digest()
        key = self._keys.get(digest)
        if key is None or not compare_digest(digest, key.digest):
            raise KeyRefused(WRONG, code=CODE)
        self.require_valid(key)
        return key

    def require_valid(self, key: AccessKey) -> None:
        """Raise KeyRefused for a key that has expired."""
        if self._wall_clock() >= key.expires_s:
            raise KeyRefused(EXPIRED, code=CODE)


def shown_key(credential: bytes) -> bytes:
    """The key in a value of `Authorization`, with or without its scheme, or of `x-api-key`."""
    if credential[: len(BEARER)].lower() == BEARER:
        credential = credential[len(BEARER) :]
    return credential.strip()

"""Who may use the admin port: by a token, or by the name in a client's certificate. Pure."""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping
from hashlib import sha256
from hmac import compare_digest

from gateway.errors import KeyForbids, KeyRefused

OPEN = ("/livez", "/readyz")  # probes have no keys
READS = (b"GET", b"HEAD", b"OPTIONS")
ASKS = ("/cuvee/explain", "/cuvee/plan/diff")  # a POST that changes nothing: the question is long
# A browser asks its user, who may leave the name empty; other programs know it as well as Bearer.
SCHEME = 'Basic realm="cuvee", charset="UTF-8"'
NEEDED = (
    "The admin port needs its token: as `Authorization: Bearer TOKEN`, or in a browser as the "
    "password of any user."
)
ANY = "*"
SAME = (b"same-origin", b"none")


class AdminOpener:
    """What opens one part. digest: SHA-256 of the token, `None` without one. certificates: names;
    `*` is every one that was signed."""

    def __init__(self, digest: bytes | None, certificates: Collection[str]) -> None:
        self._digest = digest
        self._certificates = frozenset(certificates)

    def __repr__(self) -> str:
        return f"<AdminOpener of {len(self._certificates)} certificates>"

    def opens(self, digest: bytes | None, names: Collection[str]) -> bool:
        """Whether a token of this digest, or a certificate with these names, opens it."""
        if self._digest is not None and digest is not None and compare_digest(self._digest, digest):
            return True
        known = self._certificates
        return bool(names) and (ANY in known or not known.isdisjoint(names))


class AdminAccess:
    """Both parts of one admin port; `None`: everybody who reaches it."""

    def __init__(self, read: AdminOpener | None, write: AdminOpener | None) -> None:
        self._read, self._write = read, write

    def __repr__(self) -> str:
        return f"<AdminAccess, read {self._read!r}, write {self._write!r}>"

    def require(
        self, method: bytes, path: str, fields: Mapping[bytes, bytes], names: Collection[str]
    ) -> None:
        """Raise KeyRefused or KeyForbids for who may not do this. names: of the certificate."""
        reads = method in READS or path in ASKS
        if method not in READS:
            _require_own_page(fields)
        if path in OPEN and reads:
            return
        needed = self._read if reads else self._write
        if needed is None:
            return
        digest = _token_digest(fields.get(b"authorization", b""))
        writes = self._write is not None and self._write.opens(digest, names)
        if writes or needed.opens(digest, names):
            return
        if not reads and self._read is not None and self._read.opens(digest, names):
            text = "This token or certificate may read and not write (access.admin_write)."
            raise KeyForbids(text, code="read_only")
        raise KeyRefused(NEEDED, code="invalid_admin_token", scheme=SCHEME)


def _require_own_page(fields: Mapping[bytes, bytes]) -> None:
    """Raise KeyForbids for what a page of another site has a browser do: it would send the password
    that its user gave to this one."""
    site, origin = fields.get(b"sec-fetch-site"), fields.get(b"origin")
    other = origin is not None and origin.partition(b"://")[2] != fields.get(b"host")
    if other or (site is not None and site not in SAME):
        raise KeyForbids("A page of another site may not do this.", code="cross_site")


def _token_digest(authorization: bytes) -> bytes | None:
    """SHA-256 of the token of a request; `None` if it has none."""
    scheme, _, rest = authorization.strip().partition(b" ")
    token = rest.strip()
    if scheme.lower() == b"basic":
        try:
            token = b64decode(token, validate=True).partition(b":")[2]
        except (NotBase64, ValueError):
            return None
    elif scheme.lower() != b"bearer":
        return None
    return sha256(token).digest() if token else None

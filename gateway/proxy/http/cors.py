"""Cross-origin requests of browsers (WHATWG Fetch, CORS protocol). No I/O.

A browser asks by OPTIONS before it sends JSON from a page of another origin, and shows no answer,
not even an error, that does not name the page's origin.
"""

from collections.abc import Collection, Mapping
from typing import Final

ANY_ORIGIN: Final = "*"
METHODS: Final = b"access-control-allow-methods: GET, POST, OPTIONS\r\n"
# Chrome keeps a preflight's answer for two hours at most.
PREFLIGHT: Final = METHODS + b"access-control-max-age: 600\r\n"
EXPOSED: Final = b"access-control-expose-headers: *\r\n"
VARY: Final = b"vary: Origin\r\n"


class CrossOrigin:
    """Which pages may call; never changed. A page's cookies are never asked for."""

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: Collection[str]) -> None:
        """origins: such as `https://app.example`; `*` is every one."""
        self._any = ANY_ORIGIN in origins
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in origins)

    def __repr__(self) -> str:
        return f"<CrossOrigin of {'all' if self._any else len(self._origins)} origins>"

    def lines(self, method: bytes, fields: Mapping[bytes, bytes]) -> bytes:
        """The header lines of an answer to a request with these headers."""
        origin = fields.get(b"origin")
        # Without an origin too: a cache must not give that answer to a page.
        lines = b"" if self._any else VARY
        if origin is None or not (self._any or origin.lower() in self._origins):
            return lines
        allowed = b"*" if self._any else origin
        lines += b"access-control-allow-origin: %b\r\n" % allowed
        if method != b"OPTIONS":
            return lines + EXPOSED
        lines += PREFLIGHT
        asked = fields.get(b"access-control-request-headers")
        # A star would not stand for Authorization.
        return lines + b"access-control-allow-headers: %b\r\n" % asked if asked else lines

"""Asks the admin port of a running gateway, all paths at once.

Knows no meaning of what it reads.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.config.schema import GatewaySection
from gateway.inspection.samples import Samples
from gateway.plain_http import PlainHttp, PlainHttpFault, PlainTlsFault

METRICS = "/metrics"
PATHS = (
    METRICS, "/readyz", "/livez", "/cuvee/plan", "/cuvee/loops", "/cuvee/discovery",
    "/cuvee/cluster", "/cuvee/history", "/cuvee/hits", "/cuvee/scaling",
)  # fmt: skip
TIMEOUT_S = 5.0
MOST_BYTES = 64 << 20  # of an answer: the metrics of a thousand backends have a few MiB
POSTED = ("content-type", "application/json")
ANYWHERE = ("", "0.0.0.0", "::")


class AdminFault(Exception):
    """The admin port did not answer as one: one line why."""


class AdminClosed(AdminFault):
    """Something answers there and does not let this client look. token: whether because of the
    token, and not of TLS."""

    def __init__(self, message: str, *, token: bool) -> None:
        super().__init__(message)
        self.token = token


class AdminReading(NamedTuple):
    """What a gateway said at one moment. values: by path, without those that it does not have.
    at_s: of this machine's clock, seconds since 1970."""

    url: str
    samples: Samples
    values: dict[str, Any]
    at_s: float

    def value(self, path: str) -> dict[str, Any]:
        """The object of a path; an empty one if it has none."""
        found = self.values.get(path)
        return found if isinstance(found, dict) else {}


class AdminClient:
    """Reads one admin port."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """url: its base. token: sent as `Authorization: Bearer`. timeout_s: until each answer."""
        self.url = url.rstrip("/")
        self._http = PlainHttp(self.url, ca_file)
        self._headers = () if token is None else (("authorization", f"Bearer {token}"),)
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"<AdminClient {self.url}>"

    async def read(self, at_s: float, paths: Sequence[str] = PATHS) -> AdminReading:
        """What it says now. at_s: the time now. Raises AdminFault."""
        answers = await asyncio.gather(*map(self._get, paths))
        values = dict(zip(paths, answers, strict=True))
        page = values.pop(METRICS, None)
        if not isinstance(page, bytes):
            raise AdminFault(f"{self.url}: {METRICS} is not that of a gateway")
        return AdminReading(self.url, Samples(page.decode(errors="replace")), values, at_s)

    async def one(self, path: str) -> Any:
        """The object of one path; `None` if it has none. Raises AdminFault."""
        return await self._get(path)

    async def post(self, path: str, question: Any, *, longest_s: float) -> tuple[int, Any]:
        """Have something done, or ask what takes long: the status, and the object of the answer.
        question: as JSON. longest_s: until the end of the answer. Raises AdminFault."""
        body, headers = msgspec.json.encode(question), (*self._headers, POSTED)
        try:
            answer = await self._http.whole(
                "POST", path, headers, body, longest_s=longest_s, most_bytes=MOST_BYTES
            )
        except PlainHttpFault as error:
            raise AdminFault(str(error)) from None
        try:
            return answer.status, msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AdminFault(f"{self.url}: {path} is not that of a gateway") from None

    async def _get(self, path: str) -> Any:
        """A page as bytes, an object as it is, `None` for a path that it does not have."""
        try:
            answer = await self._http.whole(
                "GET", path, self._headers, longest_s=self._timeout_s, most_bytes=MOST_BYTES
            )
        except PlainTlsFault as error:
            raise AdminClosed(str(error), token=False) from None
        except PlainHttpFault as error:
            raise AdminFault(str(error)) from None
        if answer.status in (401, 403):
            text = f"{self.url}: {path} answered {answer.status}: it asks for a token"
            raise AdminClosed(text, token=True)
        if answer.status == 404:
            return None
        if path == METRICS:
            return answer.body if b"cuvee_build_info" in answer.body else None
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AdminFault(f"{self.url}: {path} is not that of a gateway") from None


def admin_url(settings: GatewaySection) -> str:
    """The admin port of a configuration, for clients on this machine."""
    host = "127.0.0.1" if settings.admin_host in ANYWHERE else settings.admin_host
    scheme = "http" if settings.admin_tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.admin_port}"

"""Sends wishes to a URL: JSON, signed, tried again with the same key until they are accepted."""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from gateway.actuation.actuator import ActuationError, ScaleOrder
from gateway.actuation.patience import Patience
from gateway.actuation.scaled_pool import ScaledPool
from gateway.actuation.webhook_answer import Objection, objection
from gateway.config.scale_schema import WebhookSection
from gateway.plain_http import PlainHttp, PlainHttpFault

VERSION = 1
MOST_BYTES = 1 << 16  # of an answer
FIRST_PAUSE_S = 0.5
SAFE = "!#$&'*+/:=?@^|"  # that a header can have, beside letters, digits and -._~


class WebhookPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: docs/actuation.md has the meanings. at: of the first try, Unix time."""

    version: int
    key: str
    pool: str
    model: str
    gpu: str
    gpus: int
    zone: str | None
    backends: int
    running: int
    leaving: tuple[str, ...]
    why: str
    at: int


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """The value of `x-cuvee-signature`: whoever has the key finds the same."""
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, "sha256").hexdigest()


class Webhook:
    """The `Actuator` of one pool whose wishes go to a URL."""

    def __init__(
        self,
        pool: ScaledPool,
        section: WebhookSection,
        root: Path,
        environ: Mapping[str, str],
        *,
        now_s: Callable[[], float] = time.time,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """root: the folder that paths are relative to. environ: where a key may be. now_s: seconds
        since 1970."""
        self._pool = pool
        self._section = section
        self._root = root
        self._environ = environ
        self._now_s = now_s
        self._first_pause_s = first_pause_s
        parts = urlsplit(section.url)
        ca_file = root / section.ca_file if section.ca_file is not None else None
        self._http = PlainHttp(f"{parts.scheme}://{parts.netloc}", ca_file)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # The query is left out: it may be a secret.
        self._name = f"webhook {parts.scheme}://{parts.netloc}{parts.path}"
        self._turn = asyncio.Lock()
        self._sent: tuple[str, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Webhook {self._name}>"

    @property
    def name(self) -> str:
        """See `Actuator`."""
        return self._name

    async def apply(self, order: ScaleOrder) -> None:
        """See `Actuator`: one wish at a time."""
        async with self._turn:
            body = self._body(order)
            patience = Patience(self._section.give_up_s, first_s=self._first_pause_s)
            while (found := await self._try(order, body)) is not None:
                if not found.again or not await patience.pause(found.wait_s):
                    raise ActuationError(found.why, final=found.final)

    async def aclose(self) -> None:
        """See `Actuator`: connections end with their requests."""

    async def _try(self, order: ScaleOrder, body: bytes) -> Objection | None:
        headers = self._headers(order, body)
        try:
            answer = await self._http.whole(
                "POST",
                self._target,
                headers,
                body,
                longest_s=self._section.timeout_s,
                most_bytes=MOST_BYTES,
            )
        except PlainHttpFault as fault:
            return Objection(str(fault), again=True)
        return objection(answer, order)

    def _body(self, order: ScaleOrder) -> bytes:
        """The same bytes for the same key: receivers compare them."""
        if self._sent is None or self._sent[0] != order.key:
            payload = WebhookPayload(
                version=VERSION,
                key=order.key,
                pool=order.pool,
                model=self._pool.model,
                gpu=self._pool.gpu,
                gpus=self._pool.gpus,
                zone=self._pool.zone,
                backends=order.backends,
                running=order.running,
                leaving=order.leaving,
                why=order.why,
                at=int(self._now_s()),
            )
            self._sent = order.key, msgspec.json.encode(payload)
        return self._sent[1]

    def _headers(self, order: ScaleOrder, body: bytes) -> list[tuple[str, str]]:
        timestamp = str(int(self._now_s()))
        headers = [
            ("content-type", "application/json"),
            ("idempotency-key", quote(order.key, safe=SAFE)),
            ("x-cuvee-timestamp", timestamp),
            *self._section.headers.items(),
        ]
        if (key := self._key()) is not None:
            headers.append(("x-cuvee-signature", signature(key, timestamp, body)))
        return headers

    def _key(self) -> bytes | None:
        """The key as it is now; `None`: what is sent is not signed. Raises ActuationError."""
        file, variable = self._section.key_file, self._section.key_env
        key = b""
        if file is not None:
            try:
                key = (self._root / file).read_bytes().strip()
            except OSError as error:
                text = f"the key cannot be read: {self._root / file}: {error.strerror}"
                raise ActuationError(text) from None
        elif variable is not None:
            key = self._environ.get(variable, "").strip().encode()
        else:
            return None
        if not key:
            raise ActuationError(f"the key is empty: {file or variable}")
        return key

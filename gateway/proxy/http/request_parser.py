"""Parses the bytes of one client connection into complete requests. Knows no transport. No I/O.

HTTP/1.1 by httptools (llhttp): both body framings, pipelining, limits, and offers of an upgrade,
which are declined. A head that repeats is recognised without llhttp (`head_memo`), and a large body
of known length is read without it.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

import httptools

from gateway.errors import (
    BadRequest,
    GatewayError,
    HeadTooLarge,
    Saturated,
    TooLarge,
    VersionNotSupported,
)
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.chunked import size_of_open
from gateway.proxy.http.head_memo import WHOLE, HeadMemo
from gateway.proxy.http.headers import HEAD_BYTES, Headers, head_size, head_without_upgrade
from gateway.proxy.http.host import host_problem
from gateway.proxy.http.incoming import IncomingBody
from gateway.proxy.http.phase import Phase
from gateway.proxy.http.request import ClientLimits, Request, origin_form
from gateway.proxy.http.upload import Upload

# A body of which as much is still to come is read without llhttp, which would copy each piece once
# more. Below, another parser for what follows costs more than the copy.
DIRECT_BYTES: Final = 16384
# What a client may send while a complete request of it waits for its turn. Reading is not paused
# instead, because the end of a connection is only seen by reading.
AHEAD_BYTES: Final = 1 << 20
# What is read and dropped of a client after an error. Most clients read their answer only when they
# have sent everything; but dropping for ever costs as much as reading.
DROPPED_BYTES: Final = 1 << 26
EARLY_BYTES: Final = 1 << 16  # of a body that is passed on while it comes, before it is served
REQUEST_BYTES: Final = 1024  # that a waiting request counts for, beside what was sent


class RequestParser:
    """Parses what one client sends.

    requests: complete requests in the order of their arrival. The connection may put an error last,
    to be answered after them. phase: what the client is sending. part_bytes: of the body that has
    come in part. held_bytes: of this one and of the bodies of `requests`; all of them count in the
    budget, and whoever takes a request out gives its bytes back.
    """

    def __init__(
        self, limits: ClientLimits, budget: BodyBudget, on_expect: Callable[[], None]
    ) -> None:
        """on_expect: called when the client waits for 100 Continue."""
        self.requests: deque[Request | GatewayError] = deque()
        self.phase = Phase.IDLE
        self.part_bytes = self.held_bytes = 0
        self._budget = budget
        self._limits = limits
        self._body_limit = limits.body_bytes
        self._on_expect = on_expect
        self._parser: Any = httptools.HttpRequestParser(self)
        self._memo = HeadMemo(limits.not_sent)
        self._target = b""
        self._host: bytes | None = None  # the last one that was found to be valid
        self._headers: Headers = []
        self._fields: dict[bytes, bytes] = {}
        self._body = IncomingBody()
        self._begun: Request | None = None  # whose body is read without llhttp
        # From which llhttp has made nothing yet: headers without an end are collected for ever.
        self._pending_bytes = 0
        self._fed_bytes = 0  # by the call of `feed` that is under way
        self._ahead_bytes = 0  # came while a complete request waited
        self._dropped_bytes = 0
        self._error: GatewayError | None = None
        self._chunk_bytes = -1  # of a chunk that came in part, in this call of `feed`; -1: none
        self._http11 = self._kept = self._upgrade_offered = False

    def __repr__(self) -> str:
        return f"<RequestParser {self.phase.name}, {len(self.requests)} requests>"

    @property
    def receiving(self) -> bool:
        """Whether a part of a request has come, but not all of it."""
        return self.phase is not Phase.IDLE and self.phase is not Phase.STOPPED

    @property
    def patience_s(self) -> float:
        """How long the client may take for what it sends next, in seconds."""
        limits = self._limits
        if self.phase is Phase.IDLE:
            return limits.idle_s
        return limits.head_s if self.phase is Phase.HEAD else limits.body_s

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises BadRequest or a subclass of it if they are no request, and
        Saturated if too many complete requests wait already."""
        self._ahead_bytes = self._ahead_bytes + len(data) if self.requests else 0
        if self._ahead_bytes + REQUEST_BYTES * len(self.requests) > AHEAD_BYTES:
            message = f"More than {AHEAD_BYTES} bytes were sent ahead of their turn."
            raise Saturated(message, retry_after_s=1.0)
        if self._begun is not None:
            data = self._read_on(self._begun, data)
            if not data or self.phase is Phase.STOPPED:
                return
        fresh = self.phase is Phase.IDLE and not self._pending_bytes
        if fresh and self._recognise(data):
            return
        already = len(self.requests)
        self._chunk_bytes = min(self._chunk_bytes, 0)
        self._fed_bytes = len(data)
        self._pending_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            raise self._error or BadRequest(f"this is not HTTP/1.1: {error}") from error
        if self._chunk_bytes >= 0:
            size = size_of_open(data, self._chunk_bytes)
            if size is not None and self.part_bytes - self._chunk_bytes + size > self._body_limit:
                raise self._too_large()
        if self._pending_bytes > HEAD_BYTES:
            raise HeadTooLarge("the request's head is too large")
        if self.phase is Phase.BODY:
            self._read_directly(data, fresh and len(self.requests) == already)
        elif fresh and self.phase is Phase.IDLE and len(self.requests) == already + 1:
            self._remember(data, self.requests[-1], WHOLE)

    def drop(self, size: int) -> bool:
        """Count what came after `stop`; return whether it is too much."""
        self._dropped_bytes += size
        return self._dropped_bytes > DROPPED_BYTES

    def stop(self) -> None:
        """Drop what has come of an incomplete request, and parse no more."""
        self.phase = Phase.STOPPED
        self._headers = []
        self._body.clear()
        self._begun = None
        self._hold(-self.part_bytes)
        self.part_bytes = 0

    def clear(self) -> None:
        """Do the same, and drop the complete requests."""
        self.stop()
        self.requests.clear()
        self._hold(-self.held_bytes)

    def close(self) -> None:
        """Do the same for ever. llhttp and this object hold each other: each of thousands of
        connections would stay in memory until the garbage collector comes."""
        self.clear()
        self._parser, self._on_expect = None, _nobody

    def _hold(self, size: int) -> None:
        """Count bytes of bodies that are in memory, or no longer are."""
        self.held_bytes += size
        self._budget.used += size

    def _recognise(self, data: bytes) -> bool:
        """Make a request of `data` without llhttp, or begin one, if its head is the known one."""
        memo = self._memo
        start = memo.body_at(data)
        size = len(data) - start
        if start < 0:
            start, size = memo.opening(data)
        if start < 0 or size > self._body_limit:
            return False
        known = memo.known
        assert known is not None
        come = len(data) - start
        self._hold(come)
        if come == size:
            self.requests.append(known.request(data[start:]))
            return True
        self.phase, self.part_bytes = Phase.BODY, come
        self._begun = known.request(b"")
        self._body.begin(data, start, size - come)
        return True

    def _remember(self, data: bytes, request: Request | GatewayError, size: int) -> None:
        """Keep the head of the request with which `data` begins. size: of its body."""
        if self._memo.worth_keeping and isinstance(request, Request) and request.repeatable:
            self._memo.keep_message(
                data, request.headers, size, method=request.method, target=request.target
            )

    def _read_directly(self, data: bytes, first: bool) -> None:
        """Read the rest of a body without llhttp, if its length is known and much is to come; a new
        parser follows. first: whether `data` is the beginning of this request."""
        length = self._fields.get(b"content-length")
        if length is None or self._upgrade_offered:  # llhttp refuses a length beside a coding
            return
        left = int(length) - self.part_bytes
        if left < DIRECT_BYTES:
            return
        request = self._begun = self._request(b"", keep_alive=self._kept)
        self._body.left = left
        self._parser = httptools.HttpRequestParser(self)
        if first:
            self._remember(data, request, int(length))

    def _read_on(self, request: Request, data: bytes) -> bytes:
        """Take what comes of a body of known length; return what follows it."""
        body, upload = self._body, request.upload
        if upload is not None:
            if len(data) >= upload.left:
                self._begun, self.phase = None, Phase.IDLE
            return upload.take(data)
        rest = body.read(data)
        self._hold(len(data) - len(rest))
        self.part_bytes += len(data) - len(rest)
        if not body.left:
            self._begun, self.phase, self.part_bytes = None, Phase.IDLE, 0
            request.body = body.take()
            self.requests.append(request)
        elif self.part_bytes >= EARLY_BYTES and request.bare_target in self._limits.streamed:
            request.upload, self.part_bytes = Upload(body.left, self._budget), 0
            request.body = body.take()
            self.requests.append(request)
        return rest

    def _parse(self, data: bytes) -> None:
        """Feed llhttp, and feed it the head again without Upgrade where a client offers one.

        The gateway declines every upgrade (RFC 9110 §7.8 allows that), but llhttp takes whatever
        follows such a head for another protocol.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                method, version = self._parser.get_method(), self._parser.get_http_version()
                head = head_without_upgrade(method, self._target, version, self._headers)
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)
            else:
                return

    # Callbacks of llhttp, from inside feed_data.

    def on_message_begin(self) -> None:
        self.phase = Phase.HEAD
        self._target, self._headers, self._fields = b"", [], {}
        self._body.clear()
        self.part_bytes = self._pending_bytes = 0

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is Phase.HEAD:  # trailers are dropped, as RFC 9110 §6.5.1 allows
            name, value = name.lower(), value.rstrip(b" \t")  # llhttp leaves them (RFC 9110 §5.5)
            self._headers.append((name, value))
            self._fields[name] = value

    def on_headers_complete(self) -> None:
        pending_bytes = self._pending_bytes + self._fed_bytes  # more than the head, perhaps
        if pending_bytes > HEAD_BYTES and head_size(self._target, self._headers) > HEAD_BYTES:
            self._fail(HeadTooLarge("the request's head is too large"))
        self.phase, self._pending_bytes = Phase.BODY, 0
        parser, fields = self._parser, self._fields
        self._upgrade_offered = parser.should_upgrade()
        if self._upgrade_offered:
            if parser.get_method() == b"CONNECT":
                self._fail(BadRequest("this is no proxy for CONNECT"))
            return  # `_parse` feeds this head again
        length = fields.get(b"content-length")
        if length is not None and int(length) > self._body_limit:
            self._fail(self._too_large())
        http11 = self._http11 = self._version() == "1.1"
        self._kept = parser.should_keep_alive()
        host = fields.get(b"host")
        if host is None or host != self._host or len(fields) != len(self._headers):
            problem = host_problem(self._headers, http11=http11)
            if problem is not None:
                self._fail(BadRequest(problem))
            self._host = host
        coding = fields.get(b"transfer-encoding")
        # RFC 9112 §6.1: a coding that is not understood, and any coding in an HTTP/1.0 message,
        # leaves the length of the body unknown. That is how requests are smuggled.
        if coding is not None and (coding.strip().lower() != b"chunked" or not http11):
            self._fail(BadRequest("the only Transfer-Encoding known here is HTTP/1.1's chunked"))
        expect = fields.get(b"expect")
        if http11 and expect is not None and expect.strip().lower() == b"100-continue":
            self.phase = Phase.EXPECTING
            self._on_expect()

    def on_chunk_header(self) -> None:
        self._chunk_bytes = 0

    def on_chunk_complete(self) -> None:
        self._chunk_bytes = -1

    def on_body(self, piece: bytes) -> None:
        self.phase, self._pending_bytes = Phase.BODY, 0
        self.part_bytes += len(piece)
        self._hold(len(piece))
        if self._chunk_bytes >= 0:
            self._chunk_bytes += len(piece)
        if self.part_bytes > self._body_limit:
            self._fail(self._too_large())
        self._body.add(piece)

    def on_message_complete(self) -> None:
        if self._upgrade_offered:
            return
        self.phase, self._pending_bytes, self.part_bytes = Phase.IDLE, 0, 0
        # llhttp knows this only now: asked after feed_data, it says no.
        keep_alive = self._parser.should_keep_alive()
        self.requests.append(self._request(self._body.take(), keep_alive=keep_alive))

    def _request(self, body: bytes, *, keep_alive: bool) -> Request:
        """The request whose head llhttp has read last. It owns what was read from now on: an idle
        connection must not hold it."""
        request = Request(
            method=self._parser.get_method(),
            target=origin_form(self._target),
            headers=self._headers,
            fields=self._fields,
            body=body,
            keep_alive=keep_alive,
            http11=self._http11,
        )
        self._headers, self._fields = [], {}
        return request

    def _fail(self, error: GatewayError) -> NoReturn:
        """Stop llhttp, and keep the error: not every callback's error comes out of feed_data."""
        self._error = error
        raise error

    def _version(self) -> str:
        """The version of HTTP in the request line: `1.0` or `1.1`."""
        version: str = self._parser.get_http_version()
        if version == "0.9":  # what llhttp says of a line without a version, too
            self._fail(BadRequest("the request line names no version of HTTP/1"))
        if version not in ("1.0", "1.1"):
            self._fail(VersionNotSupported(f"HTTP/{version} is not spoken here"))
        return version

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body exceeds the limit of {self._body_limit} bytes.")


def _nobody() -> None:
    """Whoever waited for 100 Continue has gone."""

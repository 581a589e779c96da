"""Responses that engines have stored: to be read, deleted or cancelled by their id.

An id says nothing about the backend that has it. Where this process has passed the response on, it
knows; else all backends are asked at the same time, and the one that has it is the one that knows
it. It takes no lease: an engine does no work for it that would be worth counting. Knows no router.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from gateway.errors import (
    ClientGone,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.proxy.answer_homes import AnswerHomes
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.http.headers import (
    NOT_SENT,
    credential_lines,
    error_head,
    reply_head,
    request_lines,
)
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import Request
from gateway.proxy.names import Names
from gateway.proxy.relay import Relay
from gateway.proxy.responses import error_body, error_event
from gateway.proxy.sse import StreamMeter
from gateway.proxy.targets import Targets
from gateway.routing.backend import Backend
from gateway.routing.endpoints import RESPONSES
from gateway.routing.fleet import Fleet

log = logging.getLogger("cuvee")

# With and without the version, as endpoints are known. What is written into a request's first line
# must not hold anything else.
PATH: Final = re.compile(r"(?:/v1)?/responses/([\w.~:-]{1,256})(/cancel|/input_items)?", re.ASCII)
METHODS: Final = {"": ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}
LIMIT_S: Final = 10.0  # to an answer that is no stream, or to the head of one
AT_ONCE: Final = 16  # backends that are asked at the same time
MOST: Final = 128  # backends that are asked in all for one id
# What a backend answers that does not have a response, or not the path.
ELSEWHERE: Final = (404, 405, 501)


def stored(path: str) -> tuple[str, ...]:
    """The methods that a path of a stored response takes; none if it is no such path."""
    found = PATH.fullmatch(path)
    return METHODS[found[2] or ""] if found is not None else ()


class Inquiry:
    """One question to some backends. over: resolved when one has the response, or none has. reply,
    backend: of the one that has it, or that refuses for another reason than that it lacks it.
    fault: why it is not certain that none has it."""

    __slots__ = ("backend", "fault", "left", "over", "reply")

    def __init__(self, left: int) -> None:
        self.over: Promise[None] = Promise()
        self.reply: Reply | None = None
        self.backend: Backend | None = None
        self.fault: GatewayError | None = None
        self.left = left

    def __repr__(self) -> str:
        return f"<Inquiry, {self.left} left>"

    def take(self, reply: Reply, backend: Backend) -> bool:
        """Note a reply; return whether it is the one to pass on, as far as is known. One that is no
        refusal ends the inquiry."""
        if self.over.resolved or reply.status in ELSEWHERE:
            return False
        if self.reply is not None and reply.status >= 400:
            return False
        if self.reply is not None:
            self.reply.close()
        self.reply, self.backend = reply, backend
        return True

    def end(self) -> None:
        """One backend fewer is left to answer."""
        self.left -= 1
        found = self.reply is not None and self.reply.status < 400
        if found or not self.left:
            self.over.resolve(None)


class StoredResponses:
    """Serves the paths below `/v1/responses/`. One object serves all requests of a process."""

    def __init__(
        self, targets: Targets, homes: AnswerHomes, fleet: Fleet, clock: Callable[[], float]
    ) -> None:
        self._targets = targets
        self._homes = homes
        self._fleet = fleet
        self._clock = clock
        self._not_sent = NOT_SENT
        self._idle_s = LIMIT_S

    def __repr__(self) -> str:
        return f"<StoredResponses by {self._homes!r}>"

    def configure(self, names: Names, not_sent: frozenset[bytes], idle_s: float) -> None:
        """Serve by these settings from now on. not_sent: headers that no backend gets. idle_s:
        longest silence inside a stream."""
        self._names, self._not_sent, self._idle_s = names, not_sent, idle_s

    def serve(
        self,
        client: ClientConnection,
        request: Request,
        path: str,
        on_refusal: Callable[[GatewayError], None],
    ) -> None:
        """Serve a request; `client.finish()` is called at its end. on_refusal: called with an error
        that the client gets from the gateway."""
        fiber = Fiber()
        fiber.start(self._handle(client, request, path, on_refusal, fiber))

    async def _handle(
        self,
        client: ClientConnection,
        request: Request,
        path: str,
        on_refusal: Callable[[GatewayError], None],
        fiber: Fiber,
    ) -> None:
        request_id = request.client_id or uuid4().hex.encode()
        client.on_disconnect = fiber.abandon
        try:
            reply, backend = await self._found(request, path, request_id)
            try:
                await self._pass_on(client, reply, backend, request_id, fiber)
            finally:
                reply.close()
        except GatewayError as error:
            on_refusal(error)
            head = b"%bx-request-id: %b\r\n" % (error_head(error), request_id)
            client.respond(head, error_body(error, RESPONSES))
        except ClientGone:
            pass
        except Exception:  # the outermost handler: the client gets an error object all the same
            log.exception("a stored response could not be passed on by an error in the gateway")
            failed = GatewayError("The gateway failed.")
            on_refusal(failed)
            client.respond(error_head(failed), error_body(failed, RESPONSES))
        finally:
            client.finish()

    async def _found(self, request: Request, path: str, request_id: bytes) -> tuple[Reply, Backend]:
        """The reply of the backend that has a response. Raises NotFound, or Unavailable where a
        backend that may have it does not answer."""
        match = PATH.fullmatch(path)
        method = "GET" if request.method == b"HEAD" else request.method.decode("latin-1")
        if match is None:
            raise NotFound(f"Unknown path: {path}")
        response_id, rest = match[1], match[2] or ""
        if method not in METHODS[rest]:
            raise MethodNotAllowed(path, ", ".join(METHODS[rest]))
        query = request.target.partition(b"?")[2].decode("latin-1")
        target = f"{RESPONSES.path}/{response_id}{rest}" + (f"?{query}" if query else "")
        lines = request_lines(request.headers, request_id, request.end_to_end, self._not_sent)
        fault: GatewayError | None = None
        backends = self._candidates(response_id)
        for at in range(0, len(backends), AT_ONCE):
            inquiry = await self._ask(backends[at : at + AT_ONCE], method, target, lines, request)
            reply, backend = inquiry.reply, inquiry.backend
            if reply is not None and backend is not None:
                if reply.status < 400:
                    self._homes.note(response_id, backend)
                return reply, backend
            fault = inquiry.fault or fault
        if fault is not None:
            text = f"Not every backend answers: {fault.message}"
            raise Unavailable(text, retry_after_s=2.0) from fault
        raise NotFound(f"Response with id '{response_id}' not found.", param="response_id")

    def _candidates(self, response_id: str) -> list[Backend]:
        """The backends that may have a response: the one that made it, if that is known, or all
        that are live, one for each URL."""
        home, now_s = self._homes.home(response_id), self._clock()
        able: dict[str, Backend] = {}
        for backend in self._fleet.backends:
            if RESPONSES.name in self._targets.dialect_of(backend.pool).lacks:
                continue
            if backend.name == home:
                return [backend]
            if backend.live(now_s):
                able.setdefault(backend.url, backend)
        return list(able.values())[:MOST]

    async def _ask(
        self,
        backends: Sequence[Backend],
        method: str,
        target: str,
        lines: bytes,
        request: Request,
    ) -> Inquiry:
        """Ask backends at the same time, until one has the response or none has."""
        inquiry = Inquiry(len(backends))
        fibers = [Fiber() for _ in backends]
        late = UpstreamTimeout(f"A backend did not answer within {LIMIT_S:g} s.")

        def end() -> None:
            for fiber in fibers:
                fiber.cancel(late)

        timer = asyncio.get_running_loop().call_later(LIMIT_S, end)
        try:
            for fiber, backend in zip(fibers, backends, strict=True):
                fiber.start(self._ask_one(inquiry, backend, method, target, lines, request))
            await inquiry.over
        except BaseException:  # the client left
            inquiry.over.resolve(None)
            if inquiry.reply is not None:
                inquiry.reply.close()
            raise
        finally:
            timer.cancel()
            end()  # the others are not needed any more
        return inquiry

    async def _ask_one(
        self,
        inquiry: Inquiry,
        backend: Backend,
        method: str,
        target: str,
        lines: bytes,
        request: Request,
    ) -> None:
        reply: Reply | None = None
        taken = False
        try:
            if inquiry.over.resolved:
                return
            sent = self._targets.made(backend, method, target)
            own = lines + credential_lines(request.headers) if sent.forwards else lines
            body = request.body if method == "POST" else b""
            size = b"content-length: %d\r\n" % len(body) if method == "POST" else b""
            head = b"".join((sent.start, own, size, b"\r\n"))
            reply = await sent.connections.send(head, body)
            if not reply.stream:
                await reply.read()
            if reply.status >= 500 and reply.status not in ELSEWHERE:
                raise UpstreamError(f"A backend answered {reply.status}.")
            taken = inquiry.take(reply, backend)
        except (UpstreamError, Unavailable) as error:
            inquiry.fault = error
        except Exception as error:  # a fiber must not raise into the call that resumed it
            log.exception("a backend could not be asked for a stored response")
            inquiry.fault = GatewayError(str(error))
        finally:
            if reply is not None and not taken:
                reply.close()
            inquiry.end()

    async def _pass_on(
        self,
        client: ClientConnection,
        reply: Reply,
        backend: Backend,
        request_id: bytes,
        fiber: Fiber,
    ) -> None:
        """Pass a reply on to the client, by the model's name that clients know."""
        renaming = None if self._names.plain else self._names.own(backend.pool)
        head = reply_head(reply.status, reply.headers, reply.end_to_end)
        head += b"x-request-id: %b\r\n" % request_id
        if not reply.stream:
            body = reply.body
            client.respond(head, body if renaming is None else renaming.answer(body))
            return
        meter = StreamMeter(endpoint=RESPONSES, hide_usage=False)
        relay = Relay(reply, client, self._clock, meter, lambda at_s: None, renaming)
        client.source = reply
        client.start(head, relay.open())
        watch = SilenceWatch(relay, fiber, self._idle_s, self._clock)
        try:
            while not reply.complete:
                if reply.error is not None:
                    raise reply.error
                await reply.next_change()
            relay.close()
        except GatewayError as broken:
            client.write(relay.release() + error_event(broken, RESPONSES))
        finally:
            watch.stop()
        client.end()


class SilenceWatch:
    """Ends a stream that is silent for too long, unless it waits for its client."""

    __slots__ = ("_clock", "_fiber", "_idle_s", "_loop", "_relay", "_timer")

    def __init__(
        self, relay: Relay, fiber: Fiber, idle_s: float, clock: Callable[[], float]
    ) -> None:
        self._relay = relay
        self._fiber = fiber
        self._idle_s = idle_s
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(idle_s, self._look)

    def __repr__(self) -> str:
        return f"<SilenceWatch of {self._idle_s:g} s>"

    def stop(self) -> None:
        """The stream has ended."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._relay.stalled or self._relay.last_s + self._idle_s > self._clock():
            self._timer = self._loop.call_later(self._idle_s, self._look)
        else:
            text = f"The backend was silent for {self._idle_s:g} s."
            self._fiber.cancel(UpstreamTimeout(text))

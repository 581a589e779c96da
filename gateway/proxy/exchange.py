"""One request from its first byte to its last: the handler, in wire order.

Reads the body, estimates, routes, sends, waits for the first byte before it commits to an answer,
streams, releases, observes. Whatever happens, the lease is released once and there is exactly one
Observation. Knows no plan, no price and no other request.
"""

import logging
from collections.abc import Callable
from math import inf
from typing import Final
from uuid import uuid4

from gateway.config.schema import GatewaySection
from gateway.errors import (
    BadRequest,
    ClientGone,
    ConnectFailed,
    GatewayError,
    Saturated,
    StreamBroken,
    Unavailable,
    UpstreamError,
    WouldMissSlo,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.engines import EngineRefusal, refusal, stream_refusal
from gateway.proxy.events import usage_of
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.headers import returned, sent
from gateway.proxy.http.pool import ConnectionPool, ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import Request
from gateway.proxy.queue import Queue
from gateway.proxy.relay import Relay
from gateway.proxy.responses import error_head, outcome_of, stream_head
from gateway.proxy.retry import RetryBudget
from gateway.proxy.sse import StreamMeter, error_event
from gateway.proxy.timeouts import Timeouts
from gateway.routing.backend import Lease
from gateway.routing.body import read_body, usage_asked
from gateway.routing.estimate import Estimate, PredictedLength
from gateway.routing.lengths import OutputLengths
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Observation, Outcome
from gateway.routing.router import CLASS_HEADER, Router
from gateway.routing.tokens import BytesPerToken
from planner.model.buckets import DEFAULT

log = logging.getLogger("cuvee")

PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
OURS, OBJECTIVE = CLASS_HEADER.encode(), b"x-llm-d-inference-objective"  # name an SLO class
ADMISSIONS: Final = 8  # refusals for lack of room that one request may collect before it is told
BROKEN: Final = 1  # retries after a backend broke: it may be the request that breaks them
ONE_TOKEN: Final = PredictedLength(median=1, p90=1)  # an embedding has no output to decode
OK: Final = Outcome.OK
LONGEST_ID: Final = 256  # of a request id that a client may give


class Exchange:
    """The data path. One object serves all requests; what belongs to one request is a Watch."""

    def __init__(
        self,
        *,
        router: Router,
        tokens: BytesPerToken,
        lengths: OutputLengths,
        connection_pools: ConnectionPools,
        settings: GatewaySection,
        arrived: Callable[[int], None],
        observe: Callable[[Observation], None],
        clock: Callable[[], float],
    ) -> None:
        """arrived: told the bucket of every request once. observe: told how each ended."""
        self._router = router
        self._tokens = tokens
        self._lengths = lengths
        self._connection_pools = connection_pools
        # What every request looks up: attributes of what is not compiled cost 110 instructions.
        self._first_byte_s, self._unary_s = settings.first_byte_timeout_s, settings.unary_timeout_s
        self._idle_s, self._retries = settings.idle_timeout_s, settings.retries
        self._include_usage = settings.include_usage
        self._arrived = arrived
        self._observe = observe
        self._clock = clock
        self._budget = RetryBudget()
        self._targets: dict[tuple[str, str], tuple[ConnectionPool, bytes]] = {}
        self._models = list(dict.fromkeys(c.model for c in router.table.buckets.classes))
        self._run, self._number = uuid4().hex[:16].encode(), 0
        self.timeouts = Timeouts(settings)
        self.queue = Queue(limit=settings.queue_requests, timeout_s=settings.queue_timeout_s)

    def serve(self, client: ClientConnection, request: Request, route: str) -> None:
        """Serves one request; `client.done()` is called when it is over."""
        fiber = Fiber()
        fiber.start(self.handle(client, request, route, fiber))

    async def handle(
        self, client: ClientConnection, request: Request, route: str, fiber: Fiber
    ) -> None:
        """The request, from its arrival to its end."""
        arrival_s = self._clock()
        request_id = request.fields.get(b"x-request-id")
        if not request_id or len(request_id) > LONGEST_ID:
            self._number += 1
            request_id = b"%b-%d" % (self._run, self._number)
        active: ActiveRequest | None = None
        try:
            llm_request = read_body(request.body, route)
            active = self._activate(
                llm_request,
                request,
                client,
                request_id=request_id,
                arrival_s=arrival_s,
                fiber=fiber,
            )
            self.timeouts.begin(active)
            client.left = active.left
            self._arrived(active.bucket)
            self._budget.earn()
            lines = sent(request.headers, request_id, request.passing)
            reply, begun = await self._begin(client, active, lines, request.body)
            active.ping_s = inf
            try:
                if isinstance(begun, Relay):
                    await self._stream(client, active, reply, begun)
                else:
                    self._whole(client, active, reply, begun)
            finally:
                reply.close()
        except GatewayError as error:
            self._refuse(client, active, request_id, error)
        except ClientGone:
            if active is not None:
                active.ended(Outcome.ABANDONED, 499)
        except Exception:  # the edge of the data path: whatever it was, the client gets an object
            log.exception("a request failed for a reason nobody foresaw")
            self._refuse(client, active, request_id, GatewayError("The gateway failed."))
        finally:
            try:
                if active is not None:
                    self._over(active)
            finally:
                client.done()

    def _activate(
        self,
        llm_request: LlmRequest,
        request: Request,
        client: ClientConnection,
        *,
        request_id: bytes,
        arrival_s: float,
        fiber: Fiber,
    ) -> ActiveRequest:
        """What the router will believe of the request. Raises BadRequest, or one of its kinds."""
        model = llm_request.model
        if model is None:
            if len(self._models) > 1:
                raise BadRequest("you must provide a model parameter", param="model")
            model = self._models[0]
        slo_class = self._slo_class(request, model)
        promise = self._router.slo_class(model, slo_class)
        key = request.fields.get(b"authorization", b"").decode("latin-1")
        estimate = self.estimate(llm_request, model, key, slo_class)
        return ActiveRequest(
            arrival_s=arrival_s,
            request_id=request_id,
            llm_request=llm_request,
            estimate=estimate,
            key=key,
            bucket=self._router.cell(promise, estimate.input_tokens, estimate.output_tokens),
            fiber=fiber,
            client=client,
        )

    def _slo_class(self, request: Request, model: str) -> str:
        """The class that a request names. Ours is taken at its word; llm-d's header may mean
        something else and counts only where it is the name of a class."""
        said = request.fields.get(OURS)
        if said is not None:
            return said.decode("latin-1")
        said = request.fields.get(OBJECTIVE)
        if said is None:
            return DEFAULT
        name = said.decode("latin-1")
        return name if name in self._router.classes(model) else DEFAULT

    def estimate(
        self, llm_request: LlmRequest, model: str, key: str, slo_class: str = DEFAULT
    ) -> Estimate:
        """A request as believed at arrival: tokens from bytes, output from history."""
        inputs = llm_request.prompt_tokens
        if inputs is None:
            inputs = self._tokens.estimate(model, llm_request.route, llm_request.prompt_bytes)
        length = ONE_TOKEN
        if llm_request.route != "embeddings":
            length = self._lengths.predict(
                model, key, llm_request.route, inputs, llm_request.max_tokens
            )
        return Estimate(
            model=model,
            input_tokens=inputs,
            output_tokens=length.median,
            output_p90=length.p90,
            slo_class=slo_class,
        )

    async def _begin(
        self, client: ClientConnection, active: ActiveRequest, lines: bytes, body: bytes
    ) -> tuple[Reply, Relay | bytes]:
        """Routes and sends until a backend has begun to answer, within the retry budget.

        Nothing has reached the client yet, so a failure here may be repeated on another backend.
        """
        tried: list[str] = []
        broken = refused = 0
        failure: UpstreamError | None = None
        deadline_s = self.queue.deadline(active.arrival_s)
        while True:
            lease = active.lease = await self._lease(
                active, tried, failure, deadline_s, refused > 0
            )
            try:
                begun = await self._attempt(client, active, lease, lines, body)
            except UpstreamError as error:
                self._failed(lease, error)
                lease.release()
                active.retries += 1
                if isinstance(error, EngineRefusal) and error.admission:
                    refused += 1
                    if refused > ADMISSIONS:
                        raise
                    continue
                tried.append(lease.backend.name)
                broken += not isinstance(error, ConnectFailed)
                final = isinstance(error, EngineRefusal) and not error.retriable
                if final or broken > BROKEN or len(tried) > self._retries:
                    raise
                if not self._budget.spend():
                    raise
                failure = error
            else:
                lease.backend.succeeded()
                return begun

    async def _lease(
        self,
        active: ActiveRequest,
        tried: list[str],
        failure: UpstreamError | None,
        deadline_s: float,
        again: bool,
    ) -> Lease:
        """Routes, or waits in the queue: a moment while none keeps the SLO, long while all is full.

        failure: of an earlier attempt; with nowhere else to go it is the answer. again: whether the
        request has had its turn before, so that it waits at the head.
        """
        patient = failure is None and not again
        held_until_s: float | None = None
        while True:
            now_s = self._clock()
            patient = patient and (held_until_s is None or now_s < held_until_s)
            try:
                lease = self._router.route(
                    active.estimate,
                    bucket=active.bucket,
                    now_s=now_s,
                    exclude=tried,
                    patient=patient,
                )
            except WouldMissSlo:
                if held_until_s is None:
                    held_until_s = min(deadline_s, now_s + self._router.hold_s(active.bucket))
                again = patient = await self.queue.hold(until_s=held_until_s, again=again)
                continue
            except (Unavailable, Saturated) as error:
                if failure is not None:
                    raise failure from error
                if isinstance(error, Unavailable):
                    raise
            else:
                if again:
                    self.queue.wake()  # there was room for one: perhaps for the next one too
                return lease
            await self.queue.wait(deadline_s=deadline_s, again=again)
            again = True

    async def _attempt(
        self,
        client: ClientConnection,
        active: ActiveRequest,
        lease: Lease,
        lines: bytes,
        body: bytes,
    ) -> tuple[Reply, Relay | bytes]:
        """One backend's answer up to its first event, or its whole body if it does not stream."""
        llm_request = active.llm_request
        limit_s = self._first_byte_s if llm_request.stream else self._unary_s
        active.waiting, active.due_s = True, self._clock() + limit_s
        connection_pool, prefix = self._target(lease.backend.url, llm_request.route)
        asked = self._include_usage and llm_request.stream and llm_request.bare
        spliced = usage_asked(body) if asked else None
        reply: Reply | None = None
        try:
            body = spliced or body
            head = b"".join((prefix, lines, b"content-length: %d\r\n\r\n" % len(body)))
            reply = await self._connection_pools.send(connection_pool, head, body)
            if reply.status >= 400:
                raise refusal(reply.status, await reply.read())
            if not reply.stream:
                return reply, reply.body if reply.complete else await reply.read()
            relay = Relay(
                reply,
                client,
                self._clock,
                StreamMeter(hide_usage=spliced is not None),
                active.first,
            )
            await self._first(active, reply, relay.meter)
            return reply, relay
        except BaseException:
            if reply is not None:
                reply.close()
            raise
        finally:
            active.waiting, active.due_s = False, inf

    def _target(self, url: str, route: str) -> tuple[ConnectionPool, bytes]:
        found = self._targets.get((url, route))
        if found is None:
            connection_pool = self._connection_pools.pool(url)
            found = self._targets[url, route] = (
                connection_pool,
                connection_pool.prefix("POST", PATHS[route]),
            )
        return found

    async def _first(self, active: ActiveRequest, reply: Reply, meter: StreamMeter) -> None:
        """The stream up to its first event. An error event there is an error reply in disguise."""
        while meter.last_at_s is None:
            if reply.error is not None:
                raise reply.error
            if reply.complete:
                raise UpstreamError("The backend closed the stream before its first event.")
            await reply.change()
        opening = meter.opening
        if opening is not None and opening.failure is not None:
            raise stream_refusal(opening.failure)

    def _whole(
        self, client: ClientConnection, active: ActiveRequest, reply: Reply, body: bytes
    ) -> None:
        """A reply that does not stream: passed on as it came, its usage noted."""
        active.usage(usage_of(body))
        active.ended(OK, reply.status)
        if active.committed:  # the engine does not stream, and the client was told that we do
            client.write(b"data: " + b"".join(body.splitlines()) + b"\n\ndata: [DONE]\n\n")
            client.end()
        else:
            head = returned(reply.status, reply.headers, reply.passing)
            client.respond(head + active.receipt(), body)

    async def _stream(
        self, client: ClientConnection, active: ActiveRequest, reply: Reply, relay: Relay
    ) -> None:
        """Passes events on as they come. A stream that breaks ends in an error event, never
        cleanly: clients take a clean end without `[DONE]` for a whole answer."""
        meter = relay.meter
        client.source, active.relay = reply, relay
        if client.stalled:
            reply.pause()
        if active.committed:
            client.write(relay.open())
        else:
            client.start(stream_head(reply, active), relay.open())
            active.committed = True
        active.due_s = self._clock() + self._idle_s
        try:
            while not reply.complete:
                if reply.error is not None:
                    raise reply.error
                await reply.change()
            whole, error = meter.finish()
            if not whole and error is None:
                raise StreamBroken("The backend's stream ended too early.")
            if error is not None and active.lease is not None:
                self._failed(active.lease, stream_refusal(error))
            active.ended(Outcome.OK if error is None else Outcome.FAILED, reply.status)
        except UpstreamError as broken:
            if active.lease is not None:
                self._failed(active.lease, broken)
            active.ended(Outcome.FAILED, broken.status)
            client.write(error_event(broken.body()))
        finally:
            active.due_s = inf
            active.usage(meter.usage)
            active.output_tokens = meter.output_tokens
            active.tpot_s = meter.tpot_s
        client.end()

    def _refuse(
        self,
        client: ClientConnection,
        active: ActiveRequest | None,
        request_id: bytes,
        error: GatewayError,
    ) -> None:
        """Tells the client, inside the stream if it has begun."""
        receipt = b"x-request-id: %b\r\n" % request_id
        if active is not None:
            active.ended(outcome_of(error), error.status)
            receipt = active.receipt()
        if active is None or not active.committed:
            client.respond(error_head(error) + receipt, error.body())
        else:
            client.write(error_event(error.body()))
            client.end()

    def _over(self, active: ActiveRequest) -> None:
        """Gives everything back and tells how it was."""
        self.timeouts.end(active)
        if active.lease is not None:
            active.lease.release()
            self.queue.wake()
        self._observe(active.observation(self._clock()))

    def _failed(self, lease: Lease, error: UpstreamError) -> None:
        """Tells the backend: full, broken, or nothing if it was the client's fault."""
        if isinstance(error, EngineRefusal) and error.admission:
            lease.backend.refused(self._clock())
        elif not isinstance(error, EngineRefusal) or error.status >= 500:
            lease.backend.failed(self._clock(), refused=isinstance(error, ConnectFailed))

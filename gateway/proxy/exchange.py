"""The handler of one request, in wire order.

Reads the body, identifies the caller, estimates the size, gets an answer from a backend, passes it
on, releases the lease, observes. Whatever fails, the lease is released once and there is exactly
one Observation. Knows no plan, no price and no other request.
"""

import logging
from collections.abc import Callable, Mapping
from math import inf
from typing import Final
from uuid import uuid4

from gateway.access.charge import Charge
from gateway.access.gate import Gate
from gateway.access.key import AccessKey
from gateway.config.schema import GatewaySection
from gateway.config.upstream import Upstream
from gateway.errors import (
    ClientGone,
    GatewayError,
    ModelNotFound,
    StreamBroken,
    UpstreamError,
)
from gateway.proxy.active import LEFT, ActiveRequest
from gateway.proxy.arrival import LARGE, collect, decode_whole, read_in_turns
from gateway.proxy.charges import charge_use
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.events import answer_id_of, usage_of
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.content_coding import CODING
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.headers import error_head, not_sent, reply_head, request_lines
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import Request
from gateway.proxy.list_split import ListSplitter
from gateway.proxy.names import Names, model_of
from gateway.proxy.receipt import Receipts, unrouted
from gateway.proxy.relay import Relay
from gateway.proxy.responses import error_body, error_event, outcome_of, stream_head
from gateway.proxy.slo_header import default_class, named_class
from gateway.proxy.timeouts import Timeouts
from gateway.proxy.token_counter import TokenCounter
from gateway.proxy.trace_sampler import trace_sampler
from gateway.proxy.trails import Trails
from gateway.routing.body import read_body
from gateway.routing.class_names import LEFT_OVER
from gateway.routing.endpoints import RESPONSES, Endpoint
from gateway.routing.estimator import Estimator
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import NO_BUCKET, Observation, Outcome
from gateway.routing.router import Router

log = logging.getLogger("cuvee")

OK: Final = Outcome.OK


class Exchange:
    """The data path. One object serves all requests; the state of each is an `ActiveRequest`."""

    def __init__(
        self,
        *,
        router: Router,
        gate: Gate,
        estimator: Estimator,
        dispatcher: Dispatcher,
        counter: TokenCounter,
        names: Names,
        upstreams: Mapping[str, Upstream],
        settings: GatewaySection,
        on_arrival: Callable[[int], None],
        observe: Callable[[Observation], None],
        on_refusal: Callable[[GatewayError], None],
        clock: Callable[[], float],
    ) -> None:
        """gate: who may pass. on_arrival: called once with the bucket of every accepted request.
        observe: called once with the Observation of every accepted request. on_refusal: called with
        the error of every other request."""
        self._router = router
        self._estimator = estimator
        self._dispatcher = dispatcher
        self._counter = counter
        self._on_arrival = on_arrival
        self._observe = observe
        self._on_refusal = on_refusal
        self._clock = clock
        self._gate, self._callers = gate, gate.callers
        self._receipts = Receipts(full=settings.receipt == "full")
        self._run, self._number = uuid4().hex[:16].encode(), 0
        self.timeouts = Timeouts(settings, router.fleet.may_rest, router.fleet.elsewhere)
        self._splitter = ListSplitter(
            router, dispatcher, self.timeouts, self._admit, on_arrival, self._conclude, clock
        )
        self._trails = Trails(router.affinity)
        self.configure(settings, names, upstreams)

    def configure(
        self, settings: GatewaySection, names: Names, upstreams: Mapping[str, Upstream]
    ) -> None:
        """Serve by these settings and by the router's present table, whose classes and sizes may be
        others, from now on.

        Requests under way get the number that their bucket has now. One whose model is gone may
        finish where it is; if it has not been sent to a backend, it ends as an unknown model.
        """
        self._not_sent = not_sent(settings.withheld_headers)
        self._tracing = trace_sampler(settings.otel, self._not_sent, uuid4().int)
        self._body_bytes = settings.max_body_bytes
        classes = self._router.table.buckets.classes
        self._models = list(dict.fromkeys(c.model for c in classes))
        self._names = names
        self._trails.configure(settings.session_header, names, upstreams)
        self.timeouts.configure(settings, upstreams)
        for active in self.timeouts.requests:
            try:
                active.bucket = self._router.rebucket(active.estimate)
            except ModelNotFound as error:
                active.bucket = NO_BUCKET
                if active.lease is None:
                    active.fiber.cancel(error)

    def serve(self, client: ClientConnection, request: Request, endpoint: Endpoint) -> None:
        """Start to serve a request; `client.finish()` is called at its end."""
        fiber = Fiber()
        fiber.start(self.handle(client, request, endpoint, fiber))

    async def handle(
        self, client: ClientConnection, request: Request, endpoint: Endpoint, fiber: Fiber
    ) -> None:
        """Serve a request from its arrival to its end."""
        arrival_s = self._clock()
        request_id = request.client_id
        if request_id is None:
            self._number += 1
            request_id = b"%b-%d" % (self._run, self._number)
        active: ActiveRequest | None = None
        charge: Charge | None = None
        key: AccessKey | None = None
        try:
            if self._callers.keyed:  # before any work is done for nobody
                key = self._callers.identify(request.credential).key
            if request.upload is not None:
                await collect(client, request, fiber)
            if CODING in request.fields:
                decode_whole(client, request, self._body_bytes)
            if len(request.body) > LARGE and not endpoint.form:
                llm_request = await read_in_turns(client, request, endpoint, fiber)
            else:
                llm_request = read_body(request.body, endpoint)
            if not self._counter.idle:
                await self._count(client, fiber, llm_request, request.body)
            admitted = self._admit(client, request, llm_request, fiber, request_id, arrival_s)
            if key is not None:  # what is over a limit is no demand, and not observed
                charge = self._gate.enter(key, admitted.estimate.tokens)
            active, admitted.charge, admitted.upload = admitted, charge, request.upload
            lines = request_lines(request.headers, request_id, request.end_to_end, self._not_sent)
            if self._tracing is not None:
                lines = self._tracing.begin(active, request, lines)
            if active.estimate.model in self._names.split:
                width, whole, active = self._splitter.width(active), active, None
                if width and await self._splitter.serve(client, request, whole, lines, width):
                    return
                active = whole
            self.timeouts.begin(active)
            client.on_disconnect = active.abandon
            if active.estimate.slo_class != LEFT_OVER:  # nothing is planned for it
                self._on_arrival(active.bucket)
            self._dispatcher.earn()
            reply, begun = await self._dispatcher.begin(
                client, active, lines, request.body, request.headers
            )
            active.ping_s = inf
            try:
                if isinstance(begun, Relay):
                    await self._stream(client, active, reply, begun)
                else:
                    self._whole(client, active, reply, begun)
            finally:
                reply.close()
        except GatewayError as error:
            self._refuse(client, active, request, endpoint, request_id, error)
        except ClientGone:
            if active is not None:
                active.finish(Outcome.ABANDONED, LEFT)
        except Exception:  # the outermost handler: after a bug too the client gets an error object
            log.exception("a request failed by an error in the gateway")
            failed = GatewayError("The gateway failed.")
            self._refuse(client, active, request, endpoint, request_id, failed)
        finally:
            try:
                if active is not None:
                    self._conclude(active)
            finally:
                if charge is not None:
                    self._gate.leave(charge)
                client.finish()

    async def _count(
        self, client: ClientConnection, fiber: Fiber, llm_request: LlmRequest, body: bytes
    ) -> None:
        """Have the tokens of a prompt counted, where its model has a tokenizer."""
        client.on_disconnect = fiber.abandon
        model = model_of(llm_request, self._models, self._names)
        counted = await self._counter.count(model, llm_request, body)
        llm_request.counted = counted

    def _admit(
        self,
        client: ClientConnection,
        request: Request,
        llm_request: LlmRequest,
        fiber: Fiber,
        request_id: bytes,
        arrival_s: float,
    ) -> ActiveRequest:
        """Estimate the size of a request. Raises BadRequest or a subclass of it."""
        model = model_of(llm_request, self._models, self._names)
        caller = self._callers.identify(request.credential)
        slo_class = named_class(request, self._router, model)
        if slo_class is None:
            slo_class = default_class(caller.slo_class, self._router, model)
        if caller.key is not None:
            caller.key.require(model, llm_request.model, slo_class)
        class_index = self._router.class_index(model, slo_class)
        estimate = self._estimator.estimate(
            llm_request, model=model, caller=caller.id, slo_class=slo_class
        )
        if not self._names.plain:
            estimate.only = self._names.able(model, llm_request, request.body)
        estimate.trail = self._trails.of(request, llm_request, model, caller.id)
        bucket = self._router.bucket_of(class_index, estimate.input_tokens, estimate.output_tokens)
        active = ActiveRequest(
            arrival_s=arrival_s,
            request_id=request_id,
            llm_request=llm_request,
            estimate=estimate,
            caller=caller.id,
            bucket=bucket,
            fiber=fiber,
            client=client,
            receipts=self._receipts,
            room=self._dispatcher.room,
        )
        lacking = self._router.fleet.lacking
        if lacking and llm_request.model is not None:
            active.exclude = lacking.get(llm_request.model, ())
        if llm_request.endpoint.answer:  # every engine has the others
            self._dispatcher.restrict(active)
        return active

    def _whole(
        self, client: ClientConnection, active: ActiveRequest, reply: Reply, body: bytes
    ) -> None:
        """Pass on a reply that does not stream, unchanged, and note its usage."""
        active.add_usage(usage_of(body))
        if active.llm_request.endpoint is RESPONSES:
            self._dispatcher.note_answer(active, answer_id_of(body))
        active.finish(OK, reply.status)
        head = reply_head(reply.status, reply.headers, reply.end_to_end)
        client.respond(head + active.receipt(), body)

    async def _stream(
        self, client: ClientConnection, active: ActiveRequest, reply: Reply, relay: Relay
    ) -> None:
        """Pass on a stream. One that breaks ends in an error event, never cleanly: clients take a
        clean end, even without `[DONE]`, for a complete answer."""
        meter = relay.meter
        client.source, active.relay = reply, relay
        if client.stalled:
            reply.pause()
        if active.committed:
            client.write(relay.open())
        else:
            client.start(stream_head(reply, active), relay.open())
            active.committed = True
        self.timeouts.follow(active, self._clock())
        lease = active.lease
        assert lease is not None
        try:
            try:
                while not reply.complete:
                    if reply.error is not None:
                        raise reply.error
                    await reply.next_change()
            except ClientGone:
                # SDKs close at the last event, often before the body's end: they have the whole.
                if not meter.over:
                    raise
            relay.close()
            whole, error = meter.finish()
            if not whole and error is None:
                raise StreamBroken("The backend's stream ended too early.")
            if error is None:
                lease.backend.breaker.succeeded(self._clock())
            else:
                self._dispatcher.blame_stream(lease, error, active.caller)
            if error is None:
                active.finish(OK, reply.status)
            else:
                active.finish(Outcome.FAILED, reply.status, UpstreamError.code)
        except UpstreamError as broken:
            self._dispatcher.judge.blame(lease, broken, active.caller)
            active.finish(Outcome.FAILED, broken.status, broken.code)
            client.write(relay.release() + error_event(broken, active.llm_request.endpoint))
        finally:
            self.timeouts.unfollow(active)
            active.add_usage(meter.usage)
            active.add_pace(meter.output_tokens, meter.tpot_s)
            self._dispatcher.note_answer(active, meter.answer_id)
        client.end()

    def _refuse(
        self,
        client: ClientConnection,
        active: ActiveRequest | None,
        request: Request,
        endpoint: Endpoint,
        request_id: bytes,
        error: GatewayError,
    ) -> None:
        """Answer with an error, as an event if a stream has begun."""
        receipt = unrouted(request_id)
        if active is not None:
            active.finish(outcome_of(error), error.status, error.reason)
            active.add_refusal(error)
            receipt = active.receipt()
        else:
            self._on_refusal(error)
            receipt += self._gate.lines(request.credential)
        if active is None or not active.committed:
            client.respond(error_head(error) + receipt, error_body(error, endpoint))
        else:
            rest = b"" if active.relay is None else active.relay.release()
            client.write(rest + error_event(error, endpoint))
            client.end()

    def _conclude(self, active: ActiveRequest) -> None:
        """Release the lease, and make the Observation."""
        self.timeouts.end(active)
        if active.charge is not None:
            charge_use(active.charge, active)
        if active.lease is not None:
            active.lease.release()
            self._dispatcher.room(self._clock())
        if active.estimate.trail is not None:
            self._trails.learn(active)
        self._observe(active.observation(self._clock()))

"""One request from its first byte to its last: the handler, in wire order.

Reads the body, estimates, routes, sends, waits for the first byte before it commits to an answer,
streams, releases, observes. Whatever happens, the lease is released once and there is exactly one
Observation. Knows no plan, no price and no other request.
"""

import asyncio
from collections.abc import Callable
from uuid import uuid4

from aiohttp import web

from gateway.errors import (
    BadRequest,
    ConnectFailed,
    GatewayError,
    Held,
    Saturated,
    StreamBroken,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.proxy.answers import body_of, error_response, outcome_of, set_headers, whole
from gateway.proxy.queue import Queue
from gateway.proxy.refusal import Refused, refusal, stream_refusal
from gateway.proxy.retry import Budget
from gateway.proxy.sse import Meter, error_event
from gateway.proxy.upstream import Reply, Upstream, request_headers
from gateway.proxy.watch import Watch
from gateway.routing.ask import Ask, read
from gateway.routing.backend import Backend, Lease
from gateway.routing.lengths import Length, Lengths
from gateway.routing.observation import Observation, Outcome
from gateway.routing.router import CLASS_HEADER, Estimate, Router
from gateway.routing.tokens import Tokens
from gateway.sections import GatewaySection
from planner.model import DEFAULT

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
OBJECTIVE_HEADER = "x-llm-d-inference-objective"
ADMISSIONS = 8  # refusals for lack of room that one request may collect before it is told
BROKEN = 1  # retries after a backend broke with the request: it may be the request that breaks them
ONE_TOKEN = Length(median=1, p90=1)  # an embedding has no output to decode


class Exchange:
    """The data path. One object serves all requests; what belongs to one request is a Watch."""

    def __init__(
        self,
        *,
        router: Router,
        tokens: Tokens,
        lengths: Lengths,
        upstream: Upstream,
        settings: GatewaySection,
        arrived: Callable[[int, float], None],
        observe: Callable[[Observation], None],
        clock: Callable[[], float],
    ) -> None:
        """arrived: told (bucket, time) of every request once. observe: told how each ended."""
        self._router = router
        self._tokens = tokens
        self._lengths = lengths
        self._upstream = upstream
        self._settings = settings
        self._arrived = arrived
        self._observe = observe
        self._clock = clock
        self._budget = Budget()
        self._waiting: dict[str, set[asyncio.Timeout]] = {}
        self._models = list(dict.fromkeys(c.model for c in router.table.space.classes))
        self.queue = Queue(limit=settings.queue_requests, timeout_s=settings.queue_timeout_s)

    async def handle(self, request: web.BaseRequest, route: str) -> web.StreamResponse:
        """Serves one request. Raises GatewayError only for what never became a request."""
        arrival_s = self._clock()
        request_id = request.headers.get("x-request-id") or uuid4().hex
        body = await body_of(request)
        ask = read(body, route)
        watch = self._watch(ask, request, request_id, arrival_s)
        self._arrived(watch.bucket, arrival_s)
        self._budget.earn()
        headers = request_headers(
            request.headers.items(),
            connection=request.headers.get("Connection", ""),
            request_id=request_id,
        )
        try:
            reply, meter, first = await self._begin(watch, headers, body)
            try:
                if meter is None:
                    return await whole(request, watch, reply, first)
                return await self._stream(request, watch, reply, meter, first)
            finally:
                reply.close()
        except GatewayError as error:
            watch.ended(outcome_of(error), error.status)
            return error_response(error, watch.receipt())
        except ConnectionResetError:
            watch.ended(Outcome.ABANDONED, 499)
            return web.Response(status=499)  # nobody reads it
        except asyncio.CancelledError:
            watch.ended(Outcome.ABANDONED, 499)
            raise
        finally:
            if watch.lease is not None:
                watch.lease.release()
                self.queue.wake()
            self._observe(watch.observation(self._clock()))

    def _watch(
        self, ask: Ask, request: web.BaseRequest, request_id: str, arrival_s: float
    ) -> Watch:
        """What the router will believe of the request. Raises BadRequest, or one of its kinds."""
        model = ask.model
        if model is None:
            if len(self._models) > 1:
                raise BadRequest("you must provide a model parameter", param="model")
            model = self._models[0]
        slo_class = self._slo_class(request, model)
        self._router.slo_class(model, slo_class)
        key = request.headers.get("Authorization", "")
        estimate = self.estimate(ask, model, key, slo_class)
        return Watch(
            arrival_s=arrival_s,
            request_id=request_id,
            ask=ask,
            estimate=estimate,
            key=key,
            bucket=self._router.bucket(estimate),
        )

    def _slo_class(self, request: web.BaseRequest, model: str) -> str:
        """The class that a request names. Ours is taken at its word; llm-d's header may mean
        something else and counts only where it is the name of a class."""
        named = request.headers.get(CLASS_HEADER)
        if named is not None:
            return named
        named = request.headers.get(OBJECTIVE_HEADER)
        return named if named in self._router.classes(model) else DEFAULT

    def estimate(self, ask: Ask, model: str, key: str, slo_class: str = DEFAULT) -> Estimate:
        """A request as believed at arrival: tokens from bytes, output from history."""
        inputs = ask.prompt_tokens
        if inputs is None:
            inputs = self._tokens.estimate(model, ask.route, ask.prompt_bytes)
        length = ONE_TOKEN
        if ask.route != "embeddings":
            length = self._lengths.predict(model, key, ask.route, inputs, ask.max_tokens)
        return Estimate(
            model=model,
            input_tokens=inputs,
            output_tokens=length.median,
            output_p90=length.p90,
            slo_class=slo_class,
        )

    async def _begin(
        self, watch: Watch, headers: dict[str, str], body: bytes
    ) -> tuple[Reply, Meter | None, bytes]:
        """Routes and sends until a backend has begun to answer, within the retry budget.

        Nothing has reached the client yet, so a failure here may be repeated on another backend.
        """
        tried: list[str] = []
        broken = refused = 0
        failure: UpstreamError | None = None
        deadline_s = self.queue.deadline(self._clock())
        while True:
            lease = watch.lease = await self._lease(watch, tried, failure, deadline_s, refused > 0)
            try:
                begun = await self._attempt(watch, lease, headers, body)
            except UpstreamError as error:
                self._failed(lease, error)
                lease.release()
                watch.retries += 1
                if isinstance(error, Refused) and error.admission:
                    refused += 1
                    if refused > ADMISSIONS:
                        raise
                    continue
                tried.append(lease.backend.name)
                broken += not isinstance(error, ConnectFailed)
                final = isinstance(error, Refused) and not error.retriable
                if final or broken > BROKEN or len(tried) > self._settings.retries:
                    raise
                if not self._budget.spend():
                    raise
                failure = error
            else:
                lease.backend.succeeded()
                return begun

    async def _lease(
        self,
        watch: Watch,
        tried: list[str],
        failure: UpstreamError | None,
        deadline_s: float,
        again: bool,
    ) -> Lease:
        """Routes, or waits in the queue: a moment while none keeps the SLO, long while all is full.

        failure: of an earlier attempt; with nowhere else to go it is the answer. again: whether the
        request has had its turn before, so that it waits at the head.
        """
        now_s = self._clock()
        held_until_s = min(deadline_s, now_s + self._router.hold_s(watch.estimate))
        patient = failure is None and not again
        while True:
            patient = patient and self._clock() < held_until_s
            try:
                lease = self._router.route(
                    watch.estimate, now_s=self._clock(), exclude=tried, patient=patient
                )
            except Held:
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
        self, watch: Watch, lease: Lease, headers: dict[str, str], body: bytes
    ) -> tuple[Reply, Meter | None, bytes]:
        """One backend's answer up to its first event, or whole if it does not stream."""
        settings = self._settings
        limit_s = settings.first_byte_timeout_s if watch.ask.stream else settings.unary_timeout_s
        reply: Reply | None = None
        waiting = self._waiting.setdefault(lease.backend.name, set())
        limit = asyncio.timeout(limit_s)
        waiting.add(limit)
        try:
            async with limit:
                url = lease.backend.url + PATHS[watch.ask.route]
                reply = await self._upstream.send(url, headers, body)
                if reply.status >= 400:
                    raise refusal(reply.status, await reply.read())
                if not reply.stream:
                    return reply, None, await reply.read()
                meter = Meter()
                return reply, meter, await self._first(watch, reply, meter)
        except TimeoutError:
            if reply is not None:
                reply.close()
            raise UpstreamTimeout("The backend did not answer in time.") from None
        except BaseException:
            if reply is not None:
                reply.close()
            raise
        finally:
            waiting.discard(limit)

    def lost(self, backend: Backend) -> None:
        """A backend is gone: what waits for its first byte gives up on it and tries elsewhere.

        vLLM on SIGTERM leaves requests open without a byte until the client gives up.
        """
        for limit in self._waiting.pop(backend.name, ()):
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

    async def _first(self, watch: Watch, reply: Reply, meter: Meter) -> bytes:
        """The stream up to its first event. An error event there is an error reply in disguise."""
        ready = b""
        while True:
            chunk = await reply.chunk()
            if not chunk:
                raise UpstreamError("The backend closed the stream before its first event.")
            ready += meter.feed(chunk, self._clock())
            if meter.last_at_s is not None:
                break
        event = meter.first_event()
        if event is not None and event.failure is not None:
            raise stream_refusal(event.failure)
        self._prefilled(watch, meter)
        return ready

    def _prefilled(self, watch: Watch, meter: Meter) -> None:
        if watch.first_at_s is None and meter.first_at_s is not None:
            watch.first_at_s = meter.first_at_s
            if watch.lease is not None:
                watch.lease.prefilled()

    async def _stream(
        self, request: web.BaseRequest, watch: Watch, reply: Reply, meter: Meter, first: bytes
    ) -> web.StreamResponse:
        """Passes events on as they come. A stream that breaks ends in an error event, never
        cleanly: clients take a clean end without `[DONE]` for a whole answer."""
        response = web.StreamResponse(status=reply.status)
        set_headers(response, reply.headers + watch.receipt())
        response.headers.setdefault("Cache-Control", "no-cache")
        response.headers.setdefault("X-Accel-Buffering", "no")
        await response.prepare(request)
        await response.write(first)
        try:
            await self._relay(response, watch, reply, meter)
            whole, error = meter.finish()
            if not whole and error is None:
                raise StreamBroken("The backend's stream ended too early.")
            if error is not None and watch.lease is not None:
                self._failed(watch.lease, stream_refusal(error))
            watch.ended(Outcome.OK if error is None else Outcome.FAILED, reply.status)
        except UpstreamError as broken:
            if watch.lease is not None:
                self._failed(watch.lease, broken)
            watch.ended(Outcome.FAILED, broken.status)
            await response.write(error_event(broken.body()))
        finally:
            watch.usage(meter.usage)
            watch.output_tokens = meter.output_tokens
            watch.tpot_s = meter.tpot_s
        await response.write_eof()
        return response

    async def _relay(
        self, response: web.StreamResponse, watch: Watch, reply: Reply, meter: Meter
    ) -> None:
        """The loop that runs once per chunk. The idle limit counts the backend's silence only."""
        idle_s, clock = self._settings.idle_timeout_s, self._clock
        try:
            async with asyncio.timeout(idle_s) as idle:
                while chunk := await reply.chunk():
                    ready = meter.feed(chunk, clock())
                    if watch.first_at_s is None:
                        self._prefilled(watch, meter)
                    if ready:
                        idle.reschedule(None)
                        await response.write(ready)
                    idle.reschedule(clock() + idle_s)
        except TimeoutError:
            raise UpstreamTimeout(f"The backend was silent for {idle_s:g} s.") from None

    def _failed(self, lease: Lease, error: UpstreamError) -> None:
        """Tells the backend: full, broken, or nothing if it was the client's fault."""
        if isinstance(error, Refused) and error.admission:
            lease.backend.refused(self._clock())
        elif not isinstance(error, Refused) or error.status >= 500:
            lease.backend.failed(self._clock(), refused=isinstance(error, ConnectFailed))

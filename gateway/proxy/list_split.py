"""Splits lists of prompts that no backend serves within the promise, where the configuration asks
for it.

Each part is a request of its own to all that follows: it has a size, a bucket, a lease, retries and
an observation. As many are under way as there are backends; the answers are joined in their order.
Knows neither how a list is cut nor what an answer has in it.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.access.charge import Charge
from gateway.errors import ClientGone, GatewayError
from gateway.proxy.active import LEFT, ActiveRequest
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.events import usage_of
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.http.headers import reply_head
from gateway.proxy.http.request import Request
from gateway.proxy.list_cut import PromptList, joined
from gateway.proxy.receipt import unrouted
from gateway.proxy.responses import outcome_of
from gateway.proxy.timeouts import Timeouts
from gateway.routing.body import read_body
from gateway.routing.class_names import LEFT_OVER
from gateway.routing.endpoints import COMPLETIONS, EMBEDDINGS, Endpoint
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Outcome
from gateway.routing.router import Router
from gateway.routing.trace_context import TraceContext

AT_ONCE: Final = 16  # parts of one request that are under way at the same time, at most

Admit = Callable[[ClientConnection, Request, LlmRequest, Fiber, bytes, float], ActiveRequest]


class SplitRequest:
    """One list while its parts are served. answers: of the parts that are done. charge: of all
    parts. error: of the first part that failed, which ends the others. over: resolved when nothing
    is left to wait for. trace: of the request, which its first part stands for."""

    __slots__ = (
        "answers", "charge", "client", "entries", "error", "fibers", "head", "left", "lines",
        "next", "over", "prompts", "request", "request_id", "trace", "whole", "width",
    )  # fmt: skip

    def __init__(
        self,
        client: ClientConnection,
        request: Request,
        whole: LlmRequest,
        prompts: PromptList,
        width: int,
        lines: bytes,
        request_id: bytes,
    ) -> None:
        parts = -(-prompts.count // width)
        self.client = client
        self.charge: Charge | None = None
        self.request = request
        self.whole = whole
        self.prompts = prompts
        self.width = width
        self.lines = lines
        self.request_id = request_id
        self.answers: list[bytes] = [b""] * parts
        self.entries = [0] * parts
        self.head = b""
        self.next = 0
        self.fibers: list[Fiber] = []
        self.left = 0
        self.error: BaseException | None = None
        self.trace: TraceContext | None = None
        self.over: Promise[None] = Promise()

    def __repr__(self) -> str:
        return f"<SplitRequest, {self.next} of {len(self.answers)} parts begun>"

    def stop(self, error: BaseException) -> None:
        """Begin no more parts, and end those under way; nobody wants their answers."""
        if self.error is None:
            self.error = error
            self.next = len(self.answers)
            for fiber in self.fibers:
                fiber.abandon()


class ListSplitter:
    """Serves lists in parts. One object serves all requests of a process."""

    def __init__(
        self,
        router: Router,
        dispatcher: Dispatcher,
        timeouts: Timeouts,
        admit: Admit,
        on_arrival: Callable[[int], None],
        conclude: Callable[[ActiveRequest], None],
        clock: Callable[[], float],
    ) -> None:
        """admit: makes a request of a part. on_arrival: called with its bucket. conclude: called at
        its end."""
        self._router = router
        self._dispatcher = dispatcher
        self._timeouts = timeouts
        self._admit = admit
        self._on_arrival = on_arrival
        self._conclude = conclude
        self._clock = clock

    def width(self, active: ActiveRequest) -> int:
        """The most prompts of a request that are served within its promise; 0 if it is not to be
        split: all of them are, or not even one is, or there is no promise, or it is no list."""
        request, estimate, bucket = active.llm_request, active.estimate, active.bucket
        if request.prompts < 2 or request.stream or not _splits(request.endpoint):
            return 0
        if estimate.slo_class == LEFT_OVER or self._router.promised(estimate, bucket):
            return 0
        least, most = 0, request.prompts - 1
        while least < most:
            middle = (least + most + 1) // 2
            if self._router.promised(_narrower(estimate, middle), bucket):
                least = middle
            else:
                most = middle - 1
        return least

    async def serve(
        self,
        client: ClientConnection,
        request: Request,
        active: ActiveRequest,
        lines: bytes,
        width: int,
    ) -> bool:
        """Serve a request in parts of at most so many prompts, and answer it; return whether it
        could be cut. Raises the error of the part that failed first.

        active: made of the whole request, which has not been accepted. lines: header lines to send
        on.
        """
        whole = active.llm_request
        try:
            prompts = PromptList(request.body, whole.endpoint)
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            return False
        if prompts.count != whole.prompts:
            return False
        split = SplitRequest(client, request, whole, prompts, width, lines, active.request_id)
        split.charge, split.trace = active.charge, active.trace
        client.on_disconnect = active.abandon
        split.left = min(self._at_once(active), len(split.answers))
        split.fibers = [Fiber() for _ in range(split.left)]
        try:
            for own in tuple(split.fibers):
                own.start(self._serve_parts(split, own))
            await split.over
        except BaseException as error:  # the client left
            split.stop(error)
            raise
        if split.error is not None:
            raise split.error
        answer = joined(split.answers, split.entries, whole.endpoint)
        limits = b"" if split.charge is None else split.charge.lines
        client.respond(split.head + unrouted(active.request_id) + limits, answer)
        return True

    def _at_once(self, active: ActiveRequest) -> int:
        """The parts that are under way at the same time: one for each backend that may serve them,
        so that each begins within its promise where there is nothing else."""
        pools = self._router.eligibility.pools_for(active.bucket, active.estimate)
        names, fleet, now_s = self._router.table.pools, self._router.fleet, self._clock()
        live = [b for pool in pools for b in fleet.pool(names[pool]) if b.live(now_s)]
        return min(max(1, len(live)), AT_ONCE)

    async def _serve_parts(self, split: SplitRequest, fiber: Fiber) -> None:
        """Serve one part after another, until there is none left."""
        try:
            while split.next < len(split.answers):
                number, split.next = split.next, split.next + 1
                await self._serve_part(split, number, fiber)
        except BaseException as error:  # it is raised where the whole is served
            split.stop(error)
        finally:
            split.left -= 1
            if not split.left:
                split.over.resolve(None)

    async def _serve_part(self, split: SplitRequest, number: int, fiber: Fiber) -> None:
        """Serve a part from its own arrival to its end."""
        start, whole = number * split.width, split.whole
        body = split.prompts.part(start, min(start + split.width, split.prompts.count))
        part = read_body(body, whole.endpoint)
        if whole.counted is not None and whole.prompt_bytes:
            part.counted = round(whole.counted * part.prompt_bytes / whole.prompt_bytes)
        request_id = b"%b-%d" % (split.request_id, number)
        active = self._admit(split.client, split.request, part, fiber, request_id, self._clock())
        active.charge = split.charge
        if number == 0:
            active.trace = split.trace
        try:
            self._timeouts.begin(active)
            self._on_arrival(active.bucket)
            self._dispatcher.earn()
            reply, begun = await self._dispatcher.begin(
                split.client, active, split.lines, body, split.request.headers
            )
            reply.close()  # it does not stream, so all of it is there
            assert isinstance(begun, bytes)
            active.add_usage(usage_of(begun))
            active.finish(Outcome.OK, reply.status)
            if number == 0:
                split.head = reply_head(reply.status, reply.headers, reply.end_to_end)
            split.answers[number], split.entries[number] = begun, _entries(part)
        except GatewayError as error:
            active.finish(outcome_of(error), error.status, error.reason)
            active.add_refusal(error)
            raise
        except ClientGone:
            active.finish(Outcome.ABANDONED, LEFT)
            raise
        finally:
            self._conclude(active)


def _splits(endpoint: Endpoint) -> bool:
    """Whether the answer to a list is that of each of its prompts."""
    return endpoint is EMBEDDINGS or endpoint is COMPLETIONS


def _entries(part: LlmRequest) -> int:
    """How many numbered entries the answer to a part has."""
    return part.prompts if part.endpoint is EMBEDDINGS else part.answers


def _narrower(estimate: Estimate, prompts: int) -> Estimate:
    """The estimate of so many prompts of a list."""
    narrower = Estimate(
        model=estimate.model,
        input_tokens=estimate.input_tokens,
        output_tokens=estimate.output_tokens,
        output_p90=estimate.output_p90,
        slo_class=estimate.slo_class,
        streams=estimate.streams,
        prompts=prompts,
        width=estimate.width * prompts // estimate.prompts,
        max_tokens=estimate.max_tokens,
    )
    narrower.only = estimate.only
    return narrower

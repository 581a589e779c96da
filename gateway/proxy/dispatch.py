"""Sends a request to backends until one begins to answer: routes, queues, retries.

Nothing has reached the client yet, so a failed attempt can be repeated at another backend. Owns the
wait for a turn and the retry budget. Knows no plan, no price and no other request.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from math import inf

from gateway.config.schema import GatewaySection
from gateway.config.upstream import Upstream
from gateway.errors import (
    ConnectionLost,
    InvalidAnswer,
    ModelNotFound,
    NotFound,
    Saturated,
    Unavailable,
    UpstreamError,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.answer_homes import AnswerHomes
from gateway.proxy.answers import fault
from gateway.proxy.attempts import Attempts
from gateway.proxy.beginning import first_output, look_for_events, no_answer
from gateway.proxy.engines import EngineRefusal, stream_refusal
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import Headers, credential_lines, not_sent
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.proxy.judge import Judge
from gateway.proxy.names import Names
from gateway.proxy.relay import Relay
from gateway.proxy.renaming import Renaming
from gateway.proxy.retry import RetryBudget
from gateway.proxy.stored_responses import StoredResponses
from gateway.proxy.targets import Targets
from gateway.proxy.usage_memory import UsageMemory
from gateway.routing.admission import Admission
from gateway.routing.backend import Backend, Lease
from gateway.routing.fleet import Fleet
from gateway.routing.observation import NO_BUCKET
from gateway.routing.router import ON_PLAN, SPILL
from gateway.routing.ticket import Ticket

log = logging.getLogger("cuvee")


class Dispatcher:
    """Finds a backend that answers. One object serves all requests.

    admission: decides when a request is served. judge: of the backends. stored: serves what they
    have stored. budget: of retries. doubts: of retries after an answer that may be right, such as
    that a key is wrong; a caller with a wrong key must not use up the others.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        fleet: Fleet,
        connection_pools: ConnectionPools,
        upstreams: Mapping[str, Upstream],
        names: Names,
        settings: GatewaySection,
        on_failure: Callable[[str, str, bool], None],
        clock: Callable[[], float],
    ) -> None:
        """upstreams: by pool. on_failure: called with the name of a backend that failed a request,
        the kind of failure, and whether the backend must rest because of it."""
        self.admission = admission
        self._fleet = fleet
        self._clock = clock
        self._targets = Targets(connection_pools)
        self.budget, self.doubts = RetryBudget(), RetryBudget()
        self.judge = Judge(fleet, on_failure, clock)
        self._usage, self._homes = UsageMemory(), AnswerHomes()
        self.stored = StoredResponses(self._targets, self._homes, fleet, clock)
        self.configure(upstreams, names, settings)

    def configure(
        self, upstreams: Mapping[str, Upstream], names: Names, settings: GatewaySection
    ) -> None:
        """Serve by these settings from now on, requests under way as well."""
        self._names = names
        self._targets.configure(upstreams, settings)
        self.stored.configure(names, not_sent(settings.withheld_headers), settings.idle_timeout_s)
        # Copies of what every request reads: the settings are a class that is not compiled, and
        # each attribute of such a class costs compiled code 110 instructions.
        self._retries, self._usage.wanted = settings.retries, settings.include_usage
        self._fleet.max_ejection_share = settings.max_ejection_share
        self._fleet.warmup_s = settings.warmup_s

    async def begin(
        self,
        client: ClientConnection,
        active: ActiveRequest,
        lines: bytes,
        body: bytes,
        headers: Headers,
    ) -> tuple[Reply, Relay | bytes]:
        """Return the reply of the first backend that begins to answer: with its stream up to the
        first event, or with its whole body. The request holds the lease of that backend.

        lines: header lines of the client to send on. headers: all of the client, of which some
        backends get its keys too. Raises UpstreamError when the last attempt failed, Saturated or
        Unavailable when there is no backend to try.
        """
        attempts: Attempts | None = None
        lease = self._at_once(active)
        while True:
            if lease is None:
                lease = await self._lease(active, attempts)
                if attempts is not None and attempts.outgrown and lease.decision in ON_PLAN:
                    lease.decision = SPILL  # the plan meant another pool
            active.lease = lease
            active.retries += attempts is not None
            fresh = attempts is not None and attempts.broken > 0
            try:
                begun = await self._attempt(client, active, lease, lines, body, headers, fresh)
            except UpstreamError as error:
                if attempts is None:
                    attempts = Attempts()
                # A request that fails everywhere says nothing about the second backend.
                self.judge.blame(lease, error, active.caller, counts=not attempts.broken)
                lease.release()
                if active.repeatable and attempts.outgrow(error, lease, active, self.admission):
                    active.first_at_s = lease = None
                    continue
                attempts.note(lease, error, goes_on=active.llm_request.previous is not None)
                last = not active.repeatable or attempts.last(error, self._retries)
                if last or not self._spend(error):
                    raise
                active.first_at_s = lease = None
            else:
                self._answered(lease.backend, begun[1])
                if attempts is not None:
                    self.judge.convict(attempts)
                    self.doubts.refund(attempts.doubted)
                return begun

    def _answered(self, backend: Backend, begun: Relay | bytes) -> None:
        """Note that a backend has begun to answer, or has answered."""
        if isinstance(begun, Relay):  # its end will show whether the answer is any good
            backend.heard_s = begun.last_s
            backend.breaker.answered()
        else:
            backend.heard_s = self._clock()
            backend.breaker.succeeded(backend.heard_s)

    def earn(self) -> None:
        """Add the share of one request to the budgets."""
        self.budget.earn()
        self.doubts.earn()

    def _spend(self, error: UpstreamError) -> bool:
        """Take one retry after an error; `False` if the budget has none left. A backend that has no
        room or that closed an idle connection costs none."""
        if isinstance(error, ConnectionLost):
            return True
        if isinstance(error, EngineRefusal):
            if error.admission:
                return True
            if error.doubtful:
                return self.doubts.spend()
        return self.budget.spend()

    def blame_stream(self, lease: Lease, error: bytes, caller: str) -> None:
        """Note the error event at the end of a stream at its backend."""
        self.judge.blame(lease, stream_refusal(error, self._targets.dialect(lease.backend)), caller)

    def restrict(self, active: ActiveRequest) -> None:
        """Leave a request to the pools whose engines have its endpoint, and to the one backend that
        has the answer that it goes on from. Raises NotFound if no engine of the model can."""
        request, estimate, table = active.llm_request, active.estimate, self.admission.table
        pools = [table.pools[pool] for pool in table.order[active.bucket]]
        if estimate.only is not None:
            pools = [pool for pool in pools if pool in estimate.only]
        name, targets = request.endpoint.name, self._targets
        able = [p for p in pools if name not in targets.dialect_of(p).lacks]
        if not able:
            raise NotFound(f"No engine of the model has {request.endpoint.path}.")
        if len(able) < len(pools):
            estimate.only = frozenset(able)
        home = None if request.previous is None else self._homes.home(request.previous)
        if home is not None:
            backends = [backend for pool in able for backend in self._fleet.pool(pool)]
            if any(b.name == home and b.live(self._clock()) for b in backends):
                active.exclude = [backend.name for backend in backends if backend.name != home]

    def note_answer(self, active: ActiveRequest, answer_id: str | None) -> None:
        """Remember which backend has an answer that later requests may go on from."""
        if answer_id is not None and active.lease is not None:
            self._homes.note(answer_id, active.lease.backend)

    def forget(self, backend: Backend) -> None:
        """Close the connections of a backend that left the fleet, busy ones when they get idle."""
        self._targets.forget(backend)
        self._usage.forget(backend)

    def room(self, now_s: float) -> None:
        """There may be room: let waiting requests take their turns."""
        if self.admission.waiting:
            self.admission.turn(now_s)

    def _at_once(self, active: ActiveRequest) -> Lease | None:
        """The lease of a new request for which there is room; `None` if it has to wait. Apart from
        the wait, because most requests find room and a coroutine costs as much as the choice."""
        if active.bucket == NO_BUCKET or active.exclude:
            return None
        return self.admission.enter(
            active.estimate, bucket=active.bucket, caller=active.caller, now_s=self._clock()
        )

    async def _lease(self, active: ActiveRequest, attempts: Attempts | None) -> Lease:
        """The lease of a request at its turn.

        attempts: that failed; the client is told why when there is no other backend to try.
        """
        if active.bucket == NO_BUCKET:  # the model left the configuration
            gone = ModelNotFound(f"The model `{active.estimate.model}` is gone.")
            raise gone if attempts is None else attempts.verdict(gone)
        now_s, admission = self._clock(), self.admission
        due_s, until_s = admission.due(
            active.estimate,
            bucket=active.bucket,
            arrival_s=active.arrival_s,
            again=attempts is not None and attempts.failure is not None,
        )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = Ticket(
            estimate=active.estimate,
            bucket=active.bucket,
            caller=active.caller,
            ready=_resolver(turn),
            due_s=due_s,
            until_s=until_s,
            exclude=active.exclude if attempts is None else (*active.exclude, *attempts.tried),
        )
        try:
            admission.expect_room(ticket, now_s)
            return await self._turn(active, ticket, turn, now_s, attempts is not None)
        except (Saturated, Unavailable) as error:
            if attempts is not None:
                raise attempts.verdict(error) from error
            raise

    async def _turn(
        self,
        active: ActiveRequest,
        ticket: Ticket,
        turn: "asyncio.Future[None]",
        now_s: float,
        again: bool,
    ) -> Lease:
        """Wait for the turn of a request. Raises Saturated or Unavailable."""
        admission = self.admission
        admission.wait(ticket, now_s, again=again)
        late = lambda: self.room(self._clock())  # noqa: E731
        timer = asyncio.get_running_loop().call_at(ticket.until_s, late)
        try:
            if again or active.exclude:  # it was not tried yet, or another backend had it
                admission.turn(now_s)
            await turn
        except BaseException:  # its client left
            if ticket.lease is not None:
                ticket.lease.release()
                self.room(self._clock())
            elif ticket.error is None:
                admission.leave(ticket, self._clock())
            raise
        finally:
            timer.cancel()
            active.waited_s = self._clock() - now_s + (active.waited_s or 0.0)
        if ticket.lease is None:
            assert ticket.error is not None
            raise ticket.error
        return ticket.lease

    async def _attempt(
        self,
        client: ClientConnection,
        active: ActiveRequest,
        lease: Lease,
        lines: bytes,
        body: bytes,
        headers: Headers,
        fresh: bool,
        ask: bool = True,
    ) -> tuple[Reply, Relay | bytes]:
        """Send it to one backend. fresh: on a new connection. ask: whether for its usage."""
        request = active.llm_request
        target = self._targets.target(lease.backend, request.endpoint)
        limit_s = target.first_byte_s if request.stream else target.unary_s
        active.sent(lease, self._clock(), limit_s)
        renaming: Renaming | None = None
        renamed, own_lines = body, lines
        if target.forwards:
            own_lines = lines + credential_lines(headers)
        if not self._names.plain:
            renaming = self._names.renaming(lease.backend.pool, request.model)
            if renaming is not None:
                renamed = renaming.request(body)
        spliced = self._usage.spliced(lease.backend, request, renamed) if ask else None
        sent, upload = spliced or renamed, active.upload
        size = len(sent) + (0 if upload is None else upload.rest_bytes)
        reply: Reply | None = None
        try:
            head = b"".join((target.start, own_lines, b"content-length: %d\r\n\r\n" % size))
            reply = await target.connections.send_once(head, sent, fresh=fresh, upload=upload)
            request.stream |= upload is not None and reply.stream  # as it says behind its file
            if request.stream and not reply.stream and reply.status == 200:
                await look_for_events(reply)
            if reply.status >= 300 or reply.stream is not request.stream:
                raise await no_answer(reply, self._targets.dialect(lease.backend))
            if not reply.stream:
                whole = reply.body if reply.complete else await reply.read()
                wrong = fault(whole, request.endpoint, one_choice=request.one_choice)
                if wrong is not None:
                    raise InvalidAnswer(wrong)
                return reply, whole if renaming is None else renaming.answer(whole)
            meter = self._usage.meter(lease.backend, request, asked=spliced is not None)
            relay = Relay(reply, client, self._clock, meter, active.first_token, renaming)
            await first_output(reply, relay, self._targets.dialect(lease.backend))
            if spliced is not None or not ask:
                self._usage.took(lease.backend, asked=ask)
            return reply, relay
        except BaseException as error:
            if reply is not None:
                reply.close()
            if upload is not None:
                upload.stop()
            if spliced is None or not self._usage.doubts(lease.backend, error):
                raise
        finally:
            active.waiting, active.due_s = False, inf
        return await self._attempt(client, active, lease, lines, body, headers, fresh, ask=False)


def _resolver(turn: "asyncio.Future[None]") -> Callable[[], None]:
    """A function that lets the handler that awaits `turn` go on, in the loop's next turn: the
    request whose end made room is not finished with itself yet."""

    def ready() -> None:
        if not turn.done():
            turn.set_result(None)

    return ready

"""When patience with a request is over, and what its client hears until then."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from gateway.config.schema import GatewaySection
from gateway.config.upstream import Upstream
from gateway.errors import UpstreamError, UpstreamTimeout, Vacated
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import ClientLimits
from gateway.proxy.receipt import Receipts
from gateway.proxy.relay import Relay
from gateway.proxy.sse import StreamMeter
from gateway.proxy.timeouts import GONE_S, KEEP_ALIVE, SILENT_S, Timeouts
from gateway.routing.backend import Backend, Lease
from gateway.routing.endpoints import CHAT
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest


@dataclass
class Heard:
    """A client that keeps what it is sent."""

    pieces: list[bytes] = field(default_factory=list)

    def start(self, head, first):
        self.pieces += [head, first]

    def write(self, piece):
        self.pieces.append(piece)


class Served:
    """One request that waits for ever, and what ended it."""

    def __init__(self, *, stream=True):
        self.client, self.ended = Heard(), None
        fiber = Fiber()
        self.active = ActiveRequest(
            arrival_s=0.0, request_id=b"r", caller="", receipts=Receipts(),
            room=lambda now_s: None, bucket=0,
            fiber=fiber, client=self.client,
            llm_request=LlmRequest(
                endpoint=CHAT, model="m", stream=stream, prompt_bytes=1, prompt_tokens=None,
                max_tokens=None,
            ),
            estimate=Estimate(model="m", input_tokens=1, output_tokens=1, output_p90=1),
        )  # fmt: skip
        fiber.start(self._wait())

    async def _wait(self):
        try:
            await Promise()
        except UpstreamError as error:
            self.ended = error


def timeouts(*requests, may_rest=lambda backend: True, **settings):
    found = Timeouts(GatewaySection(**settings), may_rest)
    for request in requests:
        found.begin(request.active)
    return found


def test_what_does_not_begin_in_time_is_ended():
    """At its deadline and not before; one that has ended is not looked at again."""
    late, gone = Served(), Served()
    both = timeouts(late, gone)
    late.active.due_s = gone.active.due_s = 5.0
    both.end(gone.active)
    both.tick(4.9)
    before = late.ended
    both.tick(5.0)

    assert before is None
    assert isinstance(late.ended, UpstreamTimeout)
    assert gone.ended is None


def backend(name="p-0"):
    return Backend(name=name, pool="p", url="http://x")


def lease(on):
    return Lease(on, own=0, slots=(0.1,), prefill_s=0.0, bucket=0, plan_id="p", decision="planned")


def streaming(on, *, last_s, stalled=False, due_s=30.0):
    """A request whose stream has begun at a backend."""
    request = Served()
    request.active.lease, request.active.due_s = lease(on), due_s
    request.active.relay = relay(last_s=last_s, stalled=stalled)
    request.active.committed = True
    return request


def asking(on, *, due_s):
    """A request that waits for the first event of its stream."""
    request = Served()
    request.active.lease, request.active.waiting, request.active.due_s = lease(on), True, due_s
    return request


def relay(*, last_s, stalled):
    """A stream between nobody and nobody."""
    client = ClientConnection(
        SimpleNamespace(limits=ClientLimits(body_bytes=1), budget=BodyBudget())
    )
    client.stalled = stalled
    reply = Reply(SimpleNamespace(set_reading=lambda wanted: None), BodyBudget())
    return Relay(reply, client, lambda: last_s, StreamMeter(), lambda at_s: None)


async def test_a_pool_may_have_a_patience_of_its_own():
    """Its streams are judged by that, and those of other pools are not."""
    slow, fast = streaming(backend(), last_s=0.0, due_s=10.0), Served()
    both = timeouts(slow, fast, idle_timeout_s=10.0)
    both.configure(GatewaySection(idle_timeout_s=10.0), {"p": Upstream(idle_timeout_s=50.0)})
    fast.active.lease = lease(Backend(name="q-0", pool="q", url="http://y"))
    for request in (slow, fast):
        both.follow(request.active, 0.0)
    dues = [slow.active.due_s, fast.active.due_s]
    both.tick(10.0)

    assert dues == [50.0, 10.0]
    assert slow.ended is None
    assert fast.ended is not None


@pytest.mark.parametrize(
    ("last_s", "stalled", "ends"),
    [(0.0, False, True), (9.0, False, False), (0.0, True, False)],
    ids=["silent", "heard of", "its client does not read"],
)
async def test_only_the_silence_of_the_backend_ends_a_stream(last_s, stalled, ends):
    """A stream that was heard of since, or waits for its client, gets more time."""
    request = streaming(backend(), last_s=last_s, stalled=stalled, due_s=10.0)
    timeouts(request, idle_timeout_s=10.0).tick(10.0)

    assert (request.ended is not None) is ends
    assert ends or request.active.due_s > 10.0


def test_who_waits_for_a_stream_hears_comments():
    """The head with the first, and one more each time; an unary client hears nothing."""
    stream, unary = Served(), Served(stream=False)
    both = timeouts(stream, unary, sse_keepalive_s=2.0)
    for now_s in (1.0, 2.0, 3.0, 4.0):
        both.tick(now_s)

    head, *comments = stream.client.pieces
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
    assert comments == [KEEP_ALIVE] * 2
    assert unary.client.pieces == []


def test_without_a_setting_nobody_hears_anything():
    """Comments commit to a status, so they are only for who wants them."""
    request = Served()
    timeouts(request).tick(1e6)

    assert request.client.pieces == []


async def test_a_stream_that_is_silent_alone_gets_more_time():
    """Its engine collects the arguments of a tool call, as the backend's other streams show; but
    not for ever."""
    one = backend()
    calls, talks = streaming(one, last_s=0.0), streaming(one, last_s=29.0, due_s=59.0)
    both = timeouts(calls, talks, idle_timeout_s=30.0)
    both.tick(30.0)
    early = calls.ended
    talks.active.relay.last_s = 299.0
    both.tick(299.9)
    later = calls.ended
    both.tick(300.0)

    assert (early, later) == (None, None)
    assert "silent for 300 s" in str(calls.ended)
    assert talks.ended is None


async def test_who_hears_nothing_inside_a_stream_hears_comments():
    """A balancer in between closes connections that are idle; where the stream goes on nothing is
    written into it, and never into an event."""
    one = backend()
    silent, goes_on, torn = (streaming(one, last_s=0.0) for _ in range(3))
    torn.active.relay.meter.torn = True
    all_three = timeouts(silent, goes_on, torn, sse_keepalive_s=2.0)
    for request in (silent, goes_on, torn):
        all_three.follow(request.active, 0.0)
    for now_s in (1.0, 2.0, 3.0, 4.0):
        goes_on.active.relay.last_s = now_s - 0.5
        all_three.tick(now_s)

    assert silent.client.pieces == [KEEP_ALIVE] * 2
    assert (goes_on.client.pieces, torn.client.pieces) == ([], [])


async def test_a_backend_whose_streams_do_not_go_on_rests():
    """While those of a peer do; until one of its own does again, or has ended."""
    stuck, well = backend("p-0"), backend("p-1")
    frozen, lively = streaming(stuck, last_s=0.0), streaming(well, last_s=SILENT_S - 0.1)
    both = timeouts(frozen, lively, idle_timeout_s=30.0)
    seen = []
    for frozen_s, lively_s in ((0.0, 4.9), (0.0, 5.1), (5.2, 5.3), (5.2, 10.3)):
        frozen.active.relay.last_s, lively.active.relay.last_s = frozen_s, lively_s
        both.tick(lively_s)
        seen.append((stuck.live(0.0), well.live(0.0)))
    both.end(frozen.active)
    both.tick(11.0)

    assert seen == [(True, True), (False, True), (True, True), (False, True)]
    assert stuck.live(0.0)


async def test_a_backend_that_begins_no_stream_rests_later():
    """A long prompt takes its time; what began or ended there meanwhile is a sign of life."""
    stuck, well = backend("p-0"), backend("p-1")
    waits, lively = asking(stuck, due_s=120.0), streaming(well, last_s=0.0, due_s=500.0)
    both = timeouts(waits, lively)
    seen = []
    for now_s, heard_s in ((14.0, 0.0), (15.1, 0.0), (15.2, 10.0)):
        stuck.heard_s, lively.active.relay.last_s = heard_s, now_s
        both.tick(now_s)
        seen.append(stuck.silent)

    assert seen == [False, True, False]


async def test_silence_takes_no_more_backends_out_than_may_rest():
    """If all are slow it is not one of them; and not where too few others are left."""
    stuck, well = backend("p-0"), backend("p-1")
    requests = streaming(stuck, last_s=0.0), streaming(well, last_s=9.0)
    timeouts(*requests, may_rest=lambda backend: False).tick(9.0)
    alone = stuck.silent
    requests[1].active.relay.last_s = 0.0
    timeouts(*requests).tick(20.0)

    assert (alone, stuck.silent, well.silent) == (False, False, False)


async def test_a_backend_that_is_gone_is_given_up_on():
    """What waits for its first byte tries elsewhere; a stream ends when it has been silent for a
    moment, and not before: it may still end well."""
    lost, other = backend("p-0"), backend("p-1")
    waiting, elsewhere = asking(lost, due_s=120.0), asking(other, due_s=120.0)
    silent, goes_on = streaming(lost, last_s=1.0), streaming(lost, last_s=6.0)
    requests = waiting, elsewhere, silent, goes_on
    found = timeouts(*requests)
    lost.healthy = False
    found.backend_lost(lost)
    found.tick(6.5)
    first = [r.ended is not None for r in requests]
    found.tick(6.0 + GONE_S)

    assert first == [True, False, True, False]
    assert goes_on.ended is not None


@pytest.mark.parametrize(
    ("leaving", "stream", "others", "moved"),
    [
        (True, True, True, True),
        (False, True, True, False),
        (True, False, True, False),
        (True, True, False, False),
    ],
)
async def test_a_stream_that_has_not_begun_leaves_a_backend_that_ends_soon(
    leaving, stream, others, moved
):
    """If others can serve it; what does not stream stays, and what has begun goes on."""
    going, asked = backend(), Served(stream=stream)
    going.leaving = leaving
    asked.active.lease, asked.active.waiting, asked.active.due_s = lease(going), True, 30.0
    begun = streaming(going, last_s=0.9)
    both = Timeouts(GatewaySection(), lambda _: True, lambda _: others)
    both.begin(asked.active)
    both.begin(begun.active)
    both.tick(1.0)

    assert isinstance(asked.ended, Vacated) is moved
    assert begun.ended is None

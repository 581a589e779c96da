"""When patience with a request is over, and what its client hears until then."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from gateway.config.schema import GatewaySection
from gateway.errors import UpstreamTimeout
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.request import ClientLimits
from gateway.proxy.receipt import Receipts
from gateway.proxy.relay import Relay
from gateway.proxy.sse import StreamMeter
from gateway.proxy.timeouts import KEEP_ALIVE, Timeouts
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
        except UpstreamTimeout as error:
            self.ended = error


def timeouts(*requests, **settings):
    found = Timeouts(GatewaySection(**settings))
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


def relay(*, last_s, stalled):
    """A stream between nobody and nobody."""
    client = ClientConnection(
        SimpleNamespace(limits=ClientLimits(body_bytes=1), budget=BodyBudget())
    )
    client.stalled = stalled
    reply = Reply(SimpleNamespace(set_reading=lambda wanted: None), BodyBudget())
    return Relay(reply, client, lambda: last_s, StreamMeter(), lambda at_s: None)


@pytest.mark.parametrize(
    ("last_s", "stalled", "ends"),
    [(0.0, False, True), (9.0, False, False), (0.0, True, False)],
    ids=["silent", "heard of", "its client does not read"],
)
async def test_only_the_silence_of_the_backend_ends_a_stream(last_s, stalled, ends):
    """A stream that was heard of since, or waits for its client, gets more time."""
    request = Served()
    request.active.relay, request.active.due_s = relay(last_s=last_s, stalled=stalled), 10.0
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


def test_a_backend_that_is_gone_is_given_up_on():
    """What waits for its first byte tries elsewhere; what streams may still end well."""
    backends = [Backend(name=name, pool="p", url="http://x") for name in ("p-0", "p-1")]
    waiting, streaming, elsewhere = Served(), Served(), Served()
    for request, backend in ((waiting, 0), (streaming, 0), (elsewhere, 1)):
        request.active.lease = Lease(
            backends[backend],
            own=0,
            slots=(0.1,),
            prefill_s=0.0,
            bucket=0,
            plan_id="p",
            decision="planned",
        )
        request.active.waiting = request is not streaming
    timeouts(waiting, streaming, elsewhere).backend_lost(backends[0])

    assert [r.ended is not None for r in (waiting, streaming, elsewhere)] == [True, False, False]

"""What the beginning of a backend's reply says: whether it is a stream, an error, or no answer.

Nothing has reached the client yet. Knows no route.
"""

from time import time

from gateway.errors import InvalidAnswer, UpstreamError
from gateway.proxy.engines import EngineDialect, pause_s, refusal, stream_refusal
from gateway.proxy.framing import looks_like_events
from gateway.proxy.http.headers import first_value
from gateway.proxy.http.reply import Reply
from gateway.proxy.relay import Relay


class Beginning:
    """The first bytes of a body, until they show whether they are events.

    held: what has come. events: `None` until it is known.
    """

    __slots__ = ("_reply", "events", "held")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.held = b""
        self.events: bool | None = None
        reply.stream_to(self.feed)

    def feed(self, piece: bytes, chunks: bytes | None = None) -> None:
        """Take a piece of the body."""
        self.held += piece
        self.events = looks_like_events(self.held)
        if self.events is not None:
            self._reply.notify()


async def look_for_events(reply: Reply) -> None:
    """Take a reply for a stream if its body is one, whatever its type says: proxies in front of an
    engine turn it into text. Raises UpstreamError if the reply fails before that is known."""
    beginning = Beginning(reply)
    while beginning.events is None and not reply.complete:
        if reply.error is not None:
            raise reply.error
        await reply.next_change()
    reply.stream = beginning.events is True
    reply.put_back(beginning.held)


async def no_answer(reply: Reply, dialect: EngineDialect) -> UpstreamError:
    """What a reply says that is no answer by its head."""
    if reply.status >= 400:
        asked = pause_s(first_value(reply.headers, b"retry-after"), time())
        body = await reply.read()
        return refusal(reply.status, body, dialect, pause_s=asked)
    if reply.status >= 300:  # a Location may be an internal address
        return InvalidAnswer(f"The backend answered {reply.status}.")
    what = "a stream that nobody asked for" if reply.stream else "what is no stream"
    return InvalidAnswer(f"The backend answered with {what}.")


async def first_output(reply: Reply, relay: Relay, dialect: EngineDialect) -> None:
    """Wait for the first output of a stream. An error event before it counts as an error reply:
    vLLM and TGI refuse a request inside a 200. One that ends before it is no answer."""
    meter = relay.meter
    while not (meter.begun or reply.complete):
        if reply.error is not None:
            raise reply.error
        await reply.next_change()
    if reply.complete:
        relay.close()
    if meter.refused is not None:
        raise stream_refusal(meter.refused, dialect)
    if not (meter.empty or meter.over or reply.complete):
        return
    whole, error = meter.finish()
    if error is not None:
        raise stream_refusal(error, dialect)
    if not whole:
        raise InvalidAnswer("The backend stopped before its answer was whole.")

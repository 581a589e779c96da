"""One publisher of KV events, that of one rank of an engine, over ZeroMQ. Thin: frames come in, and
go to its ledger in their order; what is missing is asked for.

ZeroMQ connects again by itself, with pauses that grow.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from gateway.kv_events.cache_ledger import CacheLedger
from gateway.kv_events.event_sequence import EventSequence, Place
from gateway.kv_events.frames import GarbledEvents, events_of, numbered

log = logging.getLogger("cuvee.kv_events")

FIRST_RETRY_MS, LONGEST_RETRY_MS = 200, 10_000
MOST_BYTES = 64 << 20  # of one message
MOST_WAITING = 10_000  # messages; what comes while so many wait is lost, and told as a gap
REPLAY_S = 2.0  # until the next batch of an answer; vLLM looks for questions each 0.1 s
MOST_REPLAYED = 100_000  # batches of one answer; vLLM keeps 10,000


class EventStream:
    """Hears one publisher while `run` runs.

    ledger: what its rank has. connected: whether there is one. current: whether it was heard since
    it is connected. batches, events, gaps: counted since
    the start. fault: what it last did wrong, `None` if nothing since.
    """

    def __init__(
        self,
        context: Any,
        endpoint: str,
        replay: str | None,
        topic: str,
        *,
        noted: Callable[[], int],
        changed: Callable[["EventStream", bool], None],
    ) -> None:
        """context: of `zmq.asyncio`. endpoint, replay: addresses; `None`: it replays nothing.
        noted: returns the time of the gateway's clock at which what is stored now was noted.
        changed: called after each batch with whether all of the cache is gone."""
        self._zmq: Any = import_module("zmq")
        self._monitoring: Any = import_module("zmq.utils.monitor")
        self._context = context
        self.endpoint, self._replay, self._topic = endpoint, replay, topic
        self._noted, self._changed = noted, changed
        self._sequence = EventSequence()
        self.ledger = CacheLedger(whole=True)
        self.connected = self.current = False
        self.batches = self.events = self.gaps = 0
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<EventStream of {self.endpoint}, {self.batches} batches>"

    async def run(self) -> None:
        """Hear the publisher, for ever."""
        socket = self._socket(self._zmq.SUB)
        socket.setsockopt(self._zmq.SUBSCRIBE, self._topic.encode())
        watching = asyncio.create_task(self._watch(socket.get_monitor_socket()))
        try:
            socket.connect(self.endpoint)
            while True:
                await self.hear(await socket.recv_multipart())
                await asyncio.sleep(0)  # where more is there already, it does not wait
        finally:
            watching.cancel()
            with suppress(self._zmq.ZMQError):  # with its context it is closed already
                socket.disable_monitor()
            socket.close(linger=0)

    async def hear(self, frames: list[bytes]) -> None:
        """Take one message."""
        try:
            number, payload = numbered(frames)
            place = self._sequence.look(number)
            if place is Place.OLD:
                return
            if place is Place.ANEW:  # another engine, and its cache was empty
                self.ledger = CacheLedger(whole=True)
                self._changed(self, True)
            if number > self._sequence.expected:
                await self._missed(number)
            self._sequence.taken(number)
            self._take(payload, self._noted())
            self.fault = None
        except GarbledEvents as error:
            self.ledger.lost()
            self.fault = f"{self.endpoint} sends what are no KV events: {error}"

    def _take(self, payload: bytes, clock: int | None) -> None:
        events = events_of(payload)
        cleared = self.ledger.take(events, clock)
        self.events += len(events)
        self.batches += 1
        self.current = True
        self._changed(self, cleared)

    async def _missed(self, number: int) -> None:
        """Batches before this one are missing: ask for them, or know that they are lost. What was
        before the first one that was ever heard is no gap."""
        if self.batches:
            self.gaps += 1
        try:
            if self._replay is not None and await self._replayed(number):
                return
        except (GarbledEvents, self._zmq.ZMQError) as error:
            log.warning("%s cannot be asked for KV events: %s", self._replay, error)
        if self.batches:
            text = "%s: batches %d to %d of KV events are lost; what it holds is not known"
            log.warning(text, self.endpoint, self._sequence.expected, number - 1)
        self.ledger.lost()

    async def _replayed(self, number: int) -> bool:
        """Take the batches before this one from an answer; whether all were in it."""
        socket = self._socket(self._zmq.DEALER)
        try:
            socket.connect(self._replay)
            # Its ROUTER expects an empty part before the question, as a REQ socket would send it.
            await socket.send_multipart([b"", self._sequence.expected.to_bytes(8, "big")])
            for _ in range(MOST_REPLAYED):
                async with asyncio.timeout(REPLAY_S):
                    frames = await socket.recv_multipart()
                replayed, payload = numbered([b"", *frames[-2:]])
                if not payload or replayed >= number or replayed > self._sequence.expected:
                    break
                if replayed == self._sequence.expected:
                    self._sequence.taken(replayed)
                    self._take(payload, None)
                await asyncio.sleep(0)
        except TimeoutError:
            pass
        finally:
            socket.close(linger=0)
        return self._sequence.expected == number

    async def _watch(self, monitor: Any) -> None:
        """Note whether there is a publisher."""
        zmq = self._zmq
        try:
            while True:
                message = self._monitoring.parse_monitor_message(await monitor.recv_multipart())
                if message["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self.connected = True
                elif message["event"] == zmq.EVENT_DISCONNECTED:
                    self.connected = self.current = False
        finally:
            monitor.close(linger=0)

    def _socket(self, kind: int) -> Any:
        zmq = self._zmq
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, 1),
            (zmq.MAXMSGSIZE, MOST_BYTES),
            (zmq.RCVHWM, MOST_WAITING),
            (zmq.RECONNECT_IVL, FIRST_RETRY_MS),
            (zmq.RECONNECT_IVL_MAX, LONGEST_RETRY_MS),
            (zmq.TCP_KEEPALIVE, 1),  # an engine may publish nothing for hours
        ):
            socket.setsockopt(option, value)
        return socket

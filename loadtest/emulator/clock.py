"""The engine model in real time: when its tokens exist, their bytes go out. Knows no HTTP routes.

One timer fires at the end of each iteration and writes every stream's new tokens straight into its
transport: no task is woken per chunk. The transport buffers for a slow reader, so none holds up
the others; what it buffers is bounded by the output's length.
"""

import asyncio
import itertools
from typing import cast

from loadtest.emulator import replies, requests
from loadtest.emulator.faults import Faults
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.requests import Body, GenerationRequest
from planner.engine.batching import Engine, FirstToken, LastToken


class EmulatedExchange:
    """One request under way: what was asked, its socket, and a future for its end.

    head: id, object, created, model of every answer. done: set when the last choice has finished;
    fails with Refused when the engine breaks. open: engine keys of the choices not finished yet.
    """

    __slots__ = (
        "broken", "done", "fault", "generation", "head", "limit", "made", "open", "started_s",
        "transport",
    )  # fmt: skip

    def __init__(
        self,
        generation: GenerationRequest,
        head: Body,
        fault: Faults,
        transport: asyncio.Transport,
        done: "asyncio.Future[None]",
    ) -> None:
        self.generation = generation
        self.head = head
        self.fault = fault
        self.limit = fault.limit
        self.transport = transport
        self.done = done
        self.started_s = 0.0
        self.made = 0
        self.broken = False
        self.open: set[int] = set()

    def write(self, data: bytes) -> None:
        """Puts bytes of a stream on its socket without waiting."""
        if self.transport.is_closing():
            return
        if self.fault.trickle:
            for at in range(len(data)):
                self.transport.write(data[at : at + 1])
        elif data:
            self.transport.write(data)

    def fail(self) -> None:
        """The fault after so many tokens; a stall is the absence of anything further."""
        if self.broken:
            return
        self.broken = True
        if self.fault.die_after == self.limit:
            self.transport.close()
        elif self.fault.error_after == self.limit:
            self.done.set_exception(requests.broken())


class EmulatedChoice:
    """One sequence of an exchange, and how many of its tokens have been sent."""

    __slots__ = ("exchange", "first_s", "frames", "index", "last_s", "sent")

    def __init__(
        self, exchange: EmulatedExchange, index: int, frames: replies.Frames | None
    ) -> None:
        self.exchange = exchange
        self.index = index
        self.frames = frames
        self.sent = 0
        self.first_s = self.last_s = 0.0


class EngineClock:
    """One engine on an event loop's clock. All its methods run on that loop and never wait."""

    def __init__(self, engine: Engine, metrics: VllmMetrics) -> None:
        self.engine = engine
        self.metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._keys = itertools.count()
        self._choices: dict[int, EmulatedChoice] = {}
        self._decoding: dict[int, EmulatedChoice] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._now_s = 0.0

    def submit(self, exchange: EmulatedExchange, *, chunked: bool = True) -> None:
        """Hands every choice to the engine as of now; `chunked` as in `replies.Frames`."""
        self.settle()
        generation, exchange.started_s = exchange.generation, self._now_s
        for index, (prompt, output) in enumerate(
            zip(generation.prompts, generation.outputs, strict=True)
        ):
            frames = None
            if generation.stream:
                frames = replies.Frames(generation, exchange.head, index, chunked=chunked)
            key = next(self._keys)
            self._choices[key] = EmulatedChoice(exchange, index, frames)
            exchange.open.add(key)
            self.engine.submit(key, input_tokens=prompt, output_tokens=output, now_s=self._now_s)
        self._schedule()

    def drop(self, exchange: EmulatedExchange) -> None:
        """Takes what is left of an exchange out of the engine: its client may have gone."""
        if not exchange.open:
            return
        self.settle()
        for key in exchange.open:
            self._choices.pop(key, None)
            self._decoding.pop(key, None)
            self.engine.abort(key, self._now_s)
        exchange.open.clear()
        self._schedule()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def settle(self) -> None:
        """Advances the engine to now and sends what it has produced."""
        self._now_s = max(self._now_s, self._loop.time())
        before = self.engine.generation_tokens
        events = self.engine.advance(self._now_s)
        if self.engine.generation_tokens == before and not events:
            return
        finished = []
        for event in events:
            key = cast(int, event.key)
            choice = self._choices.get(key)
            if choice is None:  # dropped since
                continue
            if isinstance(event, FirstToken):
                self._decoding[key] = choice
                choice.first_s = choice.last_s = event.at_s
                self.metrics.first.observe(event.at_s - choice.exchange.started_s)
            elif isinstance(event, LastToken):
                del self._decoding[key], self._choices[key]
                finished.append((key, choice, event.at_s))
        for key, choice in self._decoding.items():
            self._emit(choice, self.engine.produced(key))
        for key, choice, at_s in finished:
            self._finish(key, choice, at_s)

    def _tick(self) -> None:
        # uvloop's timers are whole milliseconds and may fire early: the iteration ends on time.
        self._now_s = max(self._now_s, self._due_s)
        self._timer = None
        self.settle()
        self._schedule()

    def _schedule(self) -> None:
        """Sets the timer to the end of the iteration in flight."""
        end_s = self.engine.step_end_s
        if self._timer is not None:
            if end_s == self._due_s:
                return
            self.close()
        if end_s is not None:
            self._due_s = end_s
            self._timer = self._loop.call_at(end_s, self._tick)

    def _emit(self, choice: EmulatedChoice, made: int) -> None:
        """Sends a choice's tokens up to `made`: one event a token, one write for all of them."""
        new = made - choice.sent
        if new <= 0:
            return
        exchange = choice.exchange
        gaps = new if choice.sent else new - 1
        if gaps:
            self.metrics.gap.observe((self._now_s - choice.last_s) / gaps, gaps)
        choice.last_s = self._now_s
        limit = exchange.limit
        stop = made if limit is None else min(made, limit)
        if choice.frames is not None and stop > choice.sent:
            exchange.write(choice.frames.take(choice.sent, stop))
        choice.sent = made
        if limit is not None and made >= limit:
            exchange.fail()

    def _finish(self, key: int, choice: EmulatedChoice, at_s: float) -> None:
        """Sends the rest of a choice, and the end of the exchange with its last choice."""
        exchange = choice.exchange
        exchange.open.discard(key)
        total = exchange.generation.outputs[choice.index]
        self._emit(choice, total)
        exchange.made += total
        self.metrics.finished[exchange.generation.finishes[choice.index]] += 1
        self.metrics.request.observe(at_s - exchange.started_s)
        if total > 1:
            self.metrics.per_token.observe((at_s - choice.first_s) / (total - 1))
        if exchange.open or exchange.broken or exchange.done.done():
            return
        if choice.frames is not None:
            exchange.write(choice.frames.tail(exchange.made))
        exchange.done.set_result(None)

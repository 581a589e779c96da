"""The engine model in real time: when a token exists, its bytes go out. Knows no HTTP routes.

One timer fires at the end of each iteration and writes every stream's new tokens straight into its
transport: no task is woken per chunk. The transport buffers for a slow reader, so no stream holds
up the others; what it buffers is bounded by the output's length.
"""

import asyncio
import dataclasses
import itertools
from collections import deque
from typing import cast

from loadtest.emulator import refusals
from loadtest.emulator.faults import Faults
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.streams import ChoiceEvents, choice_events
from planner.engine.batching import Engine, FirstToken, LastToken


class EmulatedExchange:
    """One request under way: what was asked, its socket, and a future for its end.

    head: id, object, created and model of every answer. done: resolves when the last sequence has
    finished; fails with RequestRefused when the engine breaks. open: engine keys of the unfinished
    sequences. output_tokens: of the finished choices. ending: the events that end its stream.
    cut_off: whether a fault has ended it.
    """

    __slots__ = (
        "cut_off", "done", "ending", "fault", "generation", "head", "open", "output_tokens",
        "started_s", "token_limit", "transport",
    )  # fmt: skip

    def __init__(
        self,
        generation: GenerationRequest,
        head: JsonObject,
        fault: Faults,
        transport: asyncio.Transport,
        done: "asyncio.Future[None]",
    ) -> None:
        self.generation = generation
        self.head = head
        self.fault = fault
        self.token_limit = fault.token_limit
        self.transport = transport
        self.done = done
        self.started_s = 0.0
        self.output_tokens = 0
        self.cut_off = False
        self.ending: ChoiceEvents | None = None
        self.open: set[int] = set()

    def write(self, data: bytes) -> None:
        """Put bytes of a stream on its socket without waiting."""
        if self.transport.is_closing():
            return
        if self.fault.trickle:
            for at in range(len(data)):
                self.transport.write(data[at : at + 1])
        elif data:
            self.transport.write(data)

    def give_up(self, tokens: dict[int, int]) -> None:
        """End with finish reason "abort". tokens: output of the unfinished sequences, by index."""
        ends = list(zip(self.generation.output_tokens, self.generation.finish_reasons, strict=True))
        for index, sent in tokens.items():
            ends[index] = sent, "abort"
        self.generation = dataclasses.replace(
            self.generation,
            output_tokens=tuple(sent for sent, _ in ends),
            finish_reasons=tuple(reason for _, reason in ends),
        )
        self.done.set_result(None)

    def cut(self) -> None:
        """Do what the fault says at its token limit; a stall is the absence of anything further."""
        if self.cut_off:
            return
        self.cut_off = True
        if self.fault.die_after == self.token_limit:
            self.transport.close()
        elif self.fault.error_after == self.token_limit:
            self.done.set_exception(refusals.engine_dead())


class EmulatedChoice:
    """One sequence of an exchange. sent: its tokens handled so far. events: `None` if it is not
    streamed. admitted_s: when it came from the queue into the batch."""

    __slots__ = ("admitted_s", "events", "exchange", "first_s", "index", "last_s", "sent")

    def __init__(self, exchange: EmulatedExchange, index: int, events: ChoiceEvents | None) -> None:
        self.exchange = exchange
        self.index = index
        self.events = events
        self.sent = 0
        self.admitted_s = self.first_s = self.last_s = 0.0


class EngineClock:
    """One engine on an event loop's clock. All its methods run on that loop and never wait.

    events_per_step: what the front end can send in one iteration. With more sequences in the batch
    it falls behind, and an event carries several tokens, as of a busy vLLM.
    """

    def __init__(self, engine: Engine, metrics: VllmMetrics, events_per_step: int) -> None:
        self.engine = engine
        self.metrics = metrics
        self._events_per_step = events_per_step
        self._queued: deque[tuple[int, EmulatedChoice]] = deque()
        self._loop = asyncio.get_running_loop()
        self._keys = itertools.count()
        self._choices: dict[int, EmulatedChoice] = {}
        self._decoding: dict[int, EmulatedChoice] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._now_s = 0.0

    def submit(self, exchange: EmulatedExchange, *, chunked: bool = True) -> None:
        """Hand every sequence to the engine now. chunked: as in `StreamChunks`."""
        self.advance()
        generation, exchange.started_s = exchange.generation, self._now_s
        cached = generation.cached_tokens or (0,) * len(generation.prompt_tokens)
        sizes = zip(generation.prompt_tokens, generation.output_tokens, cached, strict=True)
        for index, (input_tokens, output_tokens, cached_tokens) in enumerate(sizes):
            events = choice_events(generation, exchange.head, index, chunked=chunked)
            if events is not None:
                exchange.ending = events
                exchange.write(events.begin())
            key = next(self._keys)
            choice = self._choices[key] = EmulatedChoice(exchange, index, events)
            self._queued.append((key, choice))
            exchange.open.add(key)
            self.engine.submit(
                key,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                now_s=self._now_s,
                cached_tokens=cached_tokens,
            )
        self.metrics.accepted(generation)
        self._note_admissions()
        self._schedule()

    def abort(self, exchange: EmulatedExchange) -> None:
        """Take the unfinished choices out of the engine, as vLLM does when a client disconnects."""
        if not exchange.open:
            return
        self.advance()
        self._queued = deque(entry for entry in self._queued if entry[1].exchange is not exchange)
        for key in exchange.open:
            self._choices.pop(key, None)
            self._decoding.pop(key, None)
            self.engine.abort(key, self._now_s)
        exchange.open.clear()
        self._schedule()

    @property
    def exchanges(self) -> "set[EmulatedExchange]":
        """Those that the engine works on."""
        return {choice.exchange for choice in self._choices.values()}

    def adapters(self) -> tuple[list[str], list[str]]:
        """The names of the adapters whose requests run, and of those whose wait."""
        loras = self.metrics.served.loras
        queued = {id(choice) for _, choice in self._queued}
        running, waiting = dict[str, None](), dict[str, None]()
        for choice in self._choices.values():
            name = choice.exchange.generation.model
            if name in loras:
                (waiting if id(choice) in queued else running)[name] = None
        return list(running), list(waiting)

    def give_up(self) -> None:
        """Answer what is under way with what there is of it, as vLLM does when it stops."""
        self.advance()
        for exchange in self.exchanges:
            choices = [c for c in self._choices.values() if c.exchange is exchange]
            self.abort(exchange)
            if exchange.done.done():  # its last token came just now
                continue
            tokens = {choice.index: choice.sent for choice in choices}
            sent = exchange.output_tokens
            for choice in choices:
                if choice.events is not None:
                    sent += choice.sent
                    exchange.write(choice.events.aborted(choice.sent))
            if exchange.ending is not None:
                exchange.write(exchange.ending.end(sent))
            exchange.give_up(tokens)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def advance(self) -> None:
        """Run the engine up to now, and send the tokens that it has produced."""
        self._now_s = max(self._now_s, self._loop.time())
        before = self.engine.generation_tokens
        events = self.engine.advance(self._now_s)
        if self.engine.generation_tokens == before and not events:
            return  # within an iteration: spare the walk over all streams
        self._note_admissions()
        finished = []
        for event in events:
            key = cast(int, event.key)
            choice = self._choices.get(key)
            if choice is None:  # aborted since
                continue
            if isinstance(event, FirstToken):
                self._decoding[key] = choice
                choice.first_s = choice.last_s = event.at_s
                self.metrics.ttft.observe(event.at_s - choice.exchange.started_s)
            elif isinstance(event, LastToken):
                del self._decoding[key], self._choices[key]  # the engine forgets the key as well
                finished.append((key, choice, event.at_s))
        step = -(-self.engine.running // self._events_per_step) or 1
        for key, choice in self._decoding.items():
            self._send(choice, self.engine.produced(key), step)
        for key, choice, at_s in finished:
            self._finish(key, choice, at_s, step)

    def _note_admissions(self) -> None:
        """Note which sequences have left the queue: admission is in order of arrival. One that was
        preempted waits again, so that those behind it may be noted late."""
        while len(self._queued) > self.engine.waiting:
            _, choice = self._queued.popleft()
            choice.admitted_s = self._now_s

    def _on_timer(self) -> None:
        # uvloop's timers are whole milliseconds and may fire early: the iteration ends on time.
        self._now_s = max(self._now_s, self._due_s)
        self._timer = None
        self.advance()
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer to the end of the iteration in flight."""
        end_s = self.engine.step_end_s
        if self._timer is not None:
            if end_s == self._due_s:
                return
            self.close()
        if end_s is not None:
            self._due_s = end_s
            self._timer = self._loop.call_at(end_s, self._on_timer)

    def _send(self, choice: EmulatedChoice, produced: int, step: int) -> None:
        """Send a choice's tokens up to `produced`, `step` of them in an event and one write for all
        of them. Behind the first token, fewer than `step` wait for the next iterations."""
        new = produced - choice.sent
        exchange = choice.exchange
        total = exchange.generation.output_tokens[choice.index]
        if new <= 0 or (new < step and choice.sent and produced < total):
            return
        gaps = new if choice.sent else new - 1  # the first token has none before it
        if gaps:
            self.metrics.inter_token.observe((self._now_s - choice.last_s) / gaps, gaps)
        choice.last_s = self._now_s
        limit = exchange.token_limit
        stop = produced if limit is None else min(produced, limit)
        if choice.events is not None and stop > choice.sent:
            exchange.write(choice.events.tokens(choice.sent, stop, step))
        choice.sent = produced
        if limit is not None and produced >= limit:
            exchange.cut()

    def _finish(self, key: int, choice: EmulatedChoice, at_s: float, step: int) -> None:
        """Send the rest of a sequence, and with the last one the end of the exchange."""
        exchange, index = choice.exchange, choice.index
        generation = exchange.generation
        exchange.open.discard(key)
        output_tokens = generation.output_tokens[index]
        self._send(choice, output_tokens, step)
        if generation.choice(index) is not None:
            exchange.output_tokens += output_tokens
        self.metrics.completed(
            generation,
            index,
            started_s=exchange.started_s,
            admitted_s=choice.admitted_s,
            first_s=choice.first_s,
            ended_s=at_s,
        )
        if exchange.open or exchange.cut_off or exchange.done.done():
            return
        self.metrics.answered(generation)
        if exchange.ending is not None:
            exchange.write(exchange.ending.end(exchange.output_tokens))
        exchange.done.set_result(None)

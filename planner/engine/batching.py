"""One backend's continuous batching with chunked prefill, advanced from event to event.

Owns the scheduler of vLLM V1 as arithmetic: which sequences run, wait or are preempted, and when
each iteration ends. Time is an argument. Knows profiles, and nothing of HTTP, SLOs or routing.

A stretch of iterations that only decode and admit no sequence takes `Σ_j max(a + r·j, floor)`
seconds: a sum in closed form. So the work is O(log batch) per request and not O(1) per token.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from planner.engine.iteration import DecodeRun, iteration_time
from planner.engine.profiles import Profile
from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first output token of the request exists from at_s on."""

    key: Hashable
    at_s: float


@dataclass(frozen=True, slots=True)
class LastToken:
    """The last output token of the request exists from at_s on; the engine forgets the key."""

    key: Hashable
    at_s: float


Event = FirstToken | LastToken


class Sequence:
    """One request. While it decodes, it has produced `step − offset` tokens.

    produced: output tokens when the sequence last began or stopped to decode. finish: the decode
    step of its last token, `None` while it does not decode. cached: tokens of the prompt whose KV
    the engine has from earlier requests.
    """

    __slots__ = (
        "cached",
        "finish",
        "input_tokens",
        "key",
        "offset",
        "output_tokens",
        "prefilled",
        "produced",
    )

    def __init__(self, key: Hashable, input_tokens: int, output_tokens: int, cached: int) -> None:
        self.key = key
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached = cached
        self.produced = 0
        self.prefilled = cached
        self.offset = 0
        self.finish: int | None = None

    @property
    def prompt(self) -> int:
        """Tokens to prefill: the input, and after a preemption the tokens produced before it."""
        return self.input_tokens + self.produced


class Engine:
    """One backend: an admission queue, a running batch, KV tokens, one iteration after another.

    Iterations are atomic: a request that is submitted or aborted during an iteration changes the
    next one; at the very moment an iteration starts, it changes that one. `advance` never looks at
    single tokens. Time never runs backwards; a call with an earlier time raises InvalidValue.

    longest: the most tokens (prompt and output) of one request. preemptions, prompt_tokens,
    generation_tokens: counted since the start; a prompt counts when its first token is out.
    """

    def __init__(self, profile: Profile) -> None:
        self._times = iteration_time(profile)
        self._request_s = self._times.request_s
        self._frontend_s, self._frontend_steps = profile.frontend
        self._capacity = profile.kv_capacity
        self._seats = profile.max_num_seqs
        # vLLM refuses to start with fewer: every decoding sequence has its token in each iteration.
        self._budget = max(profile.max_num_batched_tokens, profile.max_num_seqs)
        self.longest = min(profile.max_model_len, self._capacity)
        self.preemptions = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self._now_s = -math.inf
        self._events: list[Event] = []
        self._waiting: OrderedDict[Hashable, Sequence] = OrderedDict()
        self._running: dict[Hashable, Sequence] = {}  # in the order of admission
        self._prefilling: list[Sequence] = []  # those of the running that have no token yet
        self._decoding = 0
        self._context = 0  # Σ (input + produced) of the decoding: their KV in this iteration
        self._reserved = 0  # KV tokens of the prefilling
        self._step = 0  # iterations so far
        self._finishes: list[tuple[int, int, Sequence]] = []  # heap; stale entries stay in it
        self._ticket = 0
        self._run: DecodeRun | None = None
        self._done = 0  # iterations of the run that have ended
        self._chunks: list[tuple[Sequence, int]] = []

    def submit(
        self,
        key: Hashable,
        *,
        input_tokens: int,
        output_tokens: int,
        now_s: float,
        cached_tokens: int = 0,
    ) -> None:
        """Queue a request. cached_tokens: of the prompt, that an earlier one left in the KV cache
        (a prefix hit); at least one token is computed all the same, for the first of the answer.
        They take room like the others. Raises InvalidValue for a known key, or a size that never
        fits."""
        if key in self._waiting or key in self._running:
            raise InvalidValue(f"already submitted: {key!r}")
        if input_tokens < 1 or output_tokens < 1 or input_tokens + output_tokens > self.longest:
            size = f"{input_tokens} in, {output_tokens} out"
            raise InvalidValue(f"both at least 1, together at most {self.longest}: {size}")
        self._catch_up(now_s)
        cached = min(max(cached_tokens, 0), input_tokens - 1)
        self._waiting[key] = Sequence(key, input_tokens, output_tokens, cached)
        # Behind other waiting requests it changes nothing: admission is in order, and the first of
        # them is blocked until a sequence leaves.
        if self._run is None or len(self._waiting) == 1 or self._at_start:
            self._reconsider()

    def abort(self, key: Hashable, now_s: float) -> None:
        """Drop a request whose client has gone and free its KV; an unknown key changes nothing."""
        self._catch_up(now_s)
        if self._waiting.pop(key, None) is None:
            sequence = self._running.get(key)
            if sequence is None:
                return
            self._leave(sequence)
            self._chunks = [chunk for chunk in self._chunks if chunk[0] is not sequence]
        if self._run is not None:
            self._reconsider()

    def advance(self, now_s: float) -> list[Event]:
        """End every iteration due by now_s; return the events since the last call, by time."""
        self._catch_up(now_s)
        events, self._events = self._events, []
        return events

    @property
    def step_end_s(self) -> float | None:
        """When the iteration in flight ends; `None` while idle."""
        return None if self._run is None else self._run.end_s(self._done + 1)

    @property
    def next_event_s(self) -> float | None:
        """The earliest time of the next event if no request comes or goes; `None` while idle.

        Exact while the batch only decodes. Otherwise it is the end of the iteration in flight,
        which may bring no event (a part of a long prompt): advance to it and ask again.
        """
        if self._events:
            return self._now_s
        return None if self._run is None else self._run.end_s(self._run.length)

    @property
    def delay_s(self) -> float:
        """Seconds from an event until a client sees it: the front end makes the text of an
        iteration while the next one runs."""
        if self._run is None:
            return self._frontend_s
        step_s = self._run.end_s(self._done + 1) - self._run.end_s(self._done)
        return self._frontend_s + self._frontend_steps * step_s

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_used(self) -> float:
        """The fraction of the KV tokens in use, the iteration in flight included."""
        return (self._context + self._reserved) / self._capacity

    def produced(self, key: Hashable) -> int:
        """Output tokens of a request as of the last advance. Raises KeyError for an unknown key."""
        sequence = self._running.get(key) or self._waiting[key]
        if sequence.finish is None:
            return sequence.produced
        return self._step - sequence.offset

    @property
    def _at_start(self) -> bool:
        """Whether the iteration in flight starts at this very moment."""
        return self._run is not None and self._run.end_s(self._done) == self._now_s

    def _catch_up(self, now_s: float) -> None:
        if now_s < self._now_s:
            raise InvalidValue(f"time runs backwards: {now_s} after {self._now_s}")
        self._now_s = now_s
        while self._run is not None:
            ended = self._run.ended(now_s)
            self._decode(ended - self._done)
            self._done = ended
            if ended < self._run.length:
                return
            end_s = self._run.end_s(ended)
            self._retire(end_s)
            self._join(end_s)
            self._compose(end_s)

    def _reconsider(self) -> None:
        """Compose anew after a request came or went, at the end of the iteration in flight."""
        if self._run is None or self._at_start:
            self._compose(self._now_s)
        else:
            self._run.length = self._done + 1

    def _decode(self, steps: int) -> None:
        self._step += steps
        self._context += steps * self._decoding
        self.generation_tokens += steps * self._decoding

    def _retire(self, end_s: float) -> None:
        """Take out the sequences whose last token this step produced."""
        while self._finishes and self._finishes[0][0] <= self._step:
            finish, _, sequence = heapq.heappop(self._finishes)
            if sequence.finish == finish:
                self._leave(sequence)
                self._events.append(LastToken(sequence.key, end_s))

    def _join(self, end_s: float) -> None:
        """Count the prompt chunks; a finished prompt yields its first token and then decodes."""
        for sequence, tokens in self._chunks:
            sequence.prefilled += tokens
            if sequence.prefilled < sequence.prompt:
                continue
            if sequence.produced == 0:
                self.prompt_tokens += sequence.input_tokens
                self._events.append(FirstToken(sequence.key, end_s))
            self.generation_tokens += 1
            if sequence.produced + 1 == sequence.output_tokens:
                self._leave(sequence)
                self._events.append(LastToken(sequence.key, end_s))
                continue
            self._prefilling.remove(sequence)
            self._reserved -= sequence.prompt
            sequence.produced += 1
            self._decoding += 1
            self._context += sequence.prompt
            sequence.offset = self._step - sequence.produced
            sequence.finish = sequence.offset + sequence.output_tokens
            self._ticket += 1
            heapq.heappush(self._finishes, (sequence.finish, self._ticket, sequence))

    def _leave(self, sequence: Sequence) -> None:
        """Take a running sequence out of the batch and free its KV."""
        del self._running[sequence.key]
        if sequence.finish is None:
            self._prefilling.remove(sequence)
            self._reserved -= sequence.prompt
        else:
            sequence.produced = self._step - sequence.offset
            sequence.finish = None
            self._decoding -= 1
            self._context -= sequence.prompt

    def _preempt(self) -> None:
        """While the KV overflows, put the sequence admitted last back in front of the queue.

        vLLM V1 preempts by recomputation: the sequence keeps its tokens and loses its KV.
        """
        while self._context + self._reserved > self._capacity:
            sequence = self._running[next(reversed(self._running))]
            self._leave(sequence)
            sequence.prefilled = sequence.cached
            self._waiting[sequence.key] = sequence
            self._waiting.move_to_end(sequence.key, last=False)
            self.preemptions += 1

    def _admit(self) -> None:
        """Fill the token budget with prompt chunks: begun prompts first, then the queue."""
        budget = self._budget - self._decoding
        self._chunks = []
        for sequence in self._prefilling:
            tokens = min(sequence.prompt - sequence.prefilled, budget)
            self._chunks.append((sequence, tokens))
            budget -= tokens
        while budget > 0 and self._waiting and len(self._running) < self._seats:
            sequence = next(iter(self._waiting.values()))
            if self._context + self._reserved + sequence.prompt > self._capacity:
                return
            del self._waiting[sequence.key]
            self._running[sequence.key] = sequence
            self._prefilling.append(sequence)
            self._reserved += sequence.prompt
            tokens = min(sequence.prompt - sequence.prefilled, budget)
            self._chunks.append((sequence, tokens))
            budget -= tokens

    def _compose(self, start_s: float) -> None:
        """Schedule what starts at start_s: one mixed iteration, or a stretch that only decodes."""
        self._preempt()
        self._admit()
        self._done = 0
        if self._chunks:
            self._run = DecodeRun(start_s, self._mixed_s(), 0.0, 0.0, 1)
        elif self._decoding:
            batch, times = self._decoding, self._times
            # A preempted or aborted sequence leaves a stale entry in the heap.
            while self._finishes[0][2].finish != self._finishes[0][0]:
                heapq.heappop(self._finishes)
            room = (self._capacity - self._context) // batch + 1
            length = min(self._finishes[0][0] - self._step, room)
            host_s = times.host_s(batch)
            first_s = times.kernels_s(batch, batch) + times.context_s * self._context + host_s
            floor_s = times.decode_floor_s + host_s
            self._run = DecodeRun(start_s, first_s, times.context_s * batch, floor_s, length)
        else:
            self._run = None

    def _mixed_s(self) -> float:
        tokens, squares, prompts = self._decoding, 0, 0
        for sequence, count in self._chunks:
            end = sequence.prefilled + count
            tokens += count
            squares += end * end - sequence.prefilled * sequence.prefilled
            prompts += end == sequence.prompt
        step_s = self._times.mixed_s(tokens, self._decoding, self._context, squares)
        return step_s + self._request_s * prompts

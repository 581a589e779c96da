"""One backend's continuous batching with chunked prefill, advanced from event to event.

Owns the scheduler of vLLM V1 as arithmetic: who runs, who waits, who is preempted, and when each
iteration ends. Time is an argument. Knows profiles, and nothing of HTTP, SLOs or routing.

A stretch of iterations that only decode, with nobody to admit, takes `Σ_j max(a + r·j, floor)`
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
    """The request's first output token exists from at_s on."""

    key: Hashable
    at_s: float


@dataclass(frozen=True, slots=True)
class LastToken:
    """The request's last output token exists from at_s on; the engine has forgotten the key."""

    key: Hashable
    at_s: float


Event = FirstToken | LastToken


class Sequence:
    """One request. While it decodes, it has produced `step − offset` tokens.

    produced: as of the last time it was not decoding. finish: the decode step of its last token,
    `None` unless it decodes.
    """

    __slots__ = (
        "finish",
        "input_tokens",
        "key",
        "offset",
        "output_tokens",
        "prefilled",
        "produced",
    )

    def __init__(self, key: Hashable, input_tokens: int, output_tokens: int) -> None:
        self.key = key
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.produced = 0
        self.prefilled = 0
        self.offset = 0
        self.finish: int | None = None

    @property
    def prompt(self) -> int:
        """Tokens to prefill: after a preemption also those it had produced."""
        return self.input_tokens + self.produced


class Engine:
    """One backend: an admission queue, a running batch, KV tokens, one iteration after another.

    Iterations are atomic: who is submitted or aborted while one is in flight counts from the next
    one on; at the very moment it starts, already for it. `advance` never looks at single tokens.
    Time never runs backwards; a call with an earlier time raises InvalidValue.

    longest: the most tokens (prompt and output) of one request. preemptions, prompt_tokens,
    generation_tokens: counted since the start; a prompt counts when its first token is out.
    """

    def __init__(self, profile: Profile) -> None:
        self._times = iteration_time(profile)
        self._request_s = self._times.request_s
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

    def submit(self, key: Hashable, *, input_tokens: int, output_tokens: int, now_s: float) -> None:
        """A request arrives. Raises InvalidValue for a known key or a size it can never hold."""
        if key in self._waiting or key in self._running:
            raise InvalidValue(f"already submitted: {key!r}")
        if input_tokens < 1 or output_tokens < 1 or input_tokens + output_tokens > self.longest:
            size = f"{input_tokens} in, {output_tokens} out"
            raise InvalidValue(f"both at least 1, together at most {self.longest}: {size}")
        self._catch_up(now_s)
        self._waiting[key] = Sequence(key, input_tokens, output_tokens)
        # Behind others that wait it changes nothing: they are blocked until somebody leaves.
        if self._run is None or len(self._waiting) == 1 or self._at_start:
            self._reconsider()

    def abort(self, key: Hashable, now_s: float) -> None:
        """The client has gone: the key is forgotten at once and its KV freed. Unknown keys pass."""
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
        """Ends every iteration due by now_s; what happened since the last call, in time order."""
        self._catch_up(now_s)
        events, self._events = self._events, []
        return events

    @property
    def step_end_s(self) -> float | None:
        """When the iteration in flight ends; `None` while idle."""
        return None if self._run is None else self._run.end_s(self._done + 1)

    @property
    def next_event_s(self) -> float | None:
        """Before this nothing can happen unless somebody comes or goes; `None` while idle.

        Exact while the batch only decodes. Otherwise the end of the iteration in flight, which may
        bring no event yet (part of a long prompt): advance to it and ask again.
        """
        if self._events:
            return self._now_s
        return None if self._run is None else self._run.end_s(self._run.length)

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
        """Whether nothing of the iteration in flight has passed."""
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
        """Somebody came or went: the composition holds to the end of the iteration in flight."""
        if self._run is None or self._at_start:
            self._compose(self._now_s)
        else:
            self._run.length = self._done + 1

    def _decode(self, steps: int) -> None:
        self._step += steps
        self._context += steps * self._decoding
        self.generation_tokens += steps * self._decoding

    def _retire(self, end_s: float) -> None:
        """Takes out who has produced the last token in this step."""
        while self._finishes and self._finishes[0][0] <= self._step:
            finish, _, sequence = heapq.heappop(self._finishes)
            if sequence.finish == finish:
                self._leave(sequence)
                self._events.append(LastToken(sequence.key, end_s))

    def _join(self, end_s: float) -> None:
        """Books the prompt chunks; a finished prompt yields its first token and decodes."""
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
        """Takes a running sequence out of the batch and frees its KV."""
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
        """While the KV overflows, the last one admitted goes back to the front of the queue."""
        while self._context + self._reserved > self._capacity:
            sequence = self._running[next(reversed(self._running))]
            self._leave(sequence)
            sequence.prefilled = 0
            self._waiting[sequence.key] = sequence
            self._waiting.move_to_end(sequence.key, last=False)
            self.preemptions += 1

    def _admit(self) -> None:
        """Fills the token budget with prompt chunks: those begun, then the queue in its order."""
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
            tokens = min(sequence.prompt, budget)
            self._chunks.append((sequence, tokens))
            budget -= tokens

    def _compose(self, start_s: float) -> None:
        """Schedules what starts at start_s: one mixed iteration or a stretch of decoding ones."""
        self._preempt()
        self._admit()
        self._done = 0
        if self._chunks:
            self._run = DecodeRun(start_s, self._mixed_s(), 0.0, 0.0, 1)
        elif self._decoding:
            batch, pace = self._decoding, self._times
            while self._finishes[0][2].finish != self._finishes[0][0]:
                heapq.heappop(self._finishes)
            room = (self._capacity - self._context) // batch + 1
            length = min(self._finishes[0][0] - self._step, room)
            host_s = pace.host_s(batch)
            first_s = pace.kernels_s(batch, batch) + pace.context_s * self._context + host_s
            floor_s = pace.decode_floor_s + host_s
            self._run = DecodeRun(start_s, first_s, pace.context_s * batch, floor_s, length)
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

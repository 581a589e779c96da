"""One backend's continuous batching, advanced from event to event.

Owns the engine's scheduler as arithmetic: which sequences run, wait or are preempted, and when each
iteration ends. Time is an argument. Knows profiles, and nothing of HTTP, SLOs or routing.

How prompts and answers share iterations is a property of the engine's kind (`hardware.Schedule`):

- mixed: one token of every answer, and chunks of prompts with what is left of the token budget
  (vLLM V1; TensorRT-LLM's in-flight batching).
- prefill-first: while prompts have room, chunks of them alone (SGLang without mixed chunks).
- whole-prompts: the same, uncut (vLLM V0 without chunked prefill).
- alternating: uncut, and after each such iteration at least one of answers; prompts wait until they
  are `WORTHWHILE` times as many as the answers, or for `PATIENCE` iterations (TGI).

A stretch of iterations that only decode and admit no sequence takes `Σ_j max(a + r·j, floor)`
seconds: a sum in closed form. So the work is O(log batch) per request and not O(1) per token.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Hashable

from planner.engine.hardware import PATIENCE, WORTHWHILE
from planner.engine.iteration import DecodeRun, iteration_time
from planner.engine.profiles import Profile
from planner.engine.sequence import FirstToken as FirstToken
from planner.engine.sequence import LastToken as LastToken
from planner.engine.sequence import Moment as Moment
from planner.engine.sequence import Sequence
from planner.errors import InvalidValue


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
        self._budget = profile.prompt_budget
        self._mixes = profile.schedule == "mixed"
        self._alternates = profile.schedule == "alternating"
        self._cuts = profile.schedule in ("mixed", "prefill-first")
        self.longest: int = min(profile.max_model_len, self._capacity)
        self.preemptions = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self._now_s = -math.inf
        self._events: list[Moment] = []
        self._waiting: OrderedDict[Hashable, Sequence] = OrderedDict()
        self._running: dict[Hashable, Sequence] = {}  # in the order of admission
        self._prefilling: list[Sequence] = []  # those of the running that have no token yet
        self._decoding = 0
        self._context = 0  # Σ (input + produced) of the decoding: their KV in this iteration
        self._reserved = 0  # KV tokens of the prefilling
        self._step = 0  # iterations so far in which sequences decoded
        self._prefilled_at = 0  # the decode step before the last iteration of prompts alone
        self._finishes: list[tuple[int, int, Sequence]] = []  # heap; stale entries stay in it
        self._ticket = 0
        self._run: DecodeRun | None = None
        self._done = 0  # iterations of the run that have ended
        self._alone = False  # whether the run is an iteration of prompts alone
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
        cached = min(max(cached_tokens, 0), input_tokens - 1) if cached_tokens else 0
        self._waiting[key] = Sequence(key, input_tokens, output_tokens, cached)
        # Behind other waiting requests it changes nothing: admission is in order, and the first of
        # them is blocked until a sequence leaves. Unless it waited for company.
        run, behind = self._run, len(self._waiting) > 1 and not self._alternates
        if not behind or run is None or run.end_s(self._done) == now_s:
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

    def advance(self, now_s: float) -> list[Moment]:
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
        return None if self._run is None else self._run.last_s

    @property
    def delay_s(self) -> float:
        """Seconds from an event until a client sees it: the front end makes the text of an
        iteration while the next one runs."""
        run = self._run
        if run is None:
            return self._frontend_s
        done, length = self._done, run.length
        step_s = (run.last_s if length == 1 else run.end_s(done + 1)) - run.end_s(done)
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

    def _catch_up(self, now_s: float) -> None:
        if now_s < self._now_s:
            raise InvalidValue(f"time runs backwards: {now_s} after {self._now_s}")
        self._now_s = now_s
        run = self._run
        while run is not None:
            if now_s < run.last_s:
                if run.length > 1:
                    ended = run.ended(now_s)
                    self._decode(ended - self._done)
                    self._done = ended
                return
            if not self._alone:
                self._decode(run.length - self._done)
            end_s = run.last_s
            if self._finishes and self._finishes[0][0] <= self._step:
                self._retire(end_s)
            if self._chunks:
                self._join(end_s)
            self._compose(end_s)
            run = self._run

    def _reconsider(self) -> None:
        """Compose anew after a request came or went, at the end of the iteration in flight."""
        run = self._run
        if run is None or run.end_s(self._done) == self._now_s:
            self._compose(self._now_s)
        elif run.length > self._done + 1:
            run.cut(self._done + 1)

    def _decode(self, steps: int) -> None:
        tokens = steps * self._decoding
        self._step += steps
        self._context += tokens
        self.generation_tokens += tokens

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
            prompt, produced = sequence.prompt, sequence.produced
            if sequence.prefilled < prompt:
                continue
            if produced == 0:
                self.prompt_tokens += sequence.input_tokens
                self._events.append(FirstToken(sequence.key, end_s))
            self.generation_tokens += 1
            if produced + 1 == sequence.output_tokens:
                self._leave(sequence)
                self._events.append(LastToken(sequence.key, end_s))
                continue
            self._prefilling.remove(sequence)
            self._reserved -= prompt
            sequence.produced = produced + 1
            sequence.prompt = prompt + 1
            self._decoding += 1
            self._context += prompt + 1
            sequence.offset = self._step - produced - 1
            sequence.finish = finish = sequence.offset + sequence.output_tokens
            self._ticket += 1
            heapq.heappush(self._finishes, (finish, self._ticket, sequence))

    def _leave(self, sequence: Sequence) -> None:
        """Take a running sequence out of the batch and free its KV."""
        del self._running[sequence.key]
        if sequence.finish is None:
            self._prefilling.remove(sequence)
            self._reserved -= sequence.prompt
        else:
            sequence.produced = self._step - sequence.offset
            sequence.prompt = sequence.input_tokens + sequence.produced
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

    def _patient(self) -> bool:
        """Whether an alternating engine goes on to decode although prompts wait."""
        since = self._step - self._prefilled_at
        if not self._decoding or since >= PATIENCE:
            return False
        return since == 0 or len(self._waiting) < int(WORTHWHILE * self._decoding)

    def _admit(self) -> list[tuple[Sequence, int]]:
        """Fill the token budget with prompts or chunks of them: begun ones first, then the queue;
        return them with their tokens."""
        chunks: list[tuple[Sequence, int]] = []
        budget = self._budget - self._decoding if self._mixes else self._budget
        for sequence in self._prefilling:
            tokens = min(sequence.prompt - sequence.prefilled, budget)
            chunks.append((sequence, tokens))
            budget -= tokens
        while budget > 0 and self._waiting and len(self._running) < self._seats:
            key, sequence = next(iter(self._waiting.items()))
            prompt = sequence.prompt
            tokens = prompt - sequence.prefilled
            if self._context + self._reserved + prompt > self._capacity:
                break
            if tokens > budget and not self._cuts:
                break
            tokens = min(tokens, budget)
            del self._waiting[key]
            self._running[key] = sequence
            self._prefilling.append(sequence)
            self._reserved += prompt
            chunks.append((sequence, tokens))
            budget -= tokens
        return chunks

    def _compose(self, start_s: float) -> None:
        """Schedule what starts at start_s: one iteration with prompts, or some that only decode."""
        if self._context + self._reserved > self._capacity:
            self._preempt()
        self._done, self._alone = 0, False
        if self._prefilling or (self._waiting and not (self._alternates and self._patient())):
            self._chunks = self._admit()
        elif self._chunks:
            self._chunks = []
        if self._chunks:
            self._alone = not self._mixes
            self._prefilled_at = self._step
            self._run = DecodeRun(start_s, self._prompts_s(), 0.0, 0.0, 1)
        elif self._decoding:
            batch, rise_s = self._decoding, self._times.context_s
            kernels_s, host_s, floor_s = self._times.decode_s(batch)
            first_s = kernels_s + rise_s * self._context + host_s
            length = self._stretch(batch)
            self._run = DecodeRun(start_s, first_s, rise_s * batch, floor_s, length)
        else:
            self._run = None

    def _stretch(self, batch: int) -> int:
        """For how many iterations the batch stays as it is."""
        # A preempted or aborted sequence leaves a stale entry in the heap.
        while self._finishes[0][2].finish != self._finishes[0][0]:
            heapq.heappop(self._finishes)
        room = (self._capacity - self._context) // batch + 1
        length = min(self._finishes[0][0] - self._step, room)
        if self._alternates and self._waiting and self._patient():
            since = self._step - self._prefilled_at
            length = min(length, PATIENCE - since) if since else 1
        return length

    def _prompts_s(self) -> float:
        """Seconds of an iteration with these chunks of prompts."""
        tokens, squares, prompts = 0, 0, 0
        for sequence, count in self._chunks:
            start, end = sequence.prefilled, sequence.prefilled + count
            tokens += count
            squares += end * end - start * start
            if end == sequence.prompt:
                prompts += 1
        times, decoding = self._times, self._decoding
        if self._mixes:
            step_s = times.mixed_s(tokens + decoding, decoding, self._context, squares)
        else:
            step_s = times.mixed_s(tokens, 0, 0, squares)
        return step_s + self._request_s * prompts

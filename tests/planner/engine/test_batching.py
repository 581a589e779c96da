"""The pure engine: schedulers as arithmetic, checked against ones that count every token."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import catalogue
from planner.engine.batching import Engine, FirstToken, LastToken
from planner.engine.capacity import hits
from planner.engine.hardware import ENGINES
from planner.engine.iteration import IterationTime
from planner.engine.profiles import analytic
from planner.engine.roofline import roofline
from planner.errors import InvalidValue

GPU = catalogue.gpus()["H100"]
MODEL = catalogue.models()["Llama-3-8B"]


def profile(
    kv_tokens=None, seats=4, budget=16, decode_floor_s=0.0, longest=10**6, schedule="mixed"
):
    """An H100 with Llama-3-8B whose KV holds `kv_tokens`."""
    kind = replace(ENGINES["vllm-v0"], decode_floor_s=decode_floor_s, schedule=schedule)
    if kv_tokens is not None:
        whole = roofline(GPU, MODEL, kind)
        spare = (whole.kv_capacity - kv_tokens) * MODEL.kv_elements * whole.kv_bytes
        kind = replace(kind, reserve_bytes=kind.reserve_bytes + spare)
    return analytic(
        roofline(GPU, MODEL, kind),
        max_num_seqs=seats,
        max_num_batched_tokens=budget,
        max_model_len=longest,
    )


def floor_s(batch, context):
    """A floor per layer that a batch crosses when its context grows beyond `context`."""
    pace = IterationTime(roofline(GPU, MODEL, ENGINES["vllm-v0"]))
    return (pace.kernels_s(batch, batch) + pace.context_s * context) / MODEL.layers


class Naive:
    """The same scheduler, one iteration and one token at a time, straight from its description."""

    def __init__(self, profile):
        self.profile, self.roofline = profile, profile.roofline
        self.schedule = profile.schedule
        self.budget = max(profile.max_num_batched_tokens, profile.max_num_seqs)
        if self.schedule in ("whole-prompts", "alternating"):
            self.budget = max(self.budget, profile.max_model_len)
        self.alone, self.steps = False, 0  # of answers since the last iteration of prompts
        self.waiting, self.running = [], []
        self.start_s, self.end_s, self.chunks = None, None, []
        self.events, self.preemptions = [], 0

    def compose(self, start_s):
        while sum(r["kv"] for r in self.running) > self.roofline.kv_capacity:
            last = self.running.pop()
            last.update(todo=last["in"] + last["made"], kv=0, done=0)
            self.waiting.insert(0, last)
            self.preemptions += 1
        decoding = [r for r in self.running if r["todo"] == 0]
        self.chunks = []
        if not self.patient(decoding):
            self.admit(self.budget - len(decoding) if self.schedule == "mixed" else self.budget)
        self.alone = (
            bool(self.chunks) and self.schedule != "mixed"
        )  # the answers wait for the prompts
        if self.chunks:
            self.steps = 0
        self.start_s = start_s
        self.end_s = start_s + self.duration(decoding) if self.running else None

    def patient(self, decoding):
        if self.schedule != "alternating" or not decoding or self.steps >= 20:
            return False
        return self.steps == 0 or len(self.waiting) < int(0.3 * len(decoding))

    def admit(self, budget):
        for r in self.running:
            if r["todo"]:
                self.chunks.append((r, min(r["todo"], budget)))
                budget -= self.chunks[-1][1]
        while budget and self.waiting and len(self.running) < self.profile.max_num_seqs:
            used, todo = sum(r["kv"] for r in self.running), self.waiting[0]["todo"]
            if used + todo > self.roofline.kv_capacity:
                break
            if todo > budget and self.schedule in ("whole-prompts", "alternating"):
                break
            r = self.waiting.pop(0)
            r["kv"] = r["todo"]
            self.running.append(r)
            self.chunks.append((r, min(r["todo"], budget)))
            budget -= self.chunks[-1][1]

    def duration(self, decoding):
        beside = [] if self.alone else decoding
        step_s = self.roofline.step_s(
            len(beside) + sum(n for _, n in self.chunks),
            len(beside),
            sum(r["kv"] for r in beside),
            sum((r["done"] + n) ** 2 - r["done"] ** 2 for r, n in self.chunks),
            prefill=bool(self.chunks),
        )
        ready = sum(r["todo"] == n for r, n in self.chunks)
        return float(step_s) + ready * self.roofline.engine.request_s

    def run(self, now_s):
        while self.end_s is not None and self.end_s <= now_s:
            end_s = self.end_s
            decoded = [] if self.alone else [r for r in self.running if r["todo"] == 0]
            self.steps += 0 if self.alone else 1
            for r in decoded:
                self.token(r, end_s)
            for r, n in self.chunks:
                if r in self.running:
                    r["todo"] -= n
                    r["done"] += n
                    if r["todo"] == 0:
                        self.token(r, end_s)
            self.compose(end_s)

    def token(self, r, end_s):
        r["made"] += 1
        r["kv"] = r["in"] + r["made"]
        if r["made"] == 1:
            self.events.append(FirstToken(r["key"], end_s))
        if r["made"] == r["out"]:
            self.running.remove(r)
            self.events.append(LastToken(r["key"], end_s))

    def change(self, now_s):
        if self.end_s is None or self.start_s == now_s:
            self.compose(now_s)

    def submit(self, key, *, input_tokens, output_tokens, now_s):
        self.run(now_s)
        size = {"in": input_tokens, "out": output_tokens, "todo": input_tokens}
        self.waiting.append({"key": key, "made": 0, "kv": 0, "done": 0, **size})
        self.change(now_s)

    def abort(self, key, now_s):
        self.run(now_s)
        self.waiting = [r for r in self.waiting if r["key"] != key]
        self.running = [r for r in self.running if r["key"] != key]
        self.chunks = [(r, n) for r, n in self.chunks if r["key"] != key]
        if self.end_s is not None:
            self.change(now_s)


gaps = st.one_of(st.just(0.0), st.floats(0.0, 0.05), st.floats(0.0, 1.5))
arrivals = st.tuples(gaps, st.integers(1, 60), st.integers(1, 40), st.none() | gaps)
profiles = st.builds(
    profile,
    kv_tokens=st.sampled_from([100, 130, 200, 1000]),
    seats=st.integers(1, 6),
    budget=st.integers(1, 64),
    decode_floor_s=st.just(0.0) | st.builds(floor_s, st.integers(1, 5), st.integers(0, 150)),
    longest=st.sampled_from([100, 10**6]),
    schedule=st.sampled_from(["mixed", "prefill-first", "whole-prompts", "alternating"]),
)


def end_iteration(engine: Engine) -> None:
    """Advances to the end of the iteration in flight."""
    assert engine.step_end_s is not None
    engine.advance(engine.step_end_s)


def calls(requests):
    """Submits and aborts in time order: (at_s, key, size), an abort without a size."""
    timed: list[tuple[float, int, tuple[int, int] | None]] = []
    at_s = 0.0
    for key, (gap_s, inputs, outputs, patience_s) in enumerate(requests):
        at_s += gap_s
        timed.append((at_s, key, (inputs, outputs)))
        if patience_s is not None:
            timed.append((at_s + patience_s, key, None))
    return sorted(timed, key=lambda call: call[0])


def play(engine, timed):
    for at_s, key, size in timed:
        if size is None:
            engine.abort(key, at_s)
        else:
            engine.submit(key, input_tokens=size[0], output_tokens=size[1], now_s=at_s)


def moments(events):
    return sorted((str(event.key), type(event).__name__, event.at_s) for event in events)


@settings(max_examples=300, deadline=None)
@given(profiles, st.lists(arrivals, min_size=1, max_size=12))
def test_closed_form_equals_counting_every_token(profile, requests):
    """Leaping over decode iterations gives the times of an engine that takes them one by one."""
    engine, naive = Engine(profile), Naive(profile)
    timed = calls(requests)

    play(engine, timed)
    play(naive, timed)
    events = engine.advance(1e4)
    naive.run(1e4)

    got, expected = moments(events), moments(naive.events)
    assert [row[:2] for row in got] == [row[:2] for row in expected]
    assert [row[2] for row in got] == pytest.approx([row[2] for row in expected], rel=1e-9)
    assert engine.preemptions == naive.preemptions
    assert [event.at_s for event in events] == sorted(event.at_s for event in events)


@settings(max_examples=100, deadline=None)
@given(profiles, st.lists(arrivals, min_size=1, max_size=12))
def test_everything_submitted_finishes_or_was_aborted(profile, requests):
    """No request is lost, none finishes twice, and all KV is free again at the end."""
    engine = Engine(profile)
    timed = calls(requests)

    play(engine, timed)
    finished = [event.key for event in engine.advance(1e4) if isinstance(event, LastToken)]

    aborted = {key for _, key, size in timed if size is None}
    assert len(finished) == len(set(finished))
    assert set(range(len(requests))) - aborted <= set(finished)
    assert (engine.running, engine.waiting, engine.kv_used) == (0, 0, 0.0)
    assert engine.step_end_s is None
    assert engine.next_event_s is None


@settings(max_examples=100, deadline=None)
@given(profiles, st.lists(arrivals, min_size=1, max_size=10))
def test_small_steps_equal_one_leap(profile, requests):
    """How often the engine is looked at changes nothing: not one bit of one event."""
    leaping, stepping = Engine(profile), Engine(profile)
    timed = calls(requests)
    stepped = []

    play(leaping, timed)
    for call in [*timed, None]:
        until_s = 1e4 if call is None else call[0]
        while (end_s := stepping.step_end_s) is not None and end_s <= until_s:
            stepped += stepping.advance(end_s)
            assert 0 < stepping.kv_used <= 1 or stepping.running == 0
        if call is not None:
            play(stepping, [call])

    assert stepped + stepping.advance(1e4) == leaping.advance(1e4)


@settings(max_examples=60, deadline=None)
@given(profiles, st.lists(arrivals, min_size=1, max_size=8))
def test_next_event_is_never_late(profile, requests):
    """Waking only at next_event_s meets every event at its own time."""
    engine = Engine(profile)
    play(engine, [call for call in calls(requests) if call[0] == 0.0])

    while (next_s := engine.next_event_s) is not None:
        for event in engine.advance(next_s):
            assert event.at_s == next_s


def test_a_lone_request_takes_its_prefill_and_its_decode_steps():
    """TTFT is one prefill of the prompt; then each token is one decode step of one sequence."""
    shape = profile(budget=2048)
    engine, roofline = Engine(shape), shape.roofline

    engine.submit("a", input_tokens=1000, output_tokens=3, now_s=5.0)
    first, finished = engine.advance(6.0)

    ttft_s = float(roofline.prefill_s(1000.0)) + roofline.engine.request_s
    decode_s = float(roofline.decode_s(1.0, 1001.0) + roofline.decode_s(1.0, 1002.0))
    assert first.at_s == pytest.approx(5.0 + ttft_s, rel=1e-12)
    assert finished.at_s == pytest.approx(5.0 + ttft_s + decode_s, rel=1e-12)


@pytest.mark.parametrize("cached", [0, 16, 600, 999, 1000, 5000])
def test_the_formula_of_prefix_hits_is_that_of_the_engine(cached: int):
    """What hits is not computed, but attention reads it; the last token is always computed."""
    shape = profile(budget=2048)
    engine, roofline = Engine(shape), shape.roofline

    engine.submit("a", input_tokens=1000, output_tokens=2, now_s=5.0, cached_tokens=cached)
    first, _ = engine.advance(6.0)

    prefill_s = float(roofline.prefill_s(1000.0, float(hits(1000.0, cached))))
    assert first.at_s == pytest.approx(5.0 + prefill_s + roofline.engine.request_s, rel=1e-12)


def test_a_long_prompt_is_prefilled_in_chunks():
    """A prompt of 2½ budgets has its first token at the end of the third iteration."""
    shape = profile(budget=1000)
    engine, roofline = Engine(shape), shape.roofline

    engine.submit("a", input_tokens=2500, output_tokens=1, now_s=0.0)
    first, _ = engine.advance(9.0)

    chunks = [(0, 1000), (1000, 2000), (2000, 2500)]
    steps_s = [
        float(roofline.step_s(end - start, 0, 0, end**2 - start**2, prefill=True))
        for start, end in chunks
    ]
    assert first.at_s == pytest.approx(sum(steps_s) + roofline.engine.request_s, rel=1e-12)


def test_decoding_goes_on_while_a_prompt_is_prefilled():
    """Chunked prefill: the running sequence gets a token in every iteration, long prompt or not."""
    engine = Engine(profile(budget=100))
    engine.submit("old", input_tokens=10, output_tokens=100, now_s=0.0)
    end_iteration(engine)
    assert engine.step_end_s is not None
    engine.submit("new", input_tokens=990, output_tokens=5, now_s=engine.step_end_s)
    before = engine.produced("old")

    for _ in range(10):
        end_iteration(engine)

    assert engine.produced("old") - before == 10
    assert engine.produced("new") == 1


@pytest.mark.parametrize(
    ("kind", "iterations", "tokens"),
    [("vllm-v1", 10, 10), ("sglang", 10, 0), ("vllm-v0", 1, 0), ("tgi", 1, 0)],
)
def test_answers_wait_for_a_prompt_as_the_engine_has_it(kind, iterations, tokens):
    """Beside a prompt of ten budgets: V1 goes on with the answer, SGLang prefills ten chunks first,
    V0 and TGI the whole prompt at once."""
    schedule = ENGINES[kind].schedule
    engine = Engine(profile(budget=100, longest=2000, schedule=schedule))
    engine.submit("old", input_tokens=10, output_tokens=100, now_s=0.0)
    end_iteration(engine)
    end_iteration(engine)  # an answer of TGI's has its turn first
    now_s = engine.step_end_s
    assert now_s is not None
    prompt = (100 - (kind == "vllm-v1")) * 10
    engine.submit("new", input_tokens=prompt, output_tokens=5, now_s=now_s)
    before = engine.produced("old")

    for _ in range(iterations):
        assert engine.produced("new") == 0
        end_iteration(engine)

    assert engine.produced("new") == 1
    assert engine.produced("old") - before == tokens


def test_few_prompts_wait_for_company_in_an_alternating_engine():
    """Beside ten answers a prompt waits for twenty iterations, or until there are three; and after
    prompts the answers have their turn."""
    waits = []
    for others in (0, 2):
        engine = Engine(profile(seats=20, longest=500, schedule="alternating"))
        for key in range(10):
            engine.submit(key, input_tokens=10, output_tokens=200, now_s=0.0)
        end_iteration(engine)
        before, now_s = engine.produced(0), engine.step_end_s
        assert now_s is not None
        for key in range(10, 11 + others):
            engine.submit(key, input_tokens=10, output_tokens=2, now_s=now_s)
        while engine.produced(10) == 0:
            end_iteration(engine)
        waits.append(engine.produced(0) - before)

    assert waits == [20, 1]


def test_an_arrival_waits_for_the_iteration_in_flight():
    """Iterations are atomic: who comes during one is scheduled when it has ended."""
    engine = Engine(profile(budget=2048))
    engine.submit("a", input_tokens=1000, output_tokens=9, now_s=0.0)
    end_s = engine.step_end_s
    assert end_s is not None

    engine.submit("b", input_tokens=10, output_tokens=1, now_s=end_s / 2)

    assert (engine.running, engine.waiting) == (1, 1)
    assert engine.step_end_s == end_s
    engine.advance(end_s)
    assert (engine.running, engine.waiting) == (2, 0)


def test_arrivals_of_one_moment_share_an_iteration():
    """Requests submitted at the same time are prefilled together, whoever asks in between."""
    engine = Engine(profile(budget=2048))

    for key in "abc":
        engine.submit(key, input_tokens=100, output_tokens=2, now_s=1.0)
        assert engine.next_event_s is not None
    firsts = [event.at_s for event in engine.advance(9.0) if isinstance(event, FirstToken)]

    assert len(firsts) == 3
    assert len(set(firsts)) == 1


def test_overflowing_kv_preempts_the_last_admitted():
    """When the KV is full the newest sequence is recomputed later and keeps its tokens."""
    engine = Engine(profile(kv_tokens=100, budget=128, seats=2))
    engine.submit("old", input_tokens=40, output_tokens=50, now_s=0.0)
    engine.submit("new", input_tokens=40, output_tokens=50, now_s=0.0)

    while engine.preemptions == 0:
        end_iteration(engine)
    had = engine.produced("new")
    finished = [event.key for event in engine.advance(99.0) if isinstance(event, LastToken)]

    assert had == 11  # 2 × (40 + 11) is the first need above 100
    assert finished == ["old", "new"]
    assert engine.preemptions == 1
    assert engine.generation_tokens == 100
    assert engine.prompt_tokens == 80


def test_counters_count_tokens():
    """Prompt tokens count with the first token, generated tokens as they come."""
    engine = Engine(profile(budget=2048))
    engine.submit("a", input_tokens=100, output_tokens=7, now_s=0.0)

    seen = []
    while engine.step_end_s is not None:
        engine.advance(engine.step_end_s)
        seen.append((engine.prompt_tokens, engine.generation_tokens))

    assert seen == [(100, made) for made in range(1, 8)]


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 1), (1, 0), (100, 1), (50, 51)])
def test_what_can_never_run_is_refused(inputs, outputs):
    """A request that no empty engine could hold is refused at once and does not block others."""
    engine = Engine(profile(kv_tokens=100))

    with pytest.raises(InvalidValue, match="together at most 100"):
        engine.submit("a", input_tokens=inputs, output_tokens=outputs, now_s=0.0)

    assert engine.waiting == 0


def test_a_key_lives_once_and_time_runs_forwards():
    """A key in use and a time in the past are errors of the caller."""
    engine = Engine(profile())
    engine.submit("a", input_tokens=1, output_tokens=1, now_s=1.0)

    with pytest.raises(InvalidValue, match="already"):
        engine.submit("a", input_tokens=1, output_tokens=1, now_s=1.0)
    with pytest.raises(InvalidValue, match="backwards"):
        engine.advance(0.5)

"""Virtual time: when each request is served, against theory, by hand, and always the same."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import catalogue
from planner.engine.hardware import ENGINES
from planner.engine.profiles import analytic
from planner.engine.roofline import roofline
from planner.errors import InvalidValue
from planner.proof.simulate import SimulationResult, simulate
from planner.proof.timeline import FirstCome
from planner.slo import Slo
from planner.traffic.trace import Trace

MODEL = catalogue.models()["Llama-3-8B"]
PROMPT_S, TOKEN_S = 1.0, 0.5  # every iteration with a prompt in it, every other one


def profile(seats=4, longest=4000):
    """An engine slow enough that every iteration takes the floor: whole numbers to reckon with."""
    engine = replace(
        ENGINES["vllm-v0"],
        prefill_floor_s=PROMPT_S / MODEL.layers,
        decode_floor_s=TOKEN_S / MODEL.layers,
        iteration_s=0.0,
        sequence_s=0.0,
        request_s=0.0,
        schedule="mixed",
    )
    return analytic(
        roofline(catalogue.gpus()["H100"], MODEL, engine),
        max_num_seqs=seats,
        max_num_batched_tokens=512,
        max_model_len=longest,
    )


def make_trace(*rows):
    """Rows of arrival_s, input_tokens, output_tokens."""
    arrival_s, inputs, outputs = np.array(rows, dtype=float).reshape(-1, 3).T
    return Trace(
        arrival_s=arrival_s, input_tokens=inputs, output_tokens=outputs, key=("",) * len(rows)
    )


@dataclass
class Placement:
    """A placement that writes into its router's log."""

    backend: int
    request: int
    log: list

    def prefilled(self):
        self.log.append(("prefilled", self.request))

    def release(self):
        self.log.append(("release", self.request))


class LoggingRouter:
    """Routes request i to `i mod backends`, at most `seats` of them at once if given."""

    def __init__(self, backends=1, seats=None):
        self.backends, self.seats, self.log = backends, seats, []

    def route(self, request, now_s):
        if self.seats and self.placed >= self.seats:
            return None
        self.log.append(("place", request))
        return Placement(request % self.backends, request, self.log)

    @property
    def placed(self):
        return sum(what == "place" for what, _ in self.log) - len(self.released)

    @property
    def released(self):
        return [request for what, request in self.log if what == "release"]

    def on_finished(self, request, now_s):
        self.log.append((f"finished at {now_s:g}", request))


def test_two_requests_worked_out_by_hand():
    """A prompt waits for the iteration in flight, then slows down what decodes beside it."""
    trace = make_trace((0.0, 10, 3), (1.2, 10, 2))

    result = simulate(trace, [profile()], FirstCome(LoggingRouter().route))

    # 0–1 prompt of 0; 1–1.5 decode 0; 1.5–2.5 decode 0 (its last) and prompt of 1; 2.5–3 decode 1
    assert result.ttft_s == pytest.approx([1.0, 1.3])
    assert result.tpot_s == pytest.approx([0.75, 0.5])
    assert result.backend.tolist() == [0, 0]


def test_engines_do_not_disturb_each_other():
    """On a backend of its own each request takes what it takes alone."""
    trace = make_trace((0.0, 10, 3), (1.2, 10, 2), (1.2, 10, 1))

    result = simulate(trace, [profile()] * 3, FirstCome(LoggingRouter(backends=3).route))

    assert result.ttft_s == pytest.approx([1.0, 1.0, 1.0])
    assert result.tpot_s == pytest.approx([0.5, 0.5, np.nan], nan_ok=True)
    assert result.backend.tolist() == [0, 1, 2]


def test_a_placement_is_told_in_order():
    """Placed, first token, release, then the callback for the end, at the time of the end."""
    router = LoggingRouter()

    simulate(
        make_trace((2.0, 10, 3)),
        [profile()],
        FirstCome(router.route),
        on_finished=router.on_finished,
    )

    assert router.log == [("place", 0), ("prefilled", 0), ("release", 0), ("finished at 4", 0)]


def test_what_ends_at_an_arrival_has_made_room_for_it():
    """At one moment engines come before arrivals."""
    trace = make_trace((0.0, 10, 1), (1.0, 10, 1))

    result = simulate(trace, [profile()], FirstCome(LoggingRouter(seats=1).route))

    assert result.ttft_s == pytest.approx([1.0, 1.0])


def test_without_patience_no_room_means_shed():
    """A request that is not routed has no times and no backend, and missed its SLO."""
    trace = make_trace((0.0, 10, 1), (0.5, 10, 1))

    result = simulate(trace, [profile()], FirstCome(LoggingRouter(seats=1).route))

    assert result.backend.tolist() == [0, -1]
    assert np.isnan(result.ttft_s[1])
    assert np.isnan(result.tpot_s[1])
    assert result.met(Slo(ttft_s=9, tpot_s=9)).tolist() == [True, False]


class OnTime:
    """A dispatch that places its requests by the clock alone."""

    def __init__(self, times_s):
        self.times_s, self.asked_s, self.log = dict(enumerate(times_s)), [], []

    def arrive(self, request, now_s):
        return ()

    def room(self, now_s):
        self.asked_s.append(now_s)
        due = [request for request, at_s in self.times_s.items() if at_s <= now_s]
        for request in due:
            del self.times_s[request]
        return [(request, 0, Placement(0, request, self.log)) for request in due]

    def due_s(self):
        return min(self.times_s.values(), default=np.inf)


def test_what_is_due_by_the_clock_is_asked_for():
    """A dispatch is asked at its own time, between tokens and after the last arrival too."""
    trace = make_trace((0.0, 10, 1), (0.1, 10, 1))

    result = simulate(trace, [profile()], OnTime([1.5, 9.0]))

    assert result.ttft_s == pytest.approx([2.5, 9.9])


def test_the_patient_wait_their_turn():
    """A queued request starts when another ends, first come, first served, or is shed in time."""
    trace = make_trace((0.0, 10, 3), (0.1, 10, 1), (0.2, 10, 1), (0.3, 10, 1))

    result = simulate(trace, [profile()], FirstCome(LoggingRouter(seats=1).route, 3.0))

    # 0 ends at 2, 1 at 3, 2 at 4: by then 3 has waited for more than three seconds.
    assert result.ttft_s == pytest.approx([1.0, 2.9, 3.8, np.nan], nan_ok=True)
    assert result.backend.tolist() == [0, 0, 0, -1]


def test_what_no_engine_can_hold_is_refused_and_leaves_nothing():
    """A request longer than its backend's context is shed and its placement released."""
    router = LoggingRouter()

    result = simulate(
        make_trace((0.0, 90, 20), (0.0, 90, 10)), [profile(longest=100)], FirstCome(router.route)
    )

    assert result.backend.tolist() == [-1, 0]
    assert sorted(router.released) == [0, 1]


def test_no_requests_is_no_trouble():
    """An empty trace has an empty result."""
    assert len(simulate(make_trace(), [profile()], FirstCome(LoggingRouter().route))) == 0


def test_arrivals_must_ascend():
    """A trace out of order is an error and not a wrong answer."""
    with pytest.raises(InvalidValue, match="ascend"):
        simulate(
            make_trace((1.0, 9, 9), (0.0, 9, 9)), [profile()], FirstCome(LoggingRouter().route)
        )


def test_one_seat_is_an_m_d_1_queue():
    """Poisson arrivals at one server of constant service: Pollaczek and Khinchine's mean wait."""
    load, count = 0.6, 20_000
    arrival_s = np.cumsum(np.random.default_rng(3).exponential(PROMPT_S / load, count))
    trace = make_trace(*((at_s, 10, 1) for at_s in arrival_s))

    result = simulate(trace, [profile(seats=1)], FirstCome(LoggingRouter().route))

    wait_s = result.ttft_s.mean() - PROMPT_S
    assert wait_s == pytest.approx(load * PROMPT_S / (2 * (1 - load)), rel=0.05)


REQUESTS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 900), st.integers(1, 60)), min_size=1, max_size=30
)


@settings(max_examples=40, deadline=None)
@given(REQUESTS, st.integers(1, 3), st.integers(1, 8), st.sampled_from([0.0, 2.0, np.inf]))
def test_nothing_is_lost_and_nothing_is_left(rows, backends, seats, patience_s):
    """Every request is served once or shed; placements are released once; the served have times."""
    trace = make_trace(*sorted((at / 4, i, o) for at, i, o in rows))
    router = LoggingRouter(backends, seats)

    result = simulate(trace, [profile()] * backends, FirstCome(router.route, patience_s))

    served = np.flatnonzero(result.backend >= 0)
    assert sorted(router.released) == served.tolist()
    assert np.all(result.ttft_s[served] >= PROMPT_S - 1e-9)
    assert np.isfinite(result.tpot_s[served]).tolist() == (trace.output_tokens[served] > 1).tolist()
    assert np.all(np.isnan(result.ttft_s[result.backend < 0]))
    assert patience_s < np.inf or len(served) == len(trace)


@settings(max_examples=15, deadline=None)
@given(REQUESTS)
def test_the_same_input_gives_the_same_bytes(rows):
    """No clock, no chance, no order of a set: two runs agree in every bit."""
    trace = make_trace(*sorted((at / 4, i, o) for at, i, o in rows))

    first, second = (
        simulate(trace, [profile()] * 2, FirstCome(LoggingRouter(2, 9).route)) for _ in range(2)
    )

    for name in ("ttft_s", "tpot_s", "backend"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_attainment_leaves_out_the_first_requests():
    """The start, when the fleet is empty, does not count; one without TPOT met that target."""
    result = SimulationResult(
        ttft_s=np.array([9.0, 1.0, 1.0, np.nan]),
        tpot_s=np.array([0.1, np.nan, 0.3, np.nan]),
        backend=np.array([0, 0, 0, -1]),
    )
    slo = Slo(ttft_s=2.0, tpot_s=0.2)

    assert result.attainment(slo, skip=0.0) == 0.25
    assert result.attainment(slo, skip=0.25) == pytest.approx(1 / 3)
    with pytest.raises(InvalidValue, match="no requests"):
        result.attainment(slo, skip=1.0)


def test_prefix_hits_are_not_computed():
    """Where 60 % of each prompt hit, the first token comes sooner; with none, nothing changes."""
    profile = analytic(
        roofline(catalogue.gpus()["H100"], MODEL, ENGINES["vllm-v1"]),
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=16_384,
    )
    trace = make_trace(*((n * 0.5, 8000, 20) for n in range(40)))

    def play(share):
        hits = replace(trace, cached_tokens=share * trace.input_tokens)
        router = LoggingRouter()
        return simulate(hits, [profile], FirstCome(router.route)).ttft_s

    assert play(0.0).tolist() == simulated_without_hits(trace, profile).tolist()
    assert play(0.6).mean() < 0.6 * play(0.0).mean()
    assert (play(1.0) > 0).all()


def simulated_without_hits(trace, profile):
    """The TTFT of a trace that has no column of hits."""
    bare = make_trace(*zip(trace.arrival_s, trace.input_tokens, trace.output_tokens, strict=True))
    return simulate(bare, [profile], FirstCome(LoggingRouter().route)).ttft_s

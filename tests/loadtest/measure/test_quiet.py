"""A backend that serves others is found by its metrics, or by timing that contradicts itself."""

import msgspec
import pytest

from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.served import EmulatedModel
from loadtest.measure.load import Load, LoadPoint
from loadtest.measure.quiet import Gauges, contradiction, read_gauges, seats, strangers
from planner.engine.batching import Engine
from planner.engine.profiles import find_profile

LOAD = Load(input_tokens=100, output_tokens=50, users=8)
SGLANG = """# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="a b, c"} 3.0
sglang:num_queue_reqs{model_name="a b, c"} 2.0
sglang:token_usage{model_name="a b, c"} 0.25
sglang:max_total_num_tokens{model_name="a b, c"} 4096.0
"""
TGI = "tgi_batch_current_size 5\ntgi_queue_size 1\n"


def gauges(running: int, waiting: int = 0, kv_used: float = 0.1) -> Gauges:
    return Gauges(running=running, waiting=waiting, kv_used=kv_used, kv_tokens=None)


def point(users: int, tpot_s: float, spread: float = 1.1) -> LoadPoint:
    return LoadPoint(
        load=msgspec.structs.replace(LOAD, users=users),
        input_tokens=100, output_tokens=50, rate=1.0, ttft_s=0.1, tpot_s=tpot_s, spread=spread,
        seconds=1.0,
    )  # fmt: skip


def test_the_page_of_a_vllm_says_what_it_serves_and_what_fits(tmp_path):
    """Running, waiting, KV in use, and the tokens that fit, from its blocks."""
    profile = find_profile("llama-3-8b/H100", tmp_path)
    engine = Engine(profile)
    for key in range(3):
        engine.submit(key, input_tokens=1000, output_tokens=10, now_s=0.0)
    served = EmulatedModel(names=("llama",), max_model_len=engine.longest)
    page = VllmMetrics(engine, served, profile.kv_capacity).page().decode()

    found = read_gauges(page)

    assert found is not None
    assert (found.running + found.waiting, found.requests) == (3, 3)
    assert found.kv_tokens == profile.kv_capacity // 16 * 16
    assert found.kv_used == pytest.approx(engine.kv_used)


def test_the_pages_of_other_engines_are_read():
    """SGLang's and TGI's names; a page of something else is no engine's."""
    assert read_gauges(SGLANG) == Gauges(running=3, waiting=2, kv_used=0.25, kv_tokens=4096)
    assert read_gauges(TGI) == Gauges(running=5, waiting=1, kv_used=None, kv_tokens=None)
    assert read_gauges("up 1\nnot a sample at all\n") is None


def test_more_requests_than_users_are_somebody_elses():
    """Running and waiting together, at any look."""
    assert strangers(LOAD, [gauges(8), gauges(5, waiting=3)]) is None
    assert "serves 9 requests" in (strangers(LOAD, [gauges(8), gauges(5, waiting=4)]) or "")


def test_a_full_batch_shows_the_seats_of_the_engine():
    """Requests wait again and again beside a batch of the same size, and memory is free."""
    assert seats(LOAD, [gauges(6, 2), gauges(8), gauges(6, 2), gauges(6, 2)]) == 6
    assert seats(LOAD, [gauges(6, 2), gauges(7, 1), gauges(5, 3)]) is None
    assert seats(LOAD, [gauges(6, 2, kv_used=0.97)] * 3) is None


def told(*measured: LoadPoint) -> str:
    """Why these cannot be believed, all of them."""
    doubt = contradiction(measured)
    assert doubt is not None
    assert set(doubt.again) == set(measured)
    return doubt.text


def test_a_stream_that_was_held_back_is_no_measurement():
    """All tokens at once have no time between them. An engine may send some together."""
    assert contradiction([msgspec.structs.replace(point(4, 0.01), at_once=10.0)]) is None
    assert "91 tokens" in told(msgspec.structs.replace(point(4, 1e-5), at_once=91.0))


def test_timing_that_no_lonely_engine_has_is_a_contradiction():
    """Faster with more users, or one user's requests that differ by half."""
    assert contradiction([point(1, 0.010), point(4, 0.0098), point(8, 0.012)]) is None
    assert "with 4 users" in told(point(1, 0.02), point(4, 0.01))
    assert "2.0 times as long" in told(point(1, 0.02, spread=2.0))
    assert contradiction([point(8, 0.02, spread=2.0)]) is None

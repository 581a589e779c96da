"""What an engine's page says of it, whatever else is on the page."""

from pathlib import Path

import pytest

from gateway.control.engine_metrics import read
from gateway.proxy.engines import SGLANG, TGI, VLLM, metric_names
from loadtest.emulator.server import Emulator
from planner.engine.profiles import find_profile

VLLM_PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1.2e+06
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 300000.0
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0
"""


def found(page, engine="vllm", models=("m",)):
    return read(page, metric_names(engine), models=models, at_s=7.0)


def values(state):
    assert state is not None
    return (
        state.running, state.waiting, state.kv_used, state.kv_tokens, state.hits, state.queries,
        state.sleeping,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["vllm", None])
def test_a_page_of_vllm_is_read(engine):
    """By its names, in which longer names begin as shorter ones do; also where the configuration
    does not name the engine."""
    state = found(VLLM_PAGE, engine)

    assert values(state) == (3, 2, 0.25, 16_000, 300_000, 1_200_000, False)
    assert (state.requests, state.at_s) == (5, 7.0)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
@pytest.mark.parametrize("named", [True, False])
async def test_the_page_of_every_emulated_engine_is_read(engine, named):
    """Their names, as they are on the wire; TGI tells no KV cache."""
    profile = find_profile("llama-3-8b/H100", Path())
    emulator = Emulator(profile, "m", engine=engine)
    await emulator.start()
    page = emulator._page()
    await emulator.stop()

    state = found(page, engine if named else None)

    running, waiting, *others = values(state)
    assert (running, waiting) == (0, 0)
    unknown = {"vllm": 0, "sglang": 1, "tgi": 5}[engine]
    assert others.count(None) == unknown


def test_the_ranks_of_data_parallelism_are_one_backend():
    """Sequences and tokens add up, of the share in use it is the mean; asleep is who is not awake
    anywhere."""
    second = VLLM_PAGE.replace(b'engine="0"', b'engine="1"').replace(b" 0.25", b" 0.75")
    asleep = second.replace(b'"awake"} 1.0', b'"awake"} 0.0')

    assert values(found(VLLM_PAGE + second)) == (6, 4, 0.5, 32_000, 600_000, 2_400_000, False)
    assert found(VLLM_PAGE + asleep).sleeping is False
    assert found(asleep).sleeping is True


def test_ranks_that_tell_the_same_of_one_engine_count_once():
    """Those of tensor parallelism; the ranks of data parallelism beside them add up."""
    page = b"".join(
        b'sglang:num_running_reqs{dp_rank="%d",model_name="m",tp_rank="%d"} 4\n' % (dp, tp)
        for dp, tp in ((0, 0), (0, 1), (1, 2), (1, 3))
    )

    assert found(page, "sglang").running == 8


def test_what_another_model_has_does_not_count():
    """Where ours is on the page; else the page has a name that the configuration does not know."""
    other = VLLM_PAGE.replace(b'model_name="m"', b'model_name="other"').replace(b" 3.0", b" 40.0")

    assert found(other + VLLM_PAGE).running == 3
    assert found(other).running == 40


@pytest.mark.parametrize(
    "number", [b"NaN", b"+Inf", b"-Inf", b"-1", b"", b"many", b"1e300"], ids=str
)
def test_what_is_no_number_is_not_known(number):
    """Prometheus' format allows NaN and infinity."""
    page = VLLM_PAGE.replace(b'"m"} 2.0\n', b'"m"} ' + number + b"\n", 1)

    assert found(page).waiting is None
    assert found(page).running == 3


def test_a_time_after_the_number_is_no_part_of_it():
    """The format allows one."""
    page = b"tgi_queue_size 2 1700000000000\ntgi_batch_current_size 1 17\n"

    assert found(page, "tgi").waiting == 2


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\x00\xff{",
        b"<html>",
        b"vllm:num_requests_running_total 3",
        b"tgi_queue_size",
    ],
    ids=str,
)
def test_a_page_without_the_names_says_nothing(page):
    """Another server's, or an engine that was started without metrics."""
    assert found(page, None) is None


def test_a_brace_in_a_label_ends_nothing():
    """Names of models are free text."""
    page = b'vllm:num_requests_running{model_name="a} \\"b{"} 5\n'

    assert found(page, models=()).running == 5


def test_engines_have_names_for_both_numbers():
    """What is in flight there can be told of each engine."""
    for dialect in (VLLM, SGLANG, TGI):
        assert dialect.metrics.running
        assert dialect.metrics.waiting

"""What engines say of their limits."""

import pytest

from gateway.preflight.limits import limits, path
from planner.engine.limits import EngineLimits
from planner.engine.profiles import find_profile
from planner.shipped import folder

INFO = b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="%b"%b} 1.0\n'


@pytest.mark.parametrize(
    ("engine", "body", "told"),
    [
        (None, b"# HELP\n" + INFO % (b"1000", b""), EngineLimits(kv_tokens=16_000)),
        ("vllm", INFO % (b"9", b',kv_cache_size_tokens="500"'), EngineLimits(kv_tokens=500)),
        ("vllm", INFO % (b"None", b""), EngineLimits()),
        ("vllm", b"<html>", EngineLimits()),
        ("sglang", b'{"max_total_num_tokens":7000,"internal_states":[{"max_running_requests":40}]}',
         EngineLimits(kv_tokens=7000, sequences=40)),
        ("sglang", b'{"max_running_requests":null}', EngineLimits()),
        ("tgi", b'{"max_total_tokens":4096,"max_batch_total_tokens":90000}',
         EngineLimits(context=4096, kv_tokens=90_000)),
        ("tgi", b"[]", EngineLimits()),
        ("tgi", b"\xff", EngineLimits()),
    ],
)  # fmt: skip
def test_each_engine_tells_them_in_its_own_way(engine, body, told):
    """And what cannot be read says nothing."""
    assert limits(engine, body) == told
    assert path(engine).startswith("/")


def test_only_tighter_limits_change_a_profile():
    """Beyond its profile nobody has measured what an engine does."""
    profile = find_profile("llama-3-8b/H100", folder())
    tight = EngineLimits(context=1024, kv_tokens=5000, sequences=8).within(profile)
    wide = EngineLimits(context=10**6, kv_tokens=10**9, sequences=10**6).within(profile)

    assert (tight.max_model_len, tight.kv_capacity, tight.max_num_seqs) == (1024, 5000, 8)
    assert wide == profile
    assert EngineLimits().within(profile) == profile


def test_a_pool_can_do_what_each_of_its_engines_can():
    """What one does not say, the other does."""
    both = EngineLimits(context=4, kv_tokens=9).least(EngineLimits(context=5, sequences=2))

    assert both == EngineLimits(context=4, kv_tokens=9, sequences=2)

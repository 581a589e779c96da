"""What affinity is worth: engines' own caches, and the gateway beside affinity alone."""

from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import Loaded, load
from loadtest.compare.affinity import affinity_plays
from loadtest.compare.engine_caches import EngineCache
from loadtest.compare.prefixes import TOKEN_BYTES, conversations, hot_prompt, read_prefixes
from planner.engine.batching import Engine
from planner.engine.profiles import find_profile
from planner.errors import InvalidFile, InvalidValue

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(CONFIGS / "demo.yaml")


def test_an_engine_has_what_it_computed_until_it_needs_the_room():
    """Whole blocks from the first on, never the last token; what was used least goes first."""
    profile = find_profile("llama-3-8b/H100", CONFIGS)
    cache = EngineCache(Engine(profile), profile, profile.kv_capacity // 4)

    assert cache.take((1, 2), 1_000) == 0
    assert cache.take((1, 2), 1_000) == 999
    assert cache.length((1, 3)) == 1
    cache.take((4, 5, 6), 1_000)
    assert cache.length((1, 2)) == 1
    assert cache.length((4, 5, 6)) == 3


def test_texts_begin_alike_as_far_as_blocks_are_the_same():
    """A trace of numbers becomes bytes that the gateway's own hashes can tell apart."""
    traffic = hot_prompt(np.random.default_rng(1), rate=2.0, duration_s=5.0, system_tokens=512)
    one, other = traffic.text(0), traffic.text(1)

    shared = 512 * TOKEN_BYTES
    assert one[:shared] == other[:shared]
    assert one[shared : shared + 64] != other[shared : shared + 64]
    assert len(one) == TOKEN_BYTES * traffic.trace.input_tokens[0]


def test_turns_begin_as_those_before():
    """Each turn's prompt has all full blocks of the one before."""
    traffic = conversations(np.random.default_rng(1), rate=0.1, duration_s=200.0)
    ends = {blocks[-1]: blocks for blocks in traffic.blocks}

    assert len(ends) == len(traffic.blocks)
    assert (
        max(len(set(a) & set(b)) for a, b in zip(traffic.blocks, traffic.blocks[1:], strict=False))
        > 4
    )


def test_conversations_keep_most_hits_of_affinity_alone_and_all_promises(loaded: Loaded):
    """Four fifths of the hits that the best way without promises has, at no loss of attainment;
    and the prefill that the plan expects is what it comes to."""
    traffic = conversations(np.random.default_rng(3), rate=12.0, duration_s=45.0)
    plays, _ = affinity_plays(loaded, traffic, {"a100": 3})
    none, cuvee, _, longest, hashing = plays

    assert cuvee.hit_share > 0.8 * max(longest.hit_share, hashing.hit_share)
    assert cuvee.hit_share > 1.15 * none.hit_share
    assert cuvee.attainment >= none.attainment - 0.005
    assert cuvee.planned_over_actual == pytest.approx(1.0, abs=0.1)


def test_a_prompt_that_all_send_draws_them_to_no_one_backend(loaded: Loaded):
    """Hashing sends all to one; the gateway spreads them and has the hits all the same."""
    traffic = hot_prompt(np.random.default_rng(3), rate=60.0, duration_s=8.0)
    (none, cuvee, hashing), _ = affinity_plays(
        loaded, traffic, {"a100": 3}, ("none", "cuvee", "hashing")
    )

    assert cuvee.attainment >= none.attainment - 0.005
    assert cuvee.attainment > hashing.attainment
    assert cuvee.hit_share > 0.95 * none.hit_share


def test_events_tell_what_a_smaller_cache_forgets(loaded: Loaded):
    """Where engines keep less than their profile says, fewer requests go out of their way for a
    prompt of which nothing is left; hits and promises stay about the same."""
    traffic = conversations(np.random.default_rng(3), rate=30.0, duration_s=25.0)
    (cuvee, events), _ = affinity_plays(
        loaded, traffic, {"a100": 3}, ("cuvee", "cuvee-events"), cache_share=0.05
    )

    assert events.swayed < 0.8 * cuvee.swayed
    assert events.hit_share > 0.9 * cuvee.hit_share
    assert events.attainment >= cuvee.attainment - 0.005


def test_a_trace_with_blocks_is_read(tmp_path: Path):
    """Sizes and numbers of blocks of 512 tokens; without that column it says so."""
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,hash_ids\n0,600,5,7 8\n1,500,5,7\n")
    traffic = read_prefixes(path)
    assert traffic.blocks == ((7, 8), (7,))
    assert traffic.text(0).startswith(traffic.text(1))

    path.write_text("arrival_s,input_tokens,output_tokens\n0,600,5\n")
    with pytest.raises(InvalidFile, match="hash_ids"):
        read_prefixes(path)
    path.write_text("arrival_s,input_tokens,output_tokens,hash_ids\n0,600,5,x y\n")
    with pytest.raises(InvalidFile, match="whole numbers"):
        read_prefixes(path)


def test_a_pool_that_is_not_there_is_told(loaded: Loaded):
    """One line that says what there is."""
    traffic = hot_prompt(np.random.default_rng(1), rate=2.0, duration_s=5.0)

    with pytest.raises(InvalidValue, match="the pools are"):
        affinity_plays(loaded, traffic, {"b200": 1})

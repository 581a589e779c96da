"""Which beginnings of prompts an emulated engine knows."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache

WORDS = st.lists(st.sampled_from("ab"), max_size=5 * BLOCK_TOKENS)


def words(count, mark="w"):
    return [f"{mark}{n}" for n in range(count)]


def test_whole_blocks_of_a_known_beginning_are_hits():
    """What differs ends the beginning, whatever comes after it."""
    cache = PrefixCache(100)
    size = 4 * BLOCK_TOKENS
    first = words(size)
    second = [*first[: 2 * BLOCK_TOKENS + 3], "other", *first[2 * BLOCK_TOKENS + 4 :]]

    assert cache.find(first) == 0
    assert cache.find(second) == 2 * BLOCK_TOKENS
    assert cache.find([*first, "more"]) == size
    assert cache.find(words(size, "x")) == 0


def test_the_last_token_is_always_computed():
    """The same prompt again hits all whole blocks before its last token."""
    cache = PrefixCache(100)
    for count in (1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 2 * BLOCK_TOKENS):
        cache.find(words(count))

        assert cache.find(words(count)) == (count - 1) // BLOCK_TOKENS * BLOCK_TOKENS


def test_blocks_are_bounded():
    """What was used least recently is forgotten first."""
    cache = PrefixCache(4)
    one, two, three = (words(2 * BLOCK_TOKENS + 1, mark) for mark in "abc")
    for prompt in (one, two, one, three):
        cache.find(prompt)

    assert cache.find(one) == 2 * BLOCK_TOKENS
    assert cache.find(two) == 0


class Heard:
    """What a listener is told of the blocks that are there."""

    def __init__(self):
        self.blocks = set()
        self.stored_tokens = 0

    def stored(self, blocks, parent, tokens, block_tokens):
        assert not self.blocks & set(blocks)
        assert parent is None or parent in self.blocks
        assert len(tokens) == len(blocks) * block_tokens
        self.blocks |= set(blocks)

    def removed(self, blocks):
        assert set(blocks) <= self.blocks
        self.blocks -= set(blocks)

    def cleared(self):
        self.blocks = set()


def test_a_listener_knows_which_blocks_are_there():
    """New ones behind those that they follow, and those that were dropped."""
    cache, heard = PrefixCache(4), Heard()
    cache.listener = heard
    one, two = words(2 * BLOCK_TOKENS, "a"), words(3 * BLOCK_TOKENS, "b")
    for prompt in (one, [*one, *words(BLOCK_TOKENS)], two, one):
        cache.find(prompt)
        assert heard.blocks == set(cache._known)
    assert len(heard.blocks) == 4

    cache.clear()

    assert not heard.blocks


@given(st.lists(WORDS, max_size=8))
def test_hits_are_less_than_the_prompt(prompts):
    """Of any prompts; the counters are the sums."""
    cache = PrefixCache(7)
    hits = [cache.find(prompt) for prompt in prompts]

    assert all(0 <= hit < max(1, len(p)) for hit, p in zip(hits, prompts, strict=True))
    assert (cache.hits, cache.queries) == (sum(hits), sum(map(len, prompts)))

"""Which prompts an emulated engine has computed before, by blocks, as vLLM's prefix cache does it.

Knows tokens as the emulated tokenizer makes them; nothing of pace, HTTP or the KV of running
requests. A prompt counts as computed from its arrival on: a real engine has its blocks only once
they are prefilled.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

BLOCK_TOKENS = 16  # vLLM's KV block on GPUs; its CPU build has 128


class CacheListener(Protocol):
    """Hears what happens in a cache."""

    def stored(
        self, blocks: Sequence[int], parent: int | None, tokens: Sequence[str], block_tokens: int
    ) -> None: ...

    def removed(self, blocks: Sequence[int]) -> None: ...

    def cleared(self) -> None: ...


class PrefixCache:
    """Whole blocks of earlier prompts; the least recently used one is dropped first.

    queries, hits: tokens that were looked up and found since the start. listener: if any.
    """

    def __init__(self, blocks: int) -> None:
        """blocks: kept at most, each of `BLOCK_TOKENS` tokens."""
        self._blocks = blocks
        self._known: OrderedDict[int, None] = OrderedDict()
        self.queries = self.hits = 0
        self.listener: CacheListener | None = None

    def __repr__(self) -> str:
        return f"<PrefixCache {len(self._known)} of {self._blocks} blocks>"

    def clear(self) -> None:
        """Forget all prompts."""
        self._known.clear()
        if self.listener is not None:
            self.listener.cleared()

    def find(self, tokens: Sequence[str]) -> int:
        """The tokens of a prompt's longest known beginning, which from now on is all of it.

        Whole blocks only, and never the last token: it is computed to make the first of the answer.
        """
        chain = tuple(_chain(tokens))
        found = next((n for n, b in enumerate(chain) if b not in self._known), len(chain))
        known = [block in self._known for block in chain]
        for block in reversed(chain):  # so that the end of a prompt is forgotten before its begin
            self._known[block] = None
            self._known.move_to_end(block)
        dropped = []
        while len(self._known) > self._blocks:
            dropped.append(self._known.popitem(last=False)[0])
        if self.listener is not None:
            self._tell(self.listener, tokens, chain, known, dropped)
        most = (len(tokens) - 1) // BLOCK_TOKENS
        cached = BLOCK_TOKENS * max(0, min(found, most))
        self.queries += len(tokens)
        self.hits += cached
        return cached

    def _tell(
        self,
        listener: CacheListener,
        tokens: Sequence[str],
        chain: Sequence[int],
        known: Sequence[bool],
        dropped: list[int],
    ) -> None:
        """Tell of a prompt: what was dropped for it, then what is new, run by run. known: which of
        its blocks were there before."""
        if dropped:
            listener.removed(dropped)
        begin = 0
        for is_known, run in groupby(known):
            end = begin + len(tuple(run))
            if not is_known:
                parent = chain[begin - 1] if begin else None
                part = tokens[begin * BLOCK_TOKENS : end * BLOCK_TOKENS]
                listener.stored(chain[begin:end], parent, part, BLOCK_TOKENS)
            begin = end


def _chain(tokens: Sequence[str]) -> Iterator[int]:
    """A hash of each whole block and of all before it."""
    before = 0
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        before = hash((before, tuple(tokens[end - BLOCK_TOKENS : end])))
        yield before

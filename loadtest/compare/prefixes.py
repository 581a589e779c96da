"""Traffic whose prompts have beginnings in common: from a trace with hashes of blocks, or made.

A prompt is a list of numbers of blocks; two prompts with the same number have the same text up to
the end of that block. Knows no engine and no router.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import shake_128
from pathlib import Path

import numpy as np

from planner.errors import InvalidFile
from planner.sizes import IntArray
from planner.traffic.trace import Trace, read_trace

HASH_IDS = "hash_ids"
HASHED_TOKENS = 512  # of a block in Mooncake's traces (arXiv 2407.00079)
MADE_TOKENS = 64
TOKEN_BYTES = 4  # of the text that stands for a token
HOT = 0  # the number of the first block of a prompt that all others have too


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrefixTrace:
    """A trace and the blocks of its prompts. blocks: (N,) numbers, the last block of a prompt
    perhaps not full. block_tokens: of a full one."""

    trace: Trace
    blocks: tuple[tuple[int, ...], ...]
    block_tokens: int

    def take(self, rows: IntArray) -> "PrefixTrace":
        """These rows, in this order."""
        blocks = tuple(self.blocks[row] for row in rows.tolist())
        return replace(self, trace=self.trace.take(rows), blocks=blocks)

    def at(self, speed: float) -> "PrefixTrace":
        """The same, so many times as fast."""
        return replace(self, trace=replace(self.trace, arrival_s=self.trace.arrival_s / speed))

    def text(self, request: int) -> bytes:
        """A text for the prompt of a request, which begins like that of another one exactly as far
        as their blocks are the same."""
        size = TOKEN_BYTES * int(self.trace.input_tokens[request])
        length = TOKEN_BYTES * self.block_tokens
        return b"".join(_text(block, length) for block in self.blocks[request])[:size]


@lru_cache(maxsize=1 << 14)
def _text(block: int, length: int) -> bytes:
    return shake_128(b"%d" % block).digest(length)


def read_prefixes(path: Path) -> PrefixTrace:
    """Read a trace with a column `hash_ids`, numbers of blocks of 512 tokens with blanks between
    them. Raises InvalidFile."""
    trace = read_trace(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if HASH_IDS not in (rows.fieldnames or ()):
            raise InvalidFile(f"{path}:1: no column `{HASH_IDS}`")
        try:
            blocks = tuple(tuple(map(int, (row[HASH_IDS] or "").split())) for row in rows)
        except ValueError:
            raise InvalidFile(f"{path}: `{HASH_IDS}` must be whole numbers") from None
    return PrefixTrace(trace=trace, blocks=blocks, block_tokens=HASHED_TOKENS)


def conversations(
    rng: np.random.Generator, *, rate: float, duration_s: float, system_tokens: int = 256
) -> PrefixTrace:
    """Conversations of 1 to 12 turns. Each turn's prompt is all before it, and some hundred tokens
    more; between an answer and the next question are 20 s on average. All have one system prompt.

    rate: requests/s.
    """
    turns = 6.5
    rows: list[tuple[float, int, int, tuple[int, ...]]] = []
    number = HOT + system_tokens // MADE_TOKENS
    for start_s in _arrivals(rng, rate / turns, duration_s):
        at_s, blocks, tokens = start_s, list(range(HOT, number_of(system_tokens))), system_tokens
        for _ in range(int(rng.integers(1, 13))):
            tokens += int(rng.lognormal(5.0, 1.0)) + 8
            while len(blocks) * MADE_TOKENS < tokens:
                number += 1
                blocks.append(number)
            outputs = max(4, int(rng.lognormal(5.0, 0.7)))
            rows.append((at_s, tokens, outputs, tuple(blocks[: number_of(tokens)])))
            tokens += outputs
            at_s += 4.0 + rng.exponential(20.0)
    return _made(rows)


def hot_prompt(
    rng: np.random.Generator, *, rate: float, duration_s: float, system_tokens: int = 2048
) -> PrefixTrace:
    """Requests that have nothing in common but one long system prompt. rate: requests/s."""
    rows: list[tuple[float, int, int, tuple[int, ...]]] = []
    shared = tuple(range(HOT, number_of(system_tokens)))
    number = len(shared)
    for at_s in _arrivals(rng, rate, duration_s):
        tokens = system_tokens + int(rng.lognormal(5.0, 1.0)) + 8
        own = number_of(tokens) - len(shared)
        blocks = (*shared, *range(number, number + own))
        number += own
        rows.append((at_s, tokens, max(4, int(rng.lognormal(4.5, 0.7))), blocks))
    return _made(rows)


MADE: Mapping[str, Callable[..., PrefixTrace]] = {
    "conversations": conversations,
    "hot-prompt": hot_prompt,
}


def number_of(tokens: int) -> int:
    """Blocks that so many tokens fill, the last one perhaps in part."""
    return -(-tokens // MADE_TOKENS)


def _arrivals(rng: np.random.Generator, rate: float, duration_s: float) -> list[float]:
    count = rng.poisson(rate * duration_s)
    return sorted((rng.random(count) * duration_s).tolist())


def _made(rows: Sequence[tuple[float, int, int, tuple[int, ...]]]) -> PrefixTrace:
    rows = sorted(rows)
    return PrefixTrace(
        trace=Trace(
            arrival_s=np.array([row[0] for row in rows]),
            input_tokens=np.array([row[1] for row in rows], dtype=float),
            output_tokens=np.array([row[2] for row in rows], dtype=float),
            key=("",) * len(rows),
        ),
        blocks=tuple(row[3] for row in rows),
        block_tokens=MADE_TOKENS,
    )

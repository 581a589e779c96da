"""What one rank of an engine has in its prefix cache, by its own events. Pure.

How much it holds is what was stored less what was removed. How long it keeps a block is measured on
the gateway's clock of that engine (`routing/prefix_index`): a block that was stored at one time of
it and is removed now tells that what was noted up to that time is gone too, because engines forget
what was used least recently. A block that was used again is removed later than it was stored, never
earlier, so the latest times are the true ones; a few are taken for chance.

Only the last block of what is stored of a prompt at one time is followed: the end of a prompt is
forgotten before its beginning. Blocks of answers come singly, long after their prompt was noted,
and tell nothing.
"""

from collections.abc import Iterable
from heapq import heappush, heappushpop

from gateway.kv_events.frames import (
    BlockHash,
    BlocksCleared,
    BlocksRemoved,
    BlocksStored,
    CacheEvent,
)

DEVICE = "GPU"  # the medium of vLLM's and SGLang's device memory; older engines name none
PROMPT_TOKENS = 128  # stored at one time, one behind the other, are of a prompt
SURE = 4  # followed blocks at least as late as a time, that tell that all up to it is gone
MOST = 1 << 16  # blocks that are followed; a publisher that never removes any must not fill memory


class StoredRun:
    """Blocks that were stored one behind the other, in one event or in one for each of them."""

    __slots__ = ("_last", "_tokens")

    def __init__(self) -> None:
        self._last: BlockHash | None = None
        self._tokens = 0

    def add(self, event: BlocksStored) -> BlockHash | None:
        """Go on with an event. Returns the last block of the run before it, if this is another one
        and that was of a prompt."""
        if not event.block_hashes:
            return None
        before = None
        if event.parent_block_hash is None or event.parent_block_hash != self._last:
            before, self._tokens = self.end(), 0
        self._last = event.block_hashes[-1]
        self._tokens += event.block_size * len(event.block_hashes)
        return before

    def end(self) -> BlockHash | None:
        """The last block, if so much was stored at one time that it is of a prompt."""
        return self._last if self._tokens >= PROMPT_TOKENS else None


class CacheLedger:
    """One rank. whole: whether all was heard since its cache was empty."""

    __slots__ = ("_blocks", "_elsewhere", "_followed", "_gone", "_sizes", "_windows", "whole")

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self._blocks: dict[object, int] = {}  # by group of layers
        self._sizes: dict[object, int] = {}  # tokens of one block
        self._windows: set[object] = set()  # groups that keep the end of a sequence only
        self._followed: dict[BlockHash, int] = {}
        self._gone: list[int] = []  # the latest times of blocks that were removed; a heap
        self._elsewhere = False

    def __repr__(self) -> str:
        return f"<CacheLedger of {self.held_tokens} tokens>"

    @property
    def held_tokens(self) -> int | None:
        """Tokens in the cache, on the device; `None` if something was missed. Of several groups of
        layers, that with most: they are of the same tokens."""
        if not self.whole:
            return None
        return max((n * self._sizes[group] for group, n in self._blocks.items()), default=0)

    @property
    def edge(self) -> int | None:
        """The time of the clock up to which what was noted is gone; `None` if that is not known.
        An engine that keeps blocks in other memory too has them for longer than the device."""
        if len(self._gone) < SURE or self._elsewhere:
            return None
        return self._gone[0]

    def take(self, events: Iterable[CacheEvent], clock: int | None) -> bool:
        """Note a batch; whether the cache was cleared in it. clock: when what is stored by it was
        noted, `None` if it happened at some time before."""
        cleared = False
        run = StoredRun()
        for event in events:
            if isinstance(event, BlocksCleared):
                self._clear()
                cleared = True
            elif event.medium not in (None, DEVICE):
                self._elsewhere = self._elsewhere or isinstance(event, BlocksStored)
            elif isinstance(event, BlocksStored):
                group = _group(event)
                self._store(event, group)
                if clock is not None and group not in self._windows:
                    self._follow(run.add(event), clock)
            else:
                self._remove(event, _group(event))
        if clock is not None:
            self._follow(run.end(), clock)
        return cleared

    def lost(self) -> None:
        """Something was missed: how much it holds is not known until it is cleared."""
        self.whole = False
        self._followed.clear()  # whether they are still there is not known

    def _clear(self) -> None:
        self.whole = True
        self._blocks.clear()
        self._followed.clear()
        self._gone.clear()

    def _store(self, event: BlocksStored, group: object) -> None:
        self._sizes[group] = event.block_size
        self.whole = self.whole and event.block_size > 0
        self._blocks[group] = self._blocks.get(group, 0) + len(event.block_hashes)
        if isinstance(event.kv_cache_spec_sliding_window, int):
            self._windows.add(group)

    def _follow(self, block: BlockHash | None, clock: int) -> None:
        if block is not None and len(self._followed) < MOST:
            # A block may be there twice; the earlier time claims less.
            self._followed.setdefault(block, clock)

    def _remove(self, event: BlocksRemoved, group: object) -> None:
        left = self._blocks.get(group, 0) - len(event.block_hashes)
        if left < 0:  # it had more than was heard of
            self.whole = False
        self._blocks[group] = max(0, left)
        self._sizes.setdefault(group, 0)
        if group in self._windows:
            return
        for block in event.block_hashes:
            clock = self._followed.pop(block, None)
            if clock is not None:
                if len(self._gone) < SURE:
                    heappush(self._gone, clock)
                else:
                    heappushpop(self._gone, clock)


def _group(event: BlocksStored | BlocksRemoved) -> object:
    return event.group_idx if isinstance(event.group_idx, int) else None

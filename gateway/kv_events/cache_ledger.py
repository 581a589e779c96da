"""What one rank of an engine has in its prefix cache, by its own events. Pure.

How much it holds is what was stored less what was removed. How long it keeps a block is measured on
the gateway's clock of that engine (`routing/prefix_index`): a block that was stored at one time of
it and is removed now tells that what was noted up to that time is gone too, because engines forget
what was used least recently. A block that was used again is removed later than it was stored, never
earlier, so the latest times are the true ones; a few are taken for chance.
"""

from heapq import heappush, heappushpop

from gateway.kv_events.frames import (
    BlockHash,
    BlocksCleared,
    BlocksRemoved,
    BlocksStored,
    CacheEvent,
)

DEVICE = "GPU"  # the medium of vLLM's and SGLang's device memory; older engines name none
SAMPLE = 8  # of so many blocks, one is followed: 30 MB less for 64 engines of 30,000 blocks
SURE = 4  # followed blocks at least as late as a time, that tell that all up to it is gone
MOST = 1 << 16  # blocks that are followed; a publisher that never removes any must not fill memory


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

    def take(self, event: CacheEvent, clock: int | None) -> bool:
        """Note an event; whether the cache was cleared by it. clock: when what is stored by it was
        noted, `None` if it happened at some time before."""
        if isinstance(event, BlocksCleared):
            self._clear()
            return True
        if event.medium not in (None, DEVICE):
            self._elsewhere = self._elsewhere or isinstance(event, BlocksStored)
            return False
        group = event.group_idx if isinstance(event.group_idx, int) else None
        if isinstance(event, BlocksStored):
            self._store(event, group, clock)
        else:
            self._remove(event, group)
        return False

    def lost(self) -> None:
        """Something was missed: how much it holds is not known until it is cleared."""
        self.whole = False
        self._followed.clear()  # whether they are still there is not known

    def _clear(self) -> None:
        self.whole = True
        self._blocks.clear()
        self._followed.clear()
        self._gone.clear()

    def _store(self, event: BlocksStored, group: object, clock: int | None) -> None:
        self._sizes[group] = event.block_size
        self.whole = self.whole and event.block_size > 0
        self._blocks[group] = self._blocks.get(group, 0) + len(event.block_hashes)
        if isinstance(event.kv_cache_spec_sliding_window, int):
            self._windows.add(group)
        if clock is None or group in self._windows:
            return
        for block in event.block_hashes:
            # A block may be there twice; the earlier time claims less.
            if hash(block) % SAMPLE == 0 and len(self._followed) < MOST:
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

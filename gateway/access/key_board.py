"""What the keys of clients have used, in one array that the workers of a gateway share.

Each worker writes its own part and reads all of them. No lock is needed: a number is eight aligned
bytes, which x86-64 and arm64 write in one piece. The process that has the other gateways' numbers
writes one more part for them. Knows neither where the memory comes from nor what time it is.
"""

from typing import Any, Final

WINDOW_S: Final = 60.0
SLOTS: Final = 4096  # keys; as many as a configuration may have

# Numbers of a worker's part, by slot: the window, a minute of Unix time, with requests and tokens
# in it and in the one before; what is under way; and all since the start of the array.
WINDOW: Final = 0
REQUESTS: Final = 1
REQUESTS_BEFORE: Final = 2
TOKENS: Final = 3
TOKENS_BEFORE: Final = 4
UNDER_WAY: Final = 5
ALL_REQUESTS: Final = 6
ALL_TOKENS: Final = 7
# Of the last part, which is that of other gateways: the first six are their sums. Then up to which
# sums of all workers here requests may go until the gateways have spoken again, with the sum of
# tokens at that moment; when that was, Unix time; and dollars of all gateways, in a day of UTC. The
# first request after that moment may have so many tokens, or any number if it is a large one.
MAY_REQUESTS: Final = 6
MAY_TOKENS: Final = 7
MAY_UNDER_WAY: Final = 8
TOKENS_THEN: Final = 9
TOLD_S: Final = 10
USD: Final = 11
DAY: Final = 12
FIRST_TOKENS: Final = 13
LARGE_TOKENS: Final = 14
CELLS: Final = 16
CELL_BYTES: Final = 8


class KeyBoard:
    """The array. slots: keys that have room. workers: parts without that of other gateways. cells:
    the numbers, by slot, part and kind."""

    def __init__(self, memory: Any, *, workers: int, slots: int) -> None:
        """memory: a writable buffer of `doubles` doubles, all zero."""
        self.memory = memory
        self.workers = workers
        self.slots = slots
        self.stride = (workers + 1) * CELLS
        self.cells: memoryview[float] = memoryview(memory).cast("B").cast("d")

    def __repr__(self) -> str:
        return f"<KeyBoard of {self.slots} keys and {self.workers} workers>"

    def clear(self, worker: int) -> None:
        """A worker died, and its requests with it. What it had used stays used."""
        for slot in range(self.slots):
            at = slot * self.stride + worker * CELLS + UNDER_WAY
            if self.cells[at]:
                self.cells[at] = 0.0


def doubles(*, workers: int, slots: int) -> int:
    """The length of the array of a board."""
    return slots * (workers + 1) * CELLS


def own_board(slots: int = SLOTS) -> KeyBoard:
    """The board of a gateway of one process."""
    return KeyBoard(bytearray(8 * doubles(workers=1, slots=slots)), workers=1, slots=slots)

"""Which backend has which beginning of a prompt, as far as is known: a table of fixed size. Pure.

All workers of a machine may use one table in shared memory without locks: a cell is eight aligned
bytes, which x86-64 and arm64 write in one piece, and a lost write is one beginning less that is
known.

The clock of a backend is what its engine was given to keep: tokens. An engine forgets what was used
least recently when it needs the room; so what was noted is trusted until the clock has gone on by
as many tokens as the engine has room for. To forget all of a backend is to put its clock forward.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

CELLS: Final = 1 << 18  # 2 MiB; a prompt of 16 KiB takes 17
WAYS: Final = 4  # cells in which a hash may stand; a beginning may be known at as many backends
CELL_BYTES: Final = 8
SETS: Final = CELLS // WAYS - 1
SET_BITS: Final = 16
SPARE_BITS: Final = 44  # of a hash, beyond the set and the tag
TICK_BITS: Final = 10  # a tick of a clock is 1,024 tokens
# A cell: 26 bits of the hash, of which one is always set; 15 of the row; 20 of the clock, in ticks,
# which comes round after a thousand million tokens. 61 bits in all: what compiled code keeps
# without an object.
TICKS: Final = (1 << 20) - 1
ROW_SHIFT: Final = 20
ROWS: Final = (1 << 15) - 1
TAG_SHIFT: Final = 35
TAGS: Final = (1 << 26) - 1
SALT_BITS: Final = 60
SMALL: Final = (1 << 60) - 1
HOLES: Final = 1  # beginnings that may be missing between two that are known


class PrefixIndex:
    """The table.

    Layout, in eight bytes: (rows,) the clocks, tokens; then the cells; then the salt of the hashes.
    """

    __slots__ = ("_memory", "_read_set", "_spans", "rows")

    def __init__(self, memory: Any, *, rows: int) -> None:
        """memory: a writable buffer of `PrefixIndex.words` words of eight bytes. rows: of backends,
        as in a `Membership`; those of further ones are not noted."""
        self._memory: memoryview = memoryview(memory).cast("B").cast("Q")
        self.rows = min(rows, ROWS)
        self._spans = [0] * self.rows
        # All cells of a set in one call: compiled code pays 200 instructions for each call.
        self._read_set: Callable[[memoryview, int], tuple[int, ...]] = Struct(
            f"{WAYS}Q"
        ).unpack_from

    def __repr__(self) -> str:
        return f"<PrefixIndex of {self.rows} rows>"

    @staticmethod
    def words(*, rows: int) -> int:
        """The length of the buffer."""
        return rows + CELLS + 1

    @property
    def salt(self) -> int:
        """Of the hashes that are noted: the same in all processes, and known to nobody else."""
        salt: int = self._memory[-1]
        return salt

    @salt.setter
    def salt(self, salt: int) -> None:
        self._memory[-1] = salt

    def span(self, row: int, tokens: float) -> None:
        """Trust what is noted for a row until so many more tokens are."""
        if row < self.rows:
            self._spans[row] = min(TICKS // 2, int(tokens) >> TICK_BITS)

    def find(self, hashes: Sequence[int]) -> dict[int, int]:
        """How many beginnings of a prompt each row has that has any."""
        memory, rows, spans, read_set = self._memory, self.rows, self._spans, self._read_set
        found: dict[int, int] = {}
        depth = missing = 0
        for one in hashes:
            depth += 1
            at = rows + (one & SETS) * WAYS
            tag = (one >> SET_BITS) & TAGS | 1
            known = False
            for value in read_set(memory, CELL_BYTES * at):
                if value >> TAG_SHIFT != tag:
                    continue
                row = (value >> ROW_SHIFT) & ROWS
                if row < rows:
                    clock: int = memory[row]
                    if (((clock >> TICK_BITS) - value) & TICKS) < spans[row]:
                        found[row] = depth
                        known = True
            if known:
                missing = 0
            elif missing == HOLES or not found:
                break
            else:
                missing += 1
        return found

    def note(self, hashes: Sequence[int], row: int, tokens: int) -> None:
        """A backend was given a prompt with these beginnings. tokens: that its engine keeps from
        now on and did not before."""
        if row >= self.rows:
            return
        memory, rows, spans, read_set = self._memory, self.rows, self._spans, self._read_set
        clock: int = memory[row]
        clock = (clock + tokens) & SMALL
        memory[row] = clock
        tick = (clock >> TICK_BITS) & TICKS
        for one in hashes:
            at = rows + (one & SETS) * WAYS
            own = ((one >> SET_BITS) & TAGS | 1) << (TAG_SHIFT - ROW_SHIFT) | row
            # Where all four are in use, any of them goes, by bits that no cell keeps.
            place = at + (tick + (one >> SPARE_BITS)) % WAYS
            cell = at
            for value in read_set(memory, CELL_BYTES * at):
                whose = value >> ROW_SHIFT
                if value == 0 or whose == own:
                    place = cell
                    break
                other = whose & ROWS
                if other >= rows:
                    place = cell  # nothing is lost
                else:
                    its: int = memory[other]
                    if (((its >> TICK_BITS) - value) & TICKS) >= spans[other]:
                        place = cell  # nothing is lost
                cell += 1
            memory[place] = own << ROW_SHIFT | tick

    def forget(self, row: int) -> None:
        """Trust nothing that was noted for a row: its engine began anew, or it is another's now."""
        if row < self.rows:
            clock: int = self._memory[row]
            self._memory[row] = (clock + ((self._spans[row] + 1) << TICK_BITS)) & SMALL

    def clock(self, row: int) -> int:
        """The clock of a row, in tokens; 0 of a further one."""
        clock: int = self._memory[row] if row < self.rows else 0
        return clock

    def disbelieve(self, row: int, clock: int) -> None:
        """Trust nothing that was noted for a row before this time of its clock: its engine was seen
        to have forgotten what it had then. What was noted in the same tick, or later, is trusted as
        before."""
        if row < self.rows:
            due = ((clock >> TICK_BITS) + self._spans[row] - 1) << TICK_BITS
            if due > self._memory[row]:
                self._memory[row] = due & SMALL

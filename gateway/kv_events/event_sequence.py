"""The numbers of the batches of one publisher: which comes next, and which are missing. Pure."""

from enum import Enum


class Place(Enum):
    """Where a batch stands. NEXT: in its turn. GAP: others before it are missing. OLD: it was
    replayed already. ANEW: its publisher counts from the beginning again."""

    NEXT = "next"
    GAP = "gap"
    OLD = "old"
    ANEW = "anew"


class EventSequence:
    """expected: the number of the next batch."""

    __slots__ = ("_last", "expected")

    def __init__(self) -> None:
        self.expected = 0
        self._last = -1  # that came by itself, not as an answer

    def __repr__(self) -> str:
        return f"<EventSequence at {self.expected}>"

    def look(self, number: int) -> Place:
        """Where a batch stands that came by itself. Publishers send each once, in order: one that
        comes again is another publisher's."""
        last, self._last = self._last, number
        if number <= last:
            self.expected = 0
            return Place.ANEW
        if number < self.expected:
            return Place.OLD
        return Place.NEXT if number == self.expected else Place.GAP

    def taken(self, number: int) -> None:
        """This batch was taken."""
        self.expected = number + 1

"""The elements of a long list in JSON, some at a time. Pure.

Taking a list of 100,000 elements apart takes tens of milliseconds at once, in which nothing else is
served.
"""

from typing import Final

import msgspec

PART_BYTES: Final = 32_768  # of a list that are taken apart at once, and one element more
TRIES: Final = 8  # places where a list may be cut; then all of its rest is taken apart at once
ENDS: Final = {b'"': b'",', b"{": b"},", b"[": b"],"}  # how an element ends, by its first byte
BLANKS: Final = b" \t\r\n"
# What may have more elements than this is not taken apart: each takes a hundred bytes of memory. No
# engine has the context for so many. A smaller one than that cannot have so many.
MOST: Final = 500_000
LARGE: Final = 2 * MOST
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Elements:
    """The elements of one list, in their order.

    count: elements until now. depth: levels above them. uncounted: bytes that are not taken apart,
    because it would be too much.
    """

    __slots__ = ("_at", "_end", "_raw", "count", "depth", "uncounted")

    def __init__(self, raw: bytes, depth: int = 0) -> None:
        """raw: a list in valid JSON."""
        self._raw = raw
        self._at = 1
        self._end = ENDS.get(raw[1:PART_BYTES].lstrip(BLANKS)[:1], b",")
        self.count = self.uncounted = 0
        self.depth = depth
        if too_many(raw):
            self.uncounted, self._at = len(raw), len(raw)

    def __repr__(self) -> str:
        return f"<Elements of {len(self._raw)} bytes, {self.count} until now>"

    def more(self) -> list[msgspec.Raw]:
        """The next elements; empty after the last.

        A part of a list is cut where an element may end, and taken for a list of its own. It is
        valid JSON only if that was the end of an element.
        """
        raw, at = self._raw, self._at
        if at >= len(raw):
            return []
        end = at + PART_BYTES
        for _ in range(TRIES):
            end = raw.find(self._end, end) + 1
            if not end:
                break
            found = elements_of(b"[%b]" % raw[at:end])
            if found is not None:
                self._at = end + 1
                self.count += len(found)
                return found
        self._at = len(raw)
        found = elements_of(b"[" + raw[at:])
        if found is None:
            self.uncounted += len(raw) - at
            return []
        self.count += len(found)
        return found


def elements_of(raw: bytes) -> list[msgspec.Raw] | None:
    """The elements of a list; `None` if it is none."""
    try:
        return _LIST.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def too_many(raw: bytes) -> bool:
    """Whether JSON may have so many elements that taking it apart is too much."""
    return len(raw) > LARGE and raw.count(b",") > MOST
